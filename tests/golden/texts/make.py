"""What the peers' own tokenizers make of odd strings: run it where open_clip, transformers, sentencepiece and ftfy are.

    python tests/golden/texts/make.py          (writes the folders and expected.json beside this file)
    python tests/golden/texts/make.py --check  (says whether they still give the same, and writes nothing)

The vocabularies are small and learnt here, from drawn captions and the strings themselves, so that they may be shipped.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import shutil
import string
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import ftfy
import open_clip
import sentencepiece
import transformers
from open_clip import tokenizer as peer
from strings import MARKED, STRINGS
from transformers import AutoTokenizer, GemmaTokenizer, T5Tokenizer

from diptych.text.tokenizer import Tokenizer

HERE = Path(__file__).parent
CONTEXT = {"clip": 77, "t5": 64, "gemma": 64}
COLOURS = ["red", "green", "blue", "yellow", "orange", "purple", "black", "white", "grey", "brown"]
SHAPES = ["star", "circle", "square", "heart", "fish", "house", "tree", "cup", "dog", "cat"]
PLACES = ("above a", "below a", "to the left of a", "on a", "beside a")
CAPTIONS = [
    f"{size} {colour} {shape} {place} {other} {shape}"
    for colour, shape, place, other, size in product(COLOURS, SHAPES, PLACES, COLOURS[:4], ("a small", "A big"))
]
LETTERS = [letter for letter in string.printable if letter.isprintable()]
Ids = Callable[[str], list[int]]


def captions() -> list[str]:
    """What the vocabularies are learnt from."""
    short = [text.replace("\0", " ") for text in STRINGS if len(text) < 100]
    return [*CAPTIONS, *(each for text in short for each in (text, text.lower())), *LETTERS]


def write_clip(folder: Path) -> None:
    made = Tokenizer.train(captions(), vocab_size=1400)
    (folder / "tokenizer.json").write_text(made.to_json(), encoding="utf-8")
    _settings(folder, tokenizer_class="CLIPTokenizer", model_max_length=77)


def write_t5(folder: Path) -> None:
    """SigLIP's: a unigram model, of which both libraries make a T5 tokenizer that pads with its end."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions()), model_writer=model, vocab_size=600, hard_vocab_limit=False,
        model_type="unigram",        character_coverage=0.98, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
        normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    _settings(folder, tokenizer_class="T5Tokenizer", extra_ids=0, pad_token="</s>", model_max_length=64)
    T5Tokenizer.from_pretrained(folder).save_pretrained(folder)


def write_gemma(folder: Path) -> None:
    """SigLIP 2's: byte pairs with a fallback to bytes, spaces kept as a letter."""
    from tokenizers import Tokenizer as Learner
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    learner = Learner(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    learner.normalizer = normalizers.Replace(" ", "▁")  # type: ignore[assignment]
    learner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")  # type: ignore[assignment]
    special = [*marks, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=special, show_progress=False, min_frequency=3)
    learner.train_from_iterator(captions(), trainer)
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    made = GemmaTokenizer(vocab=model["vocab"], merges=merges, padding_side="right")
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    made.save_pretrained(folder)


def _settings(folder: Path, **said: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=1), encoding="utf-8")


def simple_tokenizer(folder: Path, **options: Any) -> peer.SimpleTokenizer:
    """open_clip's own class over our merges."""
    merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    lines = "\n".join(["#version", *(" ".join(pair) for pair in merges)])
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        file.write(gzip.compress(lines.encode()))
        file.flush()
        return peer.SimpleTokenizer(file.name, **options)


def opened(folder: Path, name: str, model_type: str | None) -> Any:
    """transformers' AutoTokenizer, told a class's name as a folder on the hub tells it."""
    with tempfile.TemporaryDirectory() as place:
        for path in folder.iterdir():
            shutil.copy(path, place)
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        _settings(Path(place), **settings | {"tokenizer_class": name})
        if model_type:
            (Path(place) / "config.json").write_text(json.dumps({"model_type": model_type}))
        return AutoTokenizer.from_pretrained(place)


