"""Any model opened with the engine that runs it; for the processor without PyTorch, wherever its files allow that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.checkpoint.arrays import read_arrays
from diptych.checkpoint.state import Checkpoint, CheckpointError, preprocessing_of
from diptych.engines import EngineName, choose_engine, is_installed
from diptych.engines.converted import is_converted, read_converted

if TYPE_CHECKING:
    from diptych.engines.openvino import OpenVINOEngine, Precision
    from diptych.engines.pytorch import PyTorchEngine


def opened(
    source: str | os.PathLike[str],
    *,
    engine: EngineName | None = None,
    device: str | None = None,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> tuple[Checkpoint, OpenVINOEngine | PyTorchEngine]:
    """A model and the engine that runs it, as `diptych.load` chooses it. Raises what that raises."""
    if choose_engine(engine, device) == "openvino":
        return open_on_processor(source, precision=precision, activation=activation, revision=revision)
    from diptych.checkpoint import build, read
    from diptych.engines.pytorch import PyTorchEngine, choose_device

    chosen = choose_device(device)  # before the weights are read: a wrong name should fail at once
    checkpoint = read(source, activation=activation, revision=revision)
    spec = preprocessing_of(checkpoint)
    return checkpoint, PyTorchEngine(build(checkpoint), spec, chosen, source=checkpoint.source)


def open_on_processor(
    source: str | os.PathLike[str],
    *,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> tuple[Checkpoint, OpenVINOEngine]:
    """A model and the engine that runs it: a folder that was converted, a folder or hub id with safetensors, and, where
    PyTorch is installed to read them, all else. Raises CheckpointError, as `diptych.checkpoint.read` does."""
    from diptych.engines.openvino import OpenVINOEngine

    if is_converted(Path(source)):
        checkpoint = read_converted(Path(source))
        return checkpoint, OpenVINOEngine.of_files(Path(source) / "openvino", precision=precision)
    if found := read_arrays(source, activation=activation, revision=revision):
        said, arrays = found
        checkpoint = Checkpoint(said.config, arrays, said.preprocess, said.tokenizer_json, str(source), said.reading)
    else:
        checkpoint = _by_pytorch(source, activation, revision)
    engine = OpenVINOEngine.of_arrays(
        checkpoint.config,
        checkpoint.state,
        preprocessing_of(checkpoint),
        precision=precision,
        source=checkpoint.source,
        files=getattr(checkpoint.state, "files", ()),
    )
    return checkpoint, engine


def _by_pytorch(source: str | os.PathLike[str], activation: str | None, revision: str | None) -> Checkpoint:
    if Path(source).exists() and not is_installed("pytorch"):
        raise CheckpointError(
            f"{source}: its weights are in a form that only PyTorch reads, which is not installed: pip install "
            f"'diptych[train]', or convert it where that is: diptych convert {source} TARGET"
        )
    from diptych.checkpoint.reading import read

    checkpoint = read(source, activation=activation, revision=revision)
    return checkpoint._replace(state={name: tensor.numpy() for name, tensor in checkpoint.state.items()})
