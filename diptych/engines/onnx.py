"""ONNX: writing both towers to files for any runtime, and running them with ONNX Runtime."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import ArgumentError
from diptych.media.preprocessing import Preprocess

OPSET = 18
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """ONNX Runtime, if imported inside, sends no telemetry in this process. By default it does from its import on, and
    writes a user id to a file in the cache."""
    before = os.environ.get(NO_TELEMETRY)
    os.environ[NO_TELEMETRY] = "1"
    try:
        yield
    finally:
        del os.environ[NO_TELEMETRY]
        if before is not None:
            os.environ[NO_TELEMETRY] = before


def _towers(network: Any, spec: Preprocess) -> dict[str, Any]:
    """Both towers as modules, from pixels and token ids to unit vectors."""
    import torch
    from torch import nn

    from diptych.nets.clip import unit

    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.mean: torch.Tensor
            self.std: torch.Tensor
            self.register_buffer("mean", 255 * torch.tensor(spec.mean))
            self.register_buffer("std", 255 * torch.tensor(spec.std))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            planes = ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)
            return unit(self.network.encode_image(planes))

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return unit(self.network.encode_text(ids))

    return {"pixels": Image().eval(), "ids": Text().eval()}


@_without_telemetry()  # the exporter may import it too
def write_onnx(network: Any, spec: Preprocess, folder: Path) -> None:
    """Write image.onnx, from `pixels`, uint8 (batch, size, size, 3), to `vectors` of unit length, and text.onnx, from
    `ids`, int64 (batch, tokens), to the same. Raises ValueError if PyTorch's exporter is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
    except ModuleNotFoundError as error:
        raise ArgumentError(f"ONNX files need {error.name}: pip install 'diptych[convert]'.") from error

    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=network.config.text.context)
    size = spec.size_px
    pixels, ids = torch.zeros(3, size, size, 3, dtype=torch.uint8), torch.zeros(3, 7, dtype=torch.long)
    ids[:, -1] = network.config.text.end_id
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    towers = _towers(network, spec)
    for name, example, dynamic in (("pixels", pixels, {0: batch}), ("ids", ids, {0: batch, 1: tokens})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                towers[name], (example,), folder / FILES[name], input_names=[name], output_names=["vectors"],
                dynamic_shapes=(dynamic,), opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip


FILES = {"pixels": "image.onnx", "ids": "text.onnx"}


def open_onnx(folder: Path) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Both towers of `write_onnx`, run by ONNX Runtime on the CPU."""
    with _without_telemetry():
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # on Windows the variable alone has no effect
        sessions = {
            name: onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
            for name, file in FILES.items()
        }

    def encode(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda batch: sessions[name].run(None, {name: batch})[0]  # type: ignore[return-value]

    return encode("pixels"), encode("ids")
