"""Any model opened with the engine that runs it; for the processor without PyTorch, wherever its files allow that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diptych.checkpoint.arrays import read_arrays
from diptych.checkpoint.finding import Found, find
from diptych.checkpoint.state import Checkpoint, preprocessing_of, with_note
from diptych.engines import EngineName, is_installed
from diptych.engines.converted import is_converted, read_converted
from diptych.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from diptych.engines.openvino import OpenVINOEngine, Precision
    from diptych.engines.pytorch import PyTorchEngine


def opened(
    source: str | os.PathLike[str] | None,
    *,
    engine: EngineName,
    device: str | None = None,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> tuple[Checkpoint, OpenVINOEngine | PyTorchEngine]:
    """A model and the engine that runs it, which `diptych.load` has chosen. Raises what that raises."""
    if engine == "openvino":
        return open_on_processor(source, precision=precision, activation=activation, revision=revision)
    from diptych.checkpoint.reading import read_found
    from diptych.checkpoint.state import build
    from diptych.engines.pytorch import PyTorchEngine, choose_device

    chosen = choose_device(device)  # before the weights are read: a wrong name should fail at once
    checkpoint = read_found(find(source, revision=revision), activation=activation)
    spec = preprocessing_of(checkpoint)
    return checkpoint, PyTorchEngine(build(checkpoint), spec, chosen, source=checkpoint.source)


def run_by_pytorch(checkpoint: Checkpoint, device: str) -> PyTorchEngine:
    """The engine of a checkpoint that holds tensors, on its device, or on the best one here where that is not."""
    from diptych.checkpoint import build
    from diptych.engines.pytorch import PyTorchEngine, choose_device

    try:
        chosen = choose_device(device)
    except ArgumentError:
        chosen = choose_device()
    return PyTorchEngine(build(checkpoint), preprocessing_of(checkpoint), chosen, source=checkpoint.source)


def open_on_processor(
    source: str | os.PathLike[str] | None,
    *,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> tuple[Checkpoint, OpenVINOEngine]:
    """A model and the engine that runs it: a folder that was converted, a folder or hub id with safetensors, and, where
    PyTorch is installed to read them, all else. Raises CheckpointError, as `diptych.checkpoint.read` does."""
    from diptych.engines.openvino import OpenVINOEngine

    where = find(source, revision=revision)
    if is_converted(where.place):
        checkpoint = with_note(read_converted(where.place), where.note)
        return checkpoint, OpenVINOEngine.of_files(where.place / "openvino", precision=precision)
    if found := read_arrays(where, activation=activation):
        said, arrays = found
        words = (said.preprocess, said.tokenizer_json, where.source, said.reading, said.notes, said.passed_over)
        checkpoint = with_note(Checkpoint(said.config, arrays, *words), where.note)
    else:
        checkpoint = _by_pytorch(where, activation)
    engine = OpenVINOEngine.of_arrays(
        checkpoint.config,
        checkpoint.state,
        preprocessing_of(checkpoint),
        precision=precision,
        source=checkpoint.source,
        files=getattr(checkpoint.state, "files", ()),
    )
    return checkpoint, engine


def _by_pytorch(where: Found, activation: str | None) -> Checkpoint:
    if not is_installed("pytorch"):
        raise CheckpointError(
            f"{where.source}: its weights are in a form that only PyTorch reads, which is not installed: pip install "
            f"'diptych[train]', or convert it where that is: diptych convert {where.source} TARGET"
        )
    from diptych.checkpoint.reading import read_found

    checkpoint = read_found(where, activation=activation)
    return checkpoint._replace(state={name: tensor.numpy() for name, tensor in checkpoint.state.items()})
