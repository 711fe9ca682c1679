"""The old location of `diptych.scenes.scene`, until version 0.3."""

from diptych.deprecation import warn_renamed
from diptych.scenes import scene


def __getattr__(name: str) -> object:
    value = getattr(scene, name)
    warn_renamed(f"diptych.data.scenes.{name}", f"diptych.scenes.scene.{name}")
    return value
