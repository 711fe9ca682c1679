"""Checkpoints of several processes: each writes its share of the tensors, in the background, while training goes on.

The files are safetensors, written by torch.distributed.checkpoint: nothing in them runs when they are read. Any number
of processes can read them. When all have written theirs, rank 0 puts a model folder beside them and renames the whole,
so that this checkpoint too is complete or absent, and usable as a model.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from diptych.errors import ArgumentError, CheckpointNotSavedError
from diptych.training.parallel.distributed import TIMEOUT, all_gather_object, broadcast_object, gloo_group
from diptych.training.run import checkpoints

WriteModel = Callable[[Path, dict[str, Tensor]], object]


class ShardedWriter:
    """Writes the checkpoints of a run in `out`, at most one at a time. Every process has one and calls it alike."""

    def __init__(self, out: Path):
        self._out = out
        # Its own: in the default group its messages would mix with those of the steps that go on meanwhile. A file
        # system may need longer than a step may.
        self._group = gloo_group(TIMEOUT)
        self._running: Future[Any] | None = None
        self._steps = 0

    def start(
        self, steps: int, tensors: Mapping[str, Tensor], rest: dict[str, Any], prefix: str, write_model: WriteModel
    ) -> None:
        """Copy `tensors` and return; they are written in the background. `rest` is the content of training.pt. Rank 0
        calls `write_model` with a folder and the whole tensors whose names begin with `prefix`, without it. Waits for
        the checkpoint before."""
        self.wait()
        staging = broadcast_object(checkpoints.staging(self._out) if dist.get_rank() == 0 else None)
        assert staging is not None
        self._steps = steps

        def commit() -> None:
            def fill(new: Path) -> None:
                write_model(new, whole_tensors(staging, prefix))
                os.rename(staging, new / checkpoints.SHARDS)

            checkpoints.save(self._out, steps, rest, fill, staging=staging)

        self._running = dcp.async_save(  # type: ignore[assignment]
            dict(tensors), storage_writer=_Writer(staging, commit), process_group=self._group
        )

    @property
    def is_running(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._running is not None and not self._running.done()

    def failure(self) -> str | None:
        """Why the last checkpoint could not be written; None if it was, or is being written."""
        if self._running is None or not self._running.done() or (error := self._running.exception()) is None:
            return None
        return _reason(error)

    def wait(self) -> Path | None:
        """Wait until the checkpoint is written, and return it; None if none was started. Raises CheckpointNotSavedError
        in every process if it failed in one."""
        if self._running is None:
            return None
        self._running.exception()
        failures = [each for each in all_gather_object(self.failure()) if each]
        self._running = None
        if failures:
            raise self.not_saved(failures[0])
        return checkpoints.path_of(self._out, self._steps)

    def not_saved(self, reason: str) -> CheckpointNotSavedError:
        """The error for a `failure`."""
        return checkpoints.not_saved(reason, self._out, self._steps)


class _Writer(HuggingFaceStorageWriter):
    """Calls `commit` in rank 0 once all processes have written their files; what it raises is raised in all."""

    def __init__(self, folder: Path, commit: Callable[[], None]):
        super().__init__(os.fspath(folder), save_distributed=True)
        self._commit = commit

    def finish(self, metadata: Any, results: Any) -> None:
        """Called in rank 0 alone."""
        super().finish(metadata, results)
        self._commit()


def _reason(error: BaseException) -> str:
    """What went wrong, in one line: torch's own error has every process's traceback."""
    failures = getattr(error, "failures", None)
    first = next(iter(failures.values()))[0] if failures else error
    return " ".join(str(first).split())


def whole_tensors(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """The whole tensors in a folder of shards whose names begin with `prefix`, without it; no other process is
    needed."""
    reader = HuggingFaceStorageReader(os.fspath(folder))
    found = _tensor_metadata(reader)
    wanted = {
        name: torch.empty(tuple(meta.size), dtype=meta.properties.dtype)
        for name, meta in found.items()
        if name.startswith(prefix)
    }
    _load(wanted, reader)
    return {name.removeprefix(prefix): tensor for name, tensor in wanted.items()}


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the whole tensors in a folder of shards."""
    metadata = _tensor_metadata(HuggingFaceStorageReader(os.fspath(folder)))
    return {name: tuple(meta.size) for name, meta in metadata.items()}


def _tensor_metadata(reader: HuggingFaceStorageReader) -> Mapping[str, Any]:
    return reader.read_metadata().state_dict_metadata


def load_into(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors`, whole or sharded over any number of processes, from a folder of shards; every process calls it.
    Raises ArgumentError if the files are damaged or other tensors are in them."""
    try:
        _load(dict(tensors), HuggingFaceStorageReader(os.fspath(folder)))
    except Exception as error:
        raise ArgumentError(
            f"{folder} cannot be read ({_reason(error)}). {checkpoints.remedy(folder.parent)}"
        ) from error


def _load(tensors: dict[str, Tensor], reader: HuggingFaceStorageReader) -> None:
    """Each process reads what it needs by itself, which torch would warn of."""
    warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
    dcp.load(tensors, storage_reader=reader, no_dist=True)
