"""The tokenizer's files of a pipeline, as transformers opens them: tokenizer.json, tokenizer_config.json,
special_tokens_map.json, and vocab.json and merges.txt for the versions before 5."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diptych.checkpoint.formats import tokenization
from diptych.checkpoint.formats.huggingface import padding_id
from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.settings import tokenizer_json_of
from diptych.checkpoint.weights.files import read_json
from diptych.errors import CheckpointError, TokenizerError
from diptych.nets.config import TextConfig
from diptych.text.cleaning import TextPreprocessing
from diptych.text.tokenizer import Tokenizer
from diptych.text.tokenizer_file import open_tokenizer

SPECIAL = "special_tokens_map.json"
SUFFIX = "</w>"  # of the pieces that end a word, in CLIP's tokenizer


class TokenizerFiles(NamedTuple):
    """The text of a tokenizer.json, the id that transformers pads with (None if the files do not say), and the text
    preprocessing."""

    tokenizer_json: str
    pad_id: int | None
    text_preprocessing: TextPreprocessing


def read_tokenizer_files(folder: Path, source: str) -> TokenizerFiles:
    """Read a pipeline's tokenizer. Raises CheckpointError if it has none, or one that cannot be reproduced."""
    text, _ = tokenizer_json_of(folder, source)
    if text is None:
        raise CheckpointError(
            f"{source} has no tokenizer.json, nor vocab.json and merges.txt; copy the tokenizer there."
        )
    settings = tokenization.settings_of(folder)
    if "added_tokens_decoder" not in settings and (folder / SPECIAL).is_file():
        settings |= read_json(folder / SPECIAL)  # as transformers does; Stable Diffusion 2 has its padding only there
    settings.setdefault("tokenizer_class", "CLIPTokenizer")
    preprocessing = tokenization.from_hugging_face(settings, text, source, reads_padding=False)
    return TokenizerFiles(text, padding_id(text, settings), preprocessing)


def tokenizer_files(
    tokenizer_json: str, config: TextConfig, preprocessing: TextPreprocessing, source: str
) -> dict[str, str]:
    """The files' texts, by name. Text is padded to `config.context` with `config.pad_id`. Raises CheckpointError for a
    tokenizer that does not belong to the tower, or that pads before the text."""
    start, end = _marks(tokenizer_json, config, preprocessing, source)
    content: dict[str, Any] = json.loads(tokenizer_json)
    tokens = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": _token(content, config.pad_id)}
    if tokens["pad_token"] is None:
        raise CheckpointError(f"{source}: no token of its tokenizer has the id {config.pad_id}, to pad texts with.")
    settings = {
        "tokenizer_class": "CLIPTokenizer" if _is_clip_style(content) else "PreTrainedTokenizerFast",
        "model_max_length": config.context,
        "padding_side": "right",
        **tokens,
        tokenization.OURS: {"cleaning": list(preprocessing.cleaning)},
    }
    files = {"tokenizer.json": tokenizer_json, tokenization.SETTINGS: json_text(settings), SPECIAL: json_text(tokens)}
    return files | (_older_files(content) if _is_clip_style(content) else {})


def class_of(files: Mapping[str, str]) -> str:
    """The class of transformers that opens the files of `tokenizer_files`."""
    return json.loads(files[tokenization.SETTINGS])["tokenizer_class"]


def is_tokenizer_folder(folder: Path) -> bool:
    """Whether a folder has a tokenizer's files."""
    return any((folder / name).is_file() for name in (tokenization.SETTINGS, "tokenizer.json", "vocab.json"))


def _marks(tokenizer_json: str, config: TextConfig, preprocessing: TextPreprocessing, source: str) -> tuple[str, str]:
    """The tokens before and after every text."""
    if preprocessing.pad_left:
        raise CheckpointError(f"{source}: its tokenizer pads before the text; a pipeline's pads after it.")
    try:
        ids = Tokenizer.of_tower(tokenizer_json, config, preprocessing)([""]).ids[0]
        tokenizer = open_tokenizer(tokenizer_json)
    except TokenizerError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if len(ids) != 2 or ids[1] != config.end_id or tokenizer.get_vocab_size() > config.vocab_size:
        raise CheckpointError(
            f"{source}: its tokenizer makes the ids {ids.tolist()} of an empty text and has "
            f"{tokenizer.get_vocab_size():,} tokens; its text tower pools at {config.end_id} and reads "
            f"{config.vocab_size:,}. Take both from the same model."
        )
    start, end = (str(tokenizer.id_to_token(int(index))) for index in ids)
    return start, end


def _token(content: dict[str, Any], index: int) -> str | None:
    """The token with an id, which may be an added one."""
    vocabulary = content["model"].get("vocab", {})
    words = (
        vocabulary.items() if isinstance(vocabulary, dict) else ((word, at) for at, (word, *_) in enumerate(vocabulary))
    )
    added = ((each["content"], each["id"]) for each in content.get("added_tokens", ()))
    return next((word for word, at in (*added, *words) if at == index), None)


def _is_clip_style(content: dict[str, Any]) -> bool:
    """Whether CLIPTokenizer, which takes only vocabulary and merges and builds the rest itself, gives the same ids."""
    kinds = [_kinds(content.get(part)) for part in ("normalizer", "pre_tokenizer")]
    model = content["model"]
    expected = [["NFC", "Replace", "Lowercase"], ["Split", "ByteLevel"]]
    return model.get("type") == "BPE" and model.get("end_of_word_suffix") == SUFFIX and kinds == expected


def _kinds(part: dict[str, Any] | None) -> list[str]:
    """The types in a sequence of normalizers or pre-tokenizers."""
    inner = (part or {}).get("normalizers") or (part or {}).get("pretokenizers") or []
    return [str(each.get("type")) for each in inner]


def _older_files(content: dict[str, Any]) -> dict[str, str]:
    """vocab.json and merges.txt, which CLIPTokenizer needs before transformers 5."""
    vocabulary = dict(content["model"]["vocab"])
    vocabulary |= {each["content"]: each["id"] for each in content.get("added_tokens", ())}
    merges = (each if isinstance(each, str) else " ".join(each) for each in content["model"]["merges"])
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(("#version: 0.2", *merges)) + "\n",
    }
