"""Model folders: configurations, weights' files and tokenizers, in our own form, Hugging Face's and open_clip's."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from diptych.checkpoint import save_folder
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.scenes.scene import Scenes
from diptych.text.tokenizer import Tokenizer

from .case import Case, write_precious
from .files import file_changed, files_below
from .running import ran
from .values import as_text, damaged, json_with_changes, number, text

DTYPES = ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "X", 7)
Change = Callable[[Path, Path, Random], str]


class ModelFolders:
    """Models of a few thousand numbers, in every form of folder."""

    def __init__(self, home: Path):
        self._home = home
        torch.set_num_threads(1)
        self._forms = _made(home / "forms")
        self._picture = home / "pictures" / "picture.png"
        self._picture.parent.mkdir()
        Image.new("RGB", (12, 10), (90, 30, 200)).save(self._picture)

    def case(self, folder: Path, choice: Random) -> Case:
        """One to four changes."""
        model, out, precious = folder / "model", folder / "out", write_precious(self._home)
        form = choice.choice(self._forms)
        shutil.copytree(form, model) if form.is_dir() else shutil.copy(form, model := folder / form.name)
        changes = [
            choice.choice(CHANGES)(model, precious, choice) if model.is_dir() else _bytes(model, precious, choice)
            for _ in range(choice.choice((1, 1, 2, 4)))
        ]
        return Case([form.name, *changes], [self._command(model, out, choice)], [out])

    def _command(self, model: Path, out: Path, choice: Random) -> list[str]:
        engine = ["--engine", choice.choice(("pytorch", "pytorch", "pytorch", "openvino"))]
        labels = ["--labels", "a dog,a cat", "--template", "{}"]
        lines = [
            ["classify", str(self._picture), *labels, "--model", str(model), *engine],
            ["classify", str(self._picture), *labels, "--model", str(model), *engine, "--json"],
            ["convert", str(model), str(out), "--to", choice.choice(("hf", "open_clip", "openai"))],
            ["doctor", "--model", str(model), *engine],
            ["embed", str(self._picture.parent), str(out), "--model", str(model), *engine],
        ]
        return choice.choice(lines if model.is_dir() else lines[2:])  # a file has no tokenizer


def _made(place: Path) -> list[Path]:
    """Sound models: a folder of transformers' CLIP, of ours, of ours in 8 bits, of open_clip's, and OpenAI's file."""
    place.mkdir()
    tokenizer = Tokenizer.train(
        [caption for scene in Scenes(9) for caption in scene.captions], vocab_size=520, context=24
    )
    words = TextConfig(24, tokenizer.vocab_size, 16, 1, 1, 32, pool="end", end_id=tokenizer.end_id)
    quick = {"activation": "quick_gelu"}  # and heads of 64: OpenAI's rule
    forms = {
        "huggingface": CLIPConfig(8, ViTConfig(16, 8, 16, 1, 1, 32), words),
        "ours": CLIPConfig(8, ViTConfig(16, 8, 16, 1, 1, 32, pool="mean"), words),
        "openais": CLIPConfig(
            8, ViTConfig(16, 8, 64, 1, 1, 256, **quick),
            TextConfig(24, tokenizer.vocab_size, 64, 1, 1, 256, end_id=tokenizer.end_id, **quick),
        ),
    }  # fmt: skip
    torch.manual_seed(0)
    for name, config in forms.items():
        save_folder(
            place / name, CLIP(config), tokenizer_json=tokenizer.to_json(), preprocess=Preprocess(16).to_hugging_face()
        )
    said = ran(["convert", str(place / "openais"), str(place / "eight_bits"), "--storage", "int8"])
    assert said.code == 0, said
    for name, (source, form) in {"open_clip": ("huggingface", "open_clip"), "openai.pt": ("openais", "openai")}.items():
        said = ran(["convert", str(place / source), str(place / name), "--to", form])
        assert said.code == 0, said
    return sorted(path for path in place.iterdir())


# --- what is changed


def _file(model: Path, precious: Path, choice: Random) -> str:
    """Any of the files."""
    files = files_below(model)
    return file_changed(choice.choice(files), precious, choice) if files else "nothing is left"


def _bytes(path: Path, precious: Path, choice: Random) -> str:
    """Other bytes in a file of weights."""
    content = damaged(path.read_bytes(), choice)
    path.write_bytes(content)
    return f"{path.name} has other bytes, {len(content)} of them"


