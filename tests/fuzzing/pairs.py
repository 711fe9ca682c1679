"""What shards and tables are made of, the model that sees them, and the commands that read them."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from diptych import embedder
from diptych.checkpoint import save_folder
from diptych.data import inspection
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.scenes.scene import Scenes
from diptych.text.tokenizer import Tokenizer

TRAINING = (
    "--model", "vit-tiny", "--image-size", "16", "--epochs", "1", "--batch-size", "2", "--vocab-size", "520",
    "--device", "cpu", "--precision", "fp32",
)  # fmt: skip


def picture(seed: int) -> bytes:
    """A small picture, another for each seed."""
    file = io.BytesIO()
    Image.new("RGB", (8 + seed, 9), (40 * seed % 256, 90, 255 - 30 * seed % 256)).save(file, "PNG")
    return file.getvalue()


def open_one_model(place: Path) -> None:
    """Whatever model is asked for, it is one of a few thousand numbers, opened once; and nobody measures how fast it
    trains."""
    torch.set_num_threads(1)
    captions = [caption for scene in Scenes(9) for caption in scene.captions]
    tokenizer = Tokenizer.train(captions, vocab_size=520, context=24)
    words = TextConfig(24, tokenizer.vocab_size, 16, 1, 1, 32, pool="end", end_id=tokenizer.end_id)
    network = CLIP(CLIPConfig(8, ViTConfig(16, 8, 16, 1, 1, 32), words))
    folder = save_folder(
        place, network, tokenizer_json=tokenizer.to_json(), preprocess=Preprocess(16).to_hugging_face()
    )
    model = embedder.load(folder, engine="pytorch")

    def load(source: Any = None, **options: Any) -> Any:
        return model

    embedder.load = load
    inspection.loader_rate.__kwdefaults__["seconds"] = 0.0


def command(source: Path, out: Path, choice: Random) -> list[str]:
    """One that reads pairs."""
    way = choice.random()
    if way < 0.03:
        return ["train", "--data", str(source), "--out", str(out), *TRAINING]
    if way < 0.2:
        return ["embed", str(source), str(out), "--shard-size", "3"]
    if way < 0.3:
        return ["evaluate", "bundled", "--suite", str(_suite(source, out)), "--out", str(out)]
    return ["data", "inspect", str(source), "--rate", "100", *(["--json"] if choice.random() < 0.4 else [])]


def _suite(source: Path, out: Path) -> Path:
    """A suite of one set, beside it."""
    path = out.with_name("suite.toml")
    path.write_text(f'[[dataset]]\nname = "a"\nsource = "{source}"\ntasks = ["retrieval"]\n')
    return path
