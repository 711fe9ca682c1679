"""Compares the size of weights with that of their file, which may refer to the same bytes many times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHARED = 2  # allowed ratio of the tensors' size to the stored size: some models tie two tensors
_SMALL = 2**20  # bytes


def check_members(archive: ZipFile, path: Path) -> None:
    """Raise CheckpointError if an archive's entries are larger than it: they overlap, or state wrong sizes."""
    entries = archive.infolist()
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if packed > path.stat().st_size or claimed > packed + _SMALL * 64:  # only code is compressed
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, and its entries claim {claimed:,}: it is damaged. Fetch it "
            "again."
        )


def check_shared(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError if tensors are far larger than their storages, each counted once: copies of them would take
    many times the file's size."""
    plain = [tensor for tensor in tensors.values() if str(tensor.layout) == "torch.strided" and not tensor.is_meta]
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in plain}
    asked, held = sum(tensor.numel() * tensor.element_size() for tensor in plain), sum(stored.values())
    if asked > MAX_SHARED * held + _SMALL:
        raise CheckpointError(
            f"{path}: its tensors have {asked:,} bytes, and {held:,} are stored: they share the same numbers many "
            "times. Save each tensor separately."
        )
