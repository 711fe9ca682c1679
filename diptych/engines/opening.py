"""Opens any model with an engine; on CPUs without PyTorch, if the model's files allow it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diptych.checkpoint.arrays import read_arrays
from diptych.checkpoint.finding import ModelLocation, find
from diptych.checkpoint.state import Checkpoint, preprocessing_of, with_note
from diptych.engines import EngineName, is_installed
from diptych.engines.converted import is_converted, read_converted
from diptych.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from diptych.engines.openvino import OpenVINOEngine, Precision
    from diptych.engines.pytorch import PyTorchEngine


def open_engine(
    source: str | os.PathLike[str] | None,
    *,
    engine: EngineName,
    device: str | None = None,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> tuple[Checkpoint, OpenVINOEngine | PyTorchEngine]:
    """A model and its engine; `engine` is the one that `diptych.load` chose. Raises the errors of `diptych.load`."""
    if engine == "openvino":
        return open_on_cpu(source, precision=precision, activation=activation, revision=revision)
    from diptych.checkpoint.reading import read_location
    from diptych.checkpoint.state import build
    from diptych.engines.pytorch import PyTorchEngine, choose_device

    chosen = choose_device(device)  # first, so that an unknown name fails at once
    checkpoint = read_location(find(source, revision=revision), activation=activation)
    spec = preprocessing_of(checkpoint)
    return checkpoint, PyTorchEngine(build(checkpoint), spec, chosen, source=checkpoint.source)


def pytorch_engine(checkpoint: Checkpoint, device: str) -> PyTorchEngine:
    """The engine of a checkpoint with tensors, on `device`, or on the best one if this machine lacks it."""
    from diptych.checkpoint import build
    from diptych.engines.pytorch import PyTorchEngine, choose_device

    try:
        chosen = choose_device(device)
    except ArgumentError:
        chosen = choose_device()
    return PyTorchEngine(build(checkpoint), preprocessing_of(checkpoint), chosen, source=checkpoint.source)


def open_on_cpu(
    source: str | os.PathLike[str] | None,
    *,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> tuple[Checkpoint, OpenVINOEngine]:
    """A model and its OpenVINO engine: from a converted folder, a folder or hub id with safetensors, and, if PyTorch is
    installed, any other form. Raises CheckpointError, as `diptych.checkpoint.read` does."""
    from diptych.engines.openvino import OpenVINOEngine

    where = find(source, revision=revision)
    if is_converted(where.path):
        checkpoint = with_note(read_converted(where.path), where.note)
        return checkpoint, OpenVINOEngine.of_files(where.path / "openvino", precision=precision)
    if found := read_arrays(where, activation=activation):
        read, arrays = found
        rest = (
            read.preprocess,
            read.tokenizer_json,
            where.source,
            read.text_preprocessing,
            read.notes,
            read.ignored_keys,
            read.search_files,
        )
        checkpoint = with_note(Checkpoint(read.config, arrays, *rest), where.note)
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


def _by_pytorch(where: ModelLocation, activation: str | None) -> Checkpoint:
    if not is_installed("pytorch"):
        raise CheckpointError(
            f"{where.source}: only PyTorch reads weights in this form, and it is not installed: pip install "
            f"'diptych[train]', or convert the model on a machine with it: diptych convert {where.source} TARGET"
        )
    from diptych.checkpoint.reading import read_location

    checkpoint = read_location(where, activation=activation)
    return checkpoint._replace(state={name: tensor.numpy() for name, tensor in checkpoint.state.items()})
