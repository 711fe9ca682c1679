"""The PyTorch engine: choosing a device, and running batches through the towers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from diptych.checkpoint.weights.finite import check_finite, check_vectors
from diptych.deprecation import RenamedAttribute
from diptych.engines import device_name
from diptych.errors import ArgumentError
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.folding import folded, has_batch_norm
from diptych.scoring.zero_shot import PatchEmbeddings

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

DEVICES = ("cuda", "mps", "cpu")


def choose_device(name: str | None = None) -> torch.device:
    """The device called `name`; by default the best of this machine: an NVIDIA GPU, an Apple GPU, or the CPU. "gpu" is
    the first GPU.

    Raises ArgumentError if `name` is unknown or this machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = device_name(name)
    if name is None:
        name = next(device for device in DEVICES if available[device])
    if name == "gpu":
        name = "mps" if available["mps"] else "cuda"
    kind = name.partition(":")[0]
    if kind not in available:
        raise ArgumentError(f"device {name!r} is not known; choose one of {', '.join(DEVICES)}.")
    if not available[kind]:
        existing = ", ".join(device for device in DEVICES if available[device])
        raise ArgumentError(f"device {name!r} was requested and PyTorch finds none; this machine has {existing}.")
    try:
        device = torch.device(name)
    except RuntimeError as error:  # "cpu:first"
        raise ArgumentError(f"device {name!r} is not known; choose one of {', '.join(DEVICES)}, or cuda:1.") from error
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ArgumentError(f"device {name!r} was requested and PyTorch finds {count}: cuda:0 to cuda:{count - 1}.")
    return device


def describe_device(device: torch.device) -> str:
    """The device, as text."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "mps (Apple GPU)"
    return f"cpu ({torch.get_num_threads()} threads)"


class PyTorchEngine:
    """Runs both towers of a network on one device, without gradients: arrays in, unit vectors out.

    With `source`, the model's name, a tower's weights are checked at its first use: CheckpointError if they are not
    finite; and an image tower's batch norm is folded into its convolutions, again after its weights have changed.
    Training passes none, because it checks by itself and changes weights with every step."""

    name = "pytorch"
    numpy_calls = 0  # has no effect: PyTorch is imported in any case

    def __init__(self, network: CLIP, spec: Preprocess, device: torch.device, *, source: str | None = None):
        self.device = device
        self.source, self.kept_towers = source, set[str]()  # which it does not compile
        self._unchecked = {"image", "text"} if source else set()
        self.network = network.eval().to(device)
        self._folded: tuple[tuple[int, ...], CLIP] | None = None
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (spec.mean, spec.std))

    def describe(self) -> str:
        """Engine and device, as text."""
        return f"PyTorch on {describe_device(self.device)}"

    label = describe

    @torch.inference_mode()
    def encode_images(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch dim"]:
        """Unit vectors of pictures of the tower's size; pixels are normalised here, as in `images.normalise`."""
        self._check_weights("image")
        return self._unit(self._inference_network().encode_image(self._planes(pixels)))

    @torch.inference_mode()
    def encode_patches(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> PatchEmbeddings:
        """The unit vectors of `encode_images` and those of the patches, row by row, in one pass."""
        self._check_weights("image")
        images, patches = self._inference_network().encode_patches(self._planes(pixels))
        return PatchEmbeddings(self._unit(images), self._unit(patches))

    encode_places = RenamedAttribute("encode_places", "encode_patches")

    def _inference_network(self) -> CLIP:
        """The network for pictures, its batch norms folded if there are any."""
        if self.source is None or not has_batch_norm(self.network.image):
            return self.network
        state = self.network.image.state_dict(keep_vars=True)
        versions = tuple(each for tensor in state.values() for each in _version(tensor))
        if self._folded is None or self._folded[0] != versions:
            with torch.inference_mode(False), torch.no_grad():
                self._folded = versions, folded(self.network)
        return self._folded[1]

    def _planes(self, pixels: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(np.require(pixels, requirements="W")).to(self.device).permute(0, 3, 1, 2).float()
        return planes.contiguous().div_(255).sub_(self._mean).div_(self._std)

    @torch.inference_mode()
    def encode_texts(self, ids: Int[np.ndarray, "batch tokens"]) -> Float[np.ndarray, "batch dim"]:
        self._check_weights("text")
        return self._unit(self.network.encode_text(torch.from_numpy(ids).to(self.device)))

    def _check_weights(self, tower: str) -> None:
        if tower in self._unchecked:
            state = self.network.get_submodule(tower).state_dict()
            check_finite({f"{tower}.{name}": tensor for name, tensor in state.items()}, str(self.source))
            self._unchecked.discard(tower)

    def _unit(self, features: torch.Tensor) -> np.ndarray:
        vectors = F.normalize(features.float(), dim=-1).cpu().numpy()
        return check_vectors(vectors, self.source) if self.source else vectors


def _version(tensor: torch.Tensor) -> tuple[int, int]:
    """Numbers that differ when a tensor is another one, or has been written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
