"""Smaller vocabularies of WordPiece tokenizers. WordPiece splits a word from left to right into the longest pieces that
the vocabulary has, so a word whose pieces are all kept is split as before."""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import ArgumentError, TokenizerError, TokenizerFileError
from diptych.text.tokenizer_file import open_tokenizer
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Int

ROUNDS = 4  # of leaving out tokens, and counting the parts of the words that they were
LETTERS = string.ascii_letters + string.digits  # kept in any case, at the start of a word and inside
_Rows = list[list[int]]  # each text's ids


class SmallerVocabulary(NamedTuple):
    """The text of the new tokenizer.json, and the former id of each of its tokens: `rows[ids]` are the rows of the new
    embedding."""

    tokenizer_json: str
    ids: Int[np.ndarray, " tokens"]


def smaller_vocabulary(tokenizer_json: str, counts: Mapping[str, float], size: int) -> SmallerVocabulary:
    """A WordPiece tokenizer of at most `size` tokens: the special ones, every single character that the texts need, and
    the pieces that they use most. `counts` has texts or words, each with its number of occurrences or another weight.

    No text gets an unknown word that it did not have. Tokens keep their order, so the first is still the first. Raises
    TokenizerError for another kind of tokenizer, ArgumentError if `size` is too small for the texts.
    """
    content = _wordpiece(tokenizer_json)
    texts, weights = list(counts), list(counts.values())
    rows = _encoded(content, texts)
    uses = _uses(rows, weights)
    forced = _always(content) | _characters(content, uses)
    available = set(content["model"]["vocab"].values())
    for _ in range(ROUNDS):
        # Tokens that no text uses yet stay for now, since they may be parts of the words that are left out.
        available -= uses.keys() - _chosen(forced, uses, size)
        uses = _uses(_encoded(content, texts, available), weights)
    while True:
        kept = _chosen(forced, uses, size)
        lost = _lost(rows, _encoded(content, texts, kept), content["model"]["vocab"][content["model"]["unk_token"]])
        if not lost:
            smaller = json.dumps(_reduced(content, sorted(kept)), ensure_ascii=False, separators=(",", ":"))
            return SmallerVocabulary(smaller, np.array(sorted(kept)))
        forced |= lost


def _wordpiece(tokenizer_json: str) -> dict[str, Any]:
    """The parsed tokenizer.json. Raises TokenizerError if it is not a WordPiece one that `tokenizers` opens."""
    try:
        open_tokenizer(tokenizer_json)
    except TokenizerFileError as error:
        raise TokenizerError(str(error)) from error
    content = parse_json(tokenizer_json)
    if (kind := content["model"].get("type")) != "WordPiece":
        raise TokenizerError(
            f"its tokenizer.json is of the kind {kind!r}; only WordPiece vocabularies are made smaller."
        )
    added = [each["content"] for each in content.get("added_tokens") or ()]
    if outside := [name for name in added if name not in content["model"]["vocab"]]:
        raise TokenizerError(
            f"{len(outside)} of its added tokens, as {outside[0]!r:.80}, are not in its vocabulary. Add them to the "
            "vocabulary, or remove them."
        )
    return content


def _encoded(content: dict[str, Any], texts: Sequence[str], kept: Set[int] | None = None) -> _Rows:
    """Each text's ids, without marks around it, when only the tokens with the ids in `kept` are there."""
    former = sorted(content["model"]["vocab"].values() if kept is None else kept)
    tokenizer = open_tokenizer(json.dumps(_reduced(content, former)), is_ours=True)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [[former[index] for index in row.ids] for row in encoded]


def _uses(rows: _Rows, weights: Iterable[float]) -> Counter[int]:
    """How often each id occurs, by the texts' weights."""
    found: Counter[int] = Counter()
    for row, weight in zip(rows, weights, strict=True):
        for index in row:
            found[index] += weight  # type: ignore[assignment]
    return found


def _always(content: dict[str, Any]) -> set[int]:
    """The ids of special tokens, and of letters, digits and punctuation."""
    vocabulary, prefix = content["model"]["vocab"], _prefix(content)
    added = {each["content"] for each in content.get("added_tokens") or ()}
    names = {content["model"]["unk_token"], *added, *LETTERS, *(prefix + each for each in LETTERS), *string.punctuation}
    return {vocabulary[name] for name in names if name in vocabulary}


def _characters(content: dict[str, Any], used: Iterable[int]) -> set[int]:
    """The ids of the single characters, at the start of a word and inside, of the pieces in `used`."""
    vocabulary, prefix = content["model"]["vocab"], _prefix(content)
    pieces = {index: piece for piece, index in vocabulary.items()}
    names = set[str]()
    for piece in (pieces[index] for index in used):
        inside = piece.removeprefix(prefix)
        names |= {prefix + letter for letter in (inside if inside != piece else piece[1:])} | {piece[:1]}
    return {vocabulary[name] for name in names if name in vocabulary}


def _prefix(content: dict[str, Any]) -> str:
    return str(content["model"].get("continuing_subword_prefix", "##"))


def _chosen(forced: Set[int], uses: Mapping[int, float], size: int) -> set[int]:
    """The ids to keep: `forced`, and of the others those that are used most."""
    if len(forced) > size:
        raise ArgumentError(f"size is {size:,}; these texts need {len(forced):,} tokens or more.", argument="size")
    others = sorted(uses.keys() - forced, key=lambda index: (-uses[index], index))
    return {*forced, *others[: size - len(forced)]}


def _lost(rows: _Rows, now: _Rows, unknown: int) -> set[int]:
    """The former ids of all texts that have more unknown words than before."""
    return {
        index for row, new in zip(rows, now, strict=True) if new.count(unknown) > row.count(unknown) for index in row
    }


def _reduced(content: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The tokenizer with only the tokens of these ids, renumbered in order."""
    new = {former: index for index, former in enumerate(kept)}
    vocabulary = {piece: new[index] for piece, index in content["model"]["vocab"].items() if index in new}
    vocabulary = dict(sorted(vocabulary.items(), key=lambda each: each[1]))
    padding = content.get("padding")
    return content | {
        "model": content["model"] | {"vocab": vocabulary},
        "added_tokens": [each | {"id": new[each["id"]]} for each in content.get("added_tokens") or ()],
        "post_processor": _renumbered(content.get("post_processor"), vocabulary),
        "padding": padding and padding | {"pad_id": vocabulary[padding["pad_token"]]},
    }


def _renumbered(processor: Any, vocabulary: Mapping[str, int]) -> Any:
    """A post_processor with the new ids of the tokens that it adds: a template's, BERT's, or a sequence of them."""
    if not isinstance(processor, dict):
        return processor
    if "processors" in processor:
        return processor | {"processors": [_renumbered(each, vocabulary) for each in processor["processors"]]}
    marks = {key: [processor[key][0], vocabulary[processor[key][0]]] for key in ("sep", "cls") if key in processor}
    special = {
        name: each | {"ids": [vocabulary[token] for token in each["tokens"]]}
        for name, each in (processor.get("special_tokens") or {}).items()
    }
    return processor | marks | ({"special_tokens": special} if special else {})
