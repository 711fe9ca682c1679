"""A model converted for OpenVINO, as a folder: config.json, tokenizer.json and preprocessor_config.json as in any model
folder, and in openvino/ the towers (image.xml and text.xml with their .bin) beside facts.json, which has what else the
weights said. It runs without PyTorch; it cannot be trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.settings import Settings, read_settings, to_fields
from diptych.checkpoint.state import Checkpoint, listing
from diptych.checkpoint.weights.files import read_json
from diptych.errors import CheckpointError
from diptych.media.images import Preprocess
from diptych.nets.config import CLIPConfig

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
    _check_same(said, facts, folder)
    return Checkpoint(said.config, Numbers(facts), said.preprocess, said.tokenizer_json, str(folder), said.reading)


def what_was_converted(config: CLIPConfig, spec: Preprocess) -> dict[str, Any]:
    """What the towers have within them, in the words of the files beside, which say it too; for facts.json."""
    return {"config": to_fields(config), "preprocess": spec.to_hugging_face()}


def _check_same(said: Settings, facts: dict[str, Any], folder: Path) -> None:
    """CheckpointError where the files beside have been changed: the towers do what they did when they were made."""
    if "config" not in facts:  # converted by an earlier version
        return
    now: dict[str, Any] = json.loads(json_text(to_fields(said.config)))
    changed = [f"config.json: {key}" for key, value in now.items() if facts["config"].get(key) != value]
    now, then = said.preprocess or {}, facts.get("preprocess") or {}
    changed += [f"preprocessor_config.json: {key}" for key in {**now, **then} if now.get(key) != then.get(key)]
    if changed:
        raise CheckpointError(
            f"{folder} was converted with another {listing(changed, ', ')}; its towers do not follow what is changed "
            "there. Change the model that it was made from, and convert it again."
        )


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