def hf_tokenizer(folder: Path, context: int, **options: Any) -> peer.HFTokenizer:
    """open_clip's, over a folder that holds no config.json, as timm's on the hub do not."""
    return peer.HFTokenizer(str(folder), context_length=context, **options)


def expected(root: Path) -> dict[str, Any]:
    """The padded ids of every string for each source, and the strings as open_clip cleans them."""
    clip, t5, gemma = root / "clip", root / "t5", root / "gemma"
    cleaned = {name: [peer.get_clean_fn(name)(text) for text in STRINGS] for name in CLEANED}
    sources: dict[str, Any] = {
        "clip/open_clip": simple_tokenizer(clip),
        "clip/open_clip/canonicalize": simple_tokenizer(clip, clean="canonicalize"),
        "clip/transformers/CLIPTokenizer": _padded(opened(clip, "CLIPTokenizer", "clip"), 77),
        "t5/open_clip/canonicalize": hf_tokenizer(t5, 64, clean="canonicalize"),
        "t5/open_clip/whitespace": hf_tokenizer(t5, 64),
        "t5/open_clip/lower": hf_tokenizer(t5, 64, clean="lower"),
        "t5/transformers/SiglipTokenizer": _padded(opened(t5, "SiglipTokenizer", "siglip"), 64),
        "t5/transformers/T5Tokenizer": _padded(opened(t5, "T5Tokenizer", "siglip"), 64),
        "gemma/open_clip/canonicalize": hf_tokenizer(gemma, 64, clean="canonicalize"),
        "gemma/open_clip/whitespace": hf_tokenizer(gemma, 64),
        "gemma/transformers/GemmaTokenizer": _padded(opened(gemma, "GemmaTokenizer", "siglip"), 64),
        "gemma/transformers/Siglip2Tokenizer": _padded(opened(gemma, "Siglip2Tokenizer", "siglip"), 64),
    }
    ids = {name: [_ids(source, text) for text in STRINGS] for name, source in sources.items()}
    versions = {module.__name__: module.__version__ for module in (open_clip, transformers, sentencepiece, ftfy)}
    return {"versions": versions, "strings": STRINGS, "marked": MARKED, "cleaned": cleaned, "ids": ids}


CLEANED = ("lower", "whitespace", "canonicalize")


def _padded(tokenizer: Any, context: int) -> Callable[[list[str]], Any]:
    return lambda texts: (
        tokenizer(texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt").input_ids
    )


def _ids(tokenize: Callable[[list[str]], Any], text: str) -> list[int]:
    """Without the padding, but for one of it, which tells what it is."""
    row = tokenize([text])[0].tolist()
    while len(row) > 1 and row[-1] == row[-2]:
        row.pop()
    return row


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    with tempfile.TemporaryDirectory() as place:
        files = made(Path(place))
    if arguments.parse_args().check:
        changed = [name for name, text in files.items() if (HERE / name).read_text(encoding="utf-8") != text]
        print(f"other than here: {', '.join(changed)}" if changed else "all the same")
        raise SystemExit(1 if changed else 0)
    for name, text in files.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(text, encoding="utf-8")


def made(root: Path) -> dict[str, str]:
    """The files' contents by their names."""
    for name, write in (("clip", write_clip), ("t5", write_t5), ("gemma", write_gemma)):
        (root / name).mkdir()
        write(root / name)
    (root / "expected.json").write_text(json.dumps(expected(root)) + "\n", encoding="utf-8")
    kept = ["expected.json", *(f"{name}/{file}" for name in ("clip", "t5", "gemma") for file in KEPT)]
    return {name: (root / name).read_text(encoding="utf-8") for name in kept}


KEPT = ("tokenizer.json", "tokenizer_config.json")

if __name__ == "__main__":
    main()
