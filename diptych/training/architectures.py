"""The architectures that can be trained or read, with their sizes."""

from typing import NamedTuple

from diptych.checkpoint.pretrained.names import pretrained_model
from diptych.errors import ArgumentError, Setting
from diptych.nets.config import CLIPConfig
from diptych.nets.presets import PRESETS, preset
from diptych.nets.shapes import parameter_count


class Architecture(NamedTuple):
    """Its number of parameters, the side of its square pictures in pixels, and the dimensions of a vector."""

    parameters: int
    image_size_px: int
    dimensions: int


def architectures() -> dict[str, Architecture]:
    """The size of each architecture by name."""
    return {
        name: Architecture(parameter_count(config), config.image.image_size, config.embed_dim)
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
