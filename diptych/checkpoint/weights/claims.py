"""What weights ask for against what their file holds: a file may name the same bytes many times over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHARED = 2  # times that tensors may together ask for what is stored: some models tie two
_SMALL = 2**20  # bytes


def check_members(archive: ZipFile, path: Path) -> None:
    """CheckpointError where an archive's entries together are longer than it is: they lie upon each other, or lie."""
    entries = archive.infolist()
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if packed > path.stat().st_size or claimed > packed + _SMALL * 64:  # code alone is compressed
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, and its entries claim {claimed:,}: it is damaged. Fetch it "
            "again."
        )


def check_shared(tensors: Mapping[str, Tensor], path: Path) -> None:
    """CheckpointError where tensors ask for far more than is stored, each storage counted once: they would be copied
    apart, or filled up, to many times the file's size."""
    plain = [tensor for tensor in tensors.values() if str(tensor.layout) == "torch.strided" and not tensor.is_meta]
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in plain}
    asked, held = sum(tensor.numel() * tensor.element_size() for tensor in plain), sum(stored.values())
    if asked > MAX_SHARED * held + _SMALL:
        raise CheckpointError(
            f"{path}: its tensors ask for {asked:,} bytes, and {held:,} are stored: they are the same numbers many "
            "times over. Save each tensor's own numbers."
        )
