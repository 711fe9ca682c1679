"""Reads and writes the settings of text preprocessing in the files beside a tokenizer.json.

transformers 5 chooses a class by tokenizer_config.json or the model's type, and open_clip 3 cleans texts before that.
Keys that would change ids and that are not supported here are errors.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tokenizers

from diptych.checkpoint.weights.files import read_json
from diptych.errors import CheckpointError, CleaningError, TokenizerFileError
from diptych.nets.config import TextConfig
from diptych.text.cleaning import OPENAI, PLAIN, SIMPLE, TextPreprocessing, checked
from diptych.text.tokenizer_file import open_tokenizer

SETTINGS = "tokenizer_config.json"
OURS = "diptych"  # the key of our own settings in it, which take precedence
GEMMA = ("GemmaTokenizer", "Siglip2Tokenizer")  # pad before the text by default
OWN_MARKS = ("CLIPTokenizer", "SiglipTokenizer", "T5Tokenizer")  # add start and end tokens, whatever the flags
CLEANING = ("SiglipTokenizer", "Siglip2Tokenizer")
# Allowed values of open_clip's tokenizer_kwargs: for its SimpleTokenizer, and for transformers' tokenizers.
SIMPLE_KWARGS = {"clean": ("lower", "whitespace", "canonicalize"), "reduction_mask": ("", None)}
HF_KWARGS = {"clean": SIMPLE_KWARGS["clean"], "strip_sep_token": (False, None), "language": (None,)}
PASSED_ON = {
    "padding_side",
    "truncation_side",
    "add_bos_token",
    "add_eos_token",
    "pad_token",
    "do_lower_case",
}


def settings_of(folder: Path) -> dict[str, Any]:
    """The folder's tokenizer_config.json; empty if it has none."""
    return read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}


def from_hugging_face(
    settings: dict[str, Any], tokenizer_json: str | None, source: str, *, reads_padding: bool,
    model_type: str | None = None,
) -> TextPreprocessing:  # fmt: skip
    """The preprocessing that transformers does for a tokenizer_config.json (`settings`). Only a tower that reads its
    padding can have it before the text. Raises CheckpointError for an unsupported key."""
    name = _class_of(settings, tokenizer_json, model_type)
    _check(settings, name, tokenizer_json, source)
    pad_left = _side(settings, name, tokenizer_json) == "left"
    if pad_left and not reads_padding:
        raise _refused("padding_side", "left", source, "only 'right' is, for a text tower that ignores padding")
    steps = (name,) if name in CLEANING else ()
    return TextPreprocessing(_own(settings, source, steps), pad_left)


def from_open_clip(
    text: dict[str, Any], settings: dict[str, Any], tokenizer_json: str | None, source: str
) -> TextPreprocessing:
    """The preprocessing that open_clip does for the text_cfg `text`: transformers' if that names a tokenizer, else that
    of its own copy of OpenAI's."""
    asked = dict(text.get("tokenizer_kwargs") or {})
    simple = not text.get("hf_tokenizer_name")
    known = SIMPLE_KWARGS if simple else HF_KWARGS
    for key, value in asked.items():
        if value not in known.get(key, ()) and (simple or key not in PASSED_ON):
            allowed = " and ".join(map(repr, known.get(key, ()))) or "nothing"
            raise _refused(f"text_cfg.tokenizer_kwargs.{key}", value, source, f"{allowed} is", "open_clip_config.json")
    if mode := text.get("tokenizer_mode"):
        raise _refused("text_cfg.tokenizer_mode", mode, source, "none is", "open_clip_config.json")
    clean = asked.pop("clean", "lower" if simple else "whitespace")
    if simple:
        return TextPreprocessing(_own(settings, source, (clean, SIMPLE)))
    reads_padding = bool(text.get("no_causal_mask", False))
    theirs = from_hugging_face({**settings, **asked}, tokenizer_json, source, reads_padding=reads_padding)
    return theirs._replace(cleaning=_own(settings, source, (clean, *theirs.cleaning)))


def from_file(folder: Path, source: str) -> TextPreprocessing:
    """The preprocessing for a single file of weights: OpenAI's, unless our own settings are beside it."""
    return TextPreprocessing(_own(settings_of(folder), source, OPENAI.cleaning))


def tokenizer_settings(
    text: TextConfig, tokenizer_json: str | None, text_preprocessing: TextPreprocessing, *, needed: bool = False
) -> str | None:
    """The tokenizer_config.json for the model's text preprocessing; None if tokenizer.json alone is enough, unless
    readers that do not infer the class from the model's type need it (`needed`). Under a causal mask padding has no
    effect, so it is the end token, which unlike 0 is not a word."""
    if not tokenizer_json or not (needed or text_preprocessing != PLAIN):
        return None
    gemma = "Siglip2Tokenizer" in text_preprocessing.cleaning
    name = "CLIPTokenizer" if text.causal and not needed else "PreTrainedTokenizerFast"
    settings: dict[str, Any] = {"tokenizer_class": "Siglip2Tokenizer" if gemma else name}
    settings["model_max_length"] = text.context
    if needed or not text.causal:
        token = _opened(tokenizer_json).id_to_token(text.end_id if text.causal else text.pad_id)
        settings |= {} if token is None else {"pad_token": token}
    if text_preprocessing.pad_left or gemma:
        settings["padding_side"] = "left" if text_preprocessing.pad_left else "right"
    return json.dumps(settings | {OURS: {"cleaning": list(text_preprocessing.cleaning)}}, indent=2) + "\n"