def _json(model: Path, precious: Path, choice: Random) -> str:
    """What a file of JSON says."""
    files = [path for path in files_below(model) if path.suffix == ".json" and path.is_file()]
    files = [path for path in files if path.name != "tokenizer.json"]  # whose changes are of their own
    if not files:
        return "no JSON is left"
    path = choice.choice(files)
    try:
        said, told = json_with_changes(json.loads(path.read_bytes()), choice)
    except (ValueError, RecursionError):
        return f"{path.name} was damaged before"
    path.unlink()  # which may be a link by now
    path.write_text(json.dumps(said))
    return f"{path.name}: {', '.join(told)}"


def _raw_json(model: Path, precious: Path, choice: Random) -> str:
    """A file of JSON is another text: deep, huge, none."""
    files = [path for path in files_below(model) if path.suffix == ".json"]
    if not files:
        return "no JSON is left"
    path, said = choice.choice(files), as_text(choice)
    path.unlink()
    path.write_bytes(said)
    return f"{path.name} is {said[:40]!r}"


def _size(model: Path, precious: Path, choice: Random) -> str:
    """A number of config.json is far more, or less, than the weights have."""
    files = [path for path in sorted(model.glob("*config.json")) if path.is_file() and not path.is_symlink()]
    if not files:
        return "no configuration is left"
    path = choice.choice(files)
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return f"{path.name} was damaged before"
    places = [(owner, key) for owner, key in _numbers(said)]
    if not places:
        return f"{path.name} has no numbers"
    owner, key = choice.choice(places)
    owner[key] = choice.choice((owner[key] * 10**6, owner[key] * 1000, 10**9, 2**40, 0, -1, number(choice)))
    path.write_text(json.dumps(said))
    return f"{path.name}: {key} is {str(owner[key])[:40]}"


def _numbers(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (owner, key) of a number inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        if isinstance(each, int | float) and not isinstance(each, bool):
            yield value, key
        yield from _numbers(each)


def _header(model: Path, precious: Path, choice: Random) -> str:
    """The header of a .safetensors file lies: shapes, types, where tensors begin and end, its own length."""
    files = [path for path in sorted(model.glob("*.safetensors")) if path.is_file() and not path.is_symlink()]
    if not files:
        return "no weights are left"
    path = choice.choice(files)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        told = _lie(header, choice)
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError):
        return f"{path.name} was damaged before"
    written = json.dumps(header).encode()
    claimed = (
        len(written) if choice.random() < 0.8 else choice.choice((0, 7, 2**31, 2**63, 2**64 - 1, len(written) * 2))
    )
    path.write_bytes(struct.pack("<Q", claimed) + written + content[8 + length :])
    return f"{path.name}: {told}, a header of {claimed}"


def _lie(header: dict, choice: Random) -> str:
    """One thing in a header is another."""
    names = sorted(set(header) - {"__metadata__"})
    name, way = choice.choice(names), choice.randrange(8)
    tensor = header[name]
    if way == 0:
        header[text(choice)] = header.pop(name)
    elif way == 1:
        del header[name]
    elif way == 2:
        tensor["dtype"] = choice.choice(DTYPES)
    elif way == 3:
        tensor["shape"] = choice.choice(
            ([], [0], [-1], [10**12, 10**12], [2**63], tensor["shape"][::-1], tensor["shape"] * 2, 7)
        )
    elif way == 4:
        tensor["data_offsets"] = choice.choice(([0, 2**62], [8, 0], [-8, 8], [0, 0], "0"))
    elif way == 5:
        other = header[choice.choice(names)]
        tensor["data_offsets"] = other["data_offsets"]
    elif way == 6:
        header["__metadata__"] = choice.choice(({}, {"format": text(choice)}, {"format": 7}, text(choice), None))
    else:
        header |= {f"more.{at}": dict(tensor) for at in range(choice.choice((1, 1000)))}
    return f"{name}, way {way}"


def _tokenizer(model: Path, precious: Path, choice: Random) -> str:
    """Rules and sizes of a tokenizer."""
    path = model / "tokenizer.json"
    if path.is_symlink() or not path.is_file():
        return "no tokenizer is left"
    try:
        said = json.loads(path.read_bytes())
        part = choice.choice(("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens", "decoder"))
        if part == "model" and choice.random() < 0.7:  # all but its long lists
            short = {key: value for key, value in said[part].items() if key not in ("vocab", "merges")}
            short, told = json_with_changes(short, choice)
            said[part] = said[part] | short
        else:
            said[part], told = json_with_changes(said.get(part), choice)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return "tokenizer.json was damaged before"
    path.write_text(json.dumps(said))
    return f"tokenizer.json's {part}: {', '.join(told)}"


CHANGES: tuple[Change, ...] = (
    *[_json] * 4, *[_size] * 4, *[_header] * 4, *[_tokenizer] * 3, *[_file] * 3, _raw_json,
)  # fmt: skip
