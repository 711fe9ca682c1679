"""The architectures that can be trained or read, with their sizes."""

from typing import NamedTuple

from diptych.checkpoint.pretrained.names import pretrained_model
from diptych.errors import ArgumentError, Setting
from diptych.extras import require
from diptych.nets.config import CLIPConfig
from diptych.nets.presets import PRESETS, preset


class Architecture(NamedTuple):
    """Its number of parameters, the side of its square pictures in pixels, and the dimensions of a vector."""

    parameters: int
    image_size_px: int
    dimensions: int


def architectures() -> dict[str, Architecture]:
    """The size of each architecture by name. Needs PyTorch; raises MissingExtraError without."""
    require("counting the parameters of architectures", "torch")
    from diptych.nets.clip import meta_model

    return {
        name: Architecture(
            sum(each.numel() for each in meta_model(config).parameters()), config.image.image_size, config.embed_dim
        )
        for name, config in PRESETS.items()
    }


def architecture(name: str) -> CLIPConfig:
    """The configuration of an architecture. Raises ArgumentError with the nearest names."""
    if pretrained := pretrained_model(name):
        raise ArgumentError(
            f"{name} is a pretrained model, of the architecture {pretrained.architecture}.",
            remedy=["Start from it with ", Setting("init", name), ", or train that architecture from random weights."],
            argument="model",
        )
    return preset(name)