def for_open_clip(text_preprocessing: TextPreprocessing) -> dict[str, Any]:
    """open_clip's nearest equivalent, as tokenizer_kwargs."""
    clean = next((step for step in text_preprocessing.cleaning if step in SIMPLE_KWARGS["clean"]), None)
    clean = clean or ("canonicalize" if "SiglipTokenizer" in text_preprocessing.cleaning else None)
    return {"tokenizer_kwargs": {"clean": clean}} if clean else {}


def _own(settings: dict[str, Any], source: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The cleaning steps in our own settings, else `otherwise`."""
    try:
        return checked(settings[OURS]["cleaning"]) if OURS in settings else otherwise
    except (CleaningError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source}: {SETTINGS}: {OURS}: {error}") from error


def _class_of(settings: dict[str, Any], tokenizer_json: str | None, model_type: str | None) -> str:
    """The class that transformers uses for the folder. SigLIP's, its default for that type, reads only unigram
    models."""
    if name := settings.get("tokenizer_class"):
        return str(name).removesuffix("Fast")
    is_unigram = re.search(r'"type":\s*"Unigram"', tokenizer_json or "")
    return "SiglipTokenizer" if model_type == "siglip" and is_unigram else ""


def _side(settings: dict[str, Any], name: str, tokenizer_json: str | None) -> str:
    stored = part(tokenizer_json, "padding").get("direction")
    return str(settings.get("padding_side") or stored or ("left" if name in GEMMA else "right")).lower()


def _check(settings: dict[str, Any], name: str, tokenizer_json: str | None, source: str) -> None:
    if settings.get("auto_map"):
        raise _refused("auto_map", settings["auto_map"], source, "a model's own code is never run")
    if name in CLEANING and not settings.get("do_lower_case", True):
        raise _refused("do_lower_case", settings["do_lower_case"], source, f"only True is, for {name}")
    if str(settings.get("truncation_side") or "right").lower() != "right":
        raise _refused("truncation_side", settings["truncation_side"], source, "only 'right' is")
    if name not in OWN_MARKS and tokenizer_json is not None and {"add_bos_token", "add_eos_token"} & settings.keys():
        _check_marks(settings, name, tokenizer_json, source)


def _check_marks(settings: dict[str, Any], name: str, tokenizer_json: str, source: str) -> None:
    """If a flag is set, transformers adds start and end by the flags, so tokenizer.json must agree with them."""
    defaults = {"bos_token": "<bos>", "eos_token": "<eos>"} if name in GEMMA else {}
    marks = _marks(part(tokenizer_json, "post_processor"))
    for key, token, found in zip(("add_bos_token", "add_eos_token"), ("bos_token", "eos_token"), marks, strict=True):
        mark = settings.get(token, defaults.get(token))
        mark = mark.get("content") if isinstance(mark, dict) else mark
        if mark is not None and bool(settings.get(key)) != (found == mark):
            does = f"adds {found!r} there" if found else "adds nothing there"
            raise _refused(key, settings.get(key), source, f"its tokenizer.json {does}")


def _marks(post: dict[str, Any]) -> tuple[str | None, str | None]:
    """The tokens that a post_processor adds before a text and after it."""
    if post.get("type") == "Sequence":
        found = [_marks(each) for each in post.get("processors", ())]
        return tuple(next((pair[at] for pair in found if pair[at]), None) for at in (0, 1))  # type: ignore[return-value]
    if "cls" in post:  # BERT's and RoBERTa's
        return post["cls"][0], post["sep"][0]
    parts = [part.get("SpecialToken", {}).get("id") for part in post.get("single", ())]
    return (parts[0], parts[-1]) if parts else (None, None)


def _refused(key: str, value: object, source: str, only: str, file: str = SETTINGS) -> CheckpointError:
    return CheckpointError(f"{source}: {file}: {key}={value!r} is not supported; {only}.")


def part(tokenizer_json: str | None, key: str) -> dict[str, Any]:
    """An object in a tokenizer.json, without parsing the rest, which may be tens of megabytes; empty if absent."""
    if not (found := re.search(rf'"{key}":\s*(?=[{{n])', tokenizer_json or "")):
        return {}
    try:
        part, _ = json.JSONDecoder().raw_decode(tokenizer_json or "", found.end())
    except (ValueError, RecursionError):  # not a tokenizer.json: embedding a text reports it
        return {}
    return part or {}


def _opened(tokenizer_json: str) -> tokenizers.Tokenizer:
    try:
        return open_tokenizer(tokenizer_json)
    except TokenizerFileError as error:
        raise CheckpointError(f"tokenizer_json: {error}") from error
