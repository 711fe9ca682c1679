"""A model converted for OpenVINO, as a folder: config.json, tokenizer.json and preprocessor_config.json as in any model
folder, and in openvino/ the towers (image.xml and text.xml with their .bin) beside facts.json, which has what else the
weights said. It runs without PyTorch; it cannot be trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych.checkpoint.files import read_json
from diptych.checkpoint.settings import read_settings
from diptych.checkpoint.state import Checkpoint, CheckpointError

PARTS = ("image.xml", "image.bin", "text.xml", "text.bin", "facts.json")


def is_converted(folder: Path) -> bool:
    """Whether the folder holds a model in this form and in no other."""
    return (folder / "openvino" / "facts.json").is_file() and not any(folder.glob("*.safetensors*"))


def read_converted(folder: Path) -> Checkpoint:
    """All but the towers. CheckpointError where a part is missing."""
    if missing := [name for name in PARTS if not (folder / "openvino" / name).is_file()]:
        raise CheckpointError(f"{folder}/openvino lacks {', '.join(missing)}; convert the model again.")
    said = read_settings(folder, str(folder))
    facts = read_json(folder / "openvino" / "facts.json")
    return Checkpoint(said.config, Numbers(facts), said.preprocess, said.tokenizer_json, str(folder), said.reading)


class Numbers(Mapping[str, np.ndarray]):
    """What is left of the weights: the scale and bias of the scores, and whose they were."""

    def __init__(self, facts: dict[str, Any]):
        self.facts = facts
        self._numbers = {
            name: np.float32(facts[name]) for name in ("logit_scale", "logit_bias") if facts.get(name) is not None
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._numbers[name]  # type: ignore[return-value]

    def __iter__(self):
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
