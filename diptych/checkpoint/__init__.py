"""Models on disk and on the hub: read from any format, written to any other.

Modules are imported on first use, so that a folder's settings can be read without PyTorch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.checkpoint.arrays import read_arrays as read_arrays
    from diptych.checkpoint.conversion import convert as convert
    from diptych.checkpoint.folder import save_folder as save_folder
    from diptych.checkpoint.hub import fetch as fetch
    from diptych.checkpoint.reading import read as read
    from diptych.checkpoint.replacement import check_replaceable as check_replaceable
    from diptych.checkpoint.state import Checkpoint as Checkpoint
    from diptych.checkpoint.state import build as build
    from diptych.checkpoint.state import preprocessing_of as preprocessing_of

_HOMES = {
    "Checkpoint": "state",
    "build": "state",
    "check_replaceable": "replacement",
    "convert": "conversion",
    "fetch": "hub",
    "preprocessing_of": "state",
    "read": "reading",
    "read_arrays": "arrays",
    "save_folder": "folder",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"diptych.checkpoint has no {name!r}.")
    import importlib

    return getattr(importlib.import_module(f"diptych.checkpoint.{_HOMES[name]}"), name)
