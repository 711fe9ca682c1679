"""Models on disk and on the hub: read from any format, written to any other."""

from diptych.checkpoint.conversion import convert
from diptych.checkpoint.folder import check_replaceable, save_folder
from diptych.checkpoint.hub import HubError, fetch
from diptych.checkpoint.reading import read
from diptych.checkpoint.state import Checkpoint, CheckpointError, build, preprocessing_of

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "HubError",
    "build",
    "check_replaceable",
    "convert",
    "fetch",
    "preprocessing_of",
    "read",
    "save_folder",
]
