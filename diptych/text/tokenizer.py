"""Turns texts into token ids with Hugging Face `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from diptych.deprecation import RenamedAttribute
from diptych.errors import MessageParts, Setting, TokenizerError, TokenizerFileError
from diptych.text.cleaning import PLAIN, SIMPLE, TextPreprocessing, cleaned
from diptych.text.tokenizer_file import check_vocabulary, is_panic, open_tokenizer
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from diptych.nets.config import TextConfig

MAX_TEXT = 2**15  # characters read of a text, over ten times as many as any tower takes
START, END = "<|startoftext|>", "<|endoftext|>"
# OpenAI's split: contractions, runs of letters, single digits, runs of anything else (their simple_tokenizer.py).
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


_Row = list[int] | TokenizerError  # a text's ids


class Tokens(NamedTuple):
    """`mask` is true for text, start and end tokens included, and false for padding. `truncated` counts the texts that
    were truncated."""

    ids: Int[np.ndarray, "texts tokens"]
    mask: Bool[np.ndarray, "texts tokens"]
    truncated: int = 0
    cut = RenamedAttribute("cut", "truncated")  # type: ignore[misc]


class Tokenizer:
    """A model's own `tokenizer.json`, with the model's context and padding, and the cleaning of the model's source.

    Text that looks like a special token stays text: a caption cannot be ended by typing "<|endoftext|>".
    """

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, *, context: int = 77, pad_id: int = 0, fill_context: bool = False,
        text_preprocessing: TextPreprocessing = PLAIN,
    ):  # fmt: skip
        """`fill_context` always pads to the whole context, for towers whose output depends on padding: bidirectional
        ones (SigLIP's), and those that pool the last position."""
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self.context, self.pad_id, self.fill_context, self.text_preprocessing = (
            context,
            pad_id,
            fill_context,
            text_preprocessing,
        )
        self._parts = tokenizer.normalizer, tokenizer.pre_tokenizer
        if SIMPLE in text_preprocessing.cleaning and getattr(tokenizer.model, "end_of_word_suffix", None):
            tokenizer.normalizer, tokenizer.pre_tokenizer = None, _words()  # type: ignore[assignment]

    @classmethod
    def from_json(
        cls, text: str, *, context: int = 77, pad_id: int = 0, fill_context: bool = False,
        text_preprocessing: TextPreprocessing = PLAIN, is_ours: bool = False,
    ) -> "Tokenizer":  # fmt: skip
        """Open the text of a `tokenizer.json` with `open_tokenizer`. Raises TokenizerError if it is invalid or exceeds
        a limit."""
        try:
            tokenizer = open_tokenizer(text, is_ours=is_ours)
        except TokenizerFileError as error:
            raise TokenizerError(str(error)) from error
        return cls(
            tokenizer, context=context, pad_id=pad_id, fill_context=fill_context, text_preprocessing=text_preprocessing
        )

    @classmethod
    def of_tower(
        cls, text: str, config: "TextConfig", text_preprocessing: TextPreprocessing = PLAIN, *, is_ours: bool = False
    ) -> "Tokenizer":
        """Open the text of a `tokenizer.json` with the context and padding of the text tower in `config`, and the text
        preprocessing of the model's source."""
        return cls.from_json(
            text, context=config.context, pad_id=config.pad_id, fill_context=config.reads_padding,
            text_preprocessing=text_preprocessing, is_ours=is_ours,
        )  # fmt: skip

    @classmethod
    def open(cls, path: str | Path, *, context: int = 77, pad_id: int = 0, fill_context: bool = False) -> "Tokenizer":
        """Open a `tokenizer.json` file; see `from_json`."""
        text = Path(path).read_text(encoding="utf-8")
        return cls.from_json(text, context=context, pad_id=pad_id, fill_context=fill_context)

    def to_json(self) -> str:
        """The `tokenizer.json` text, without its padding and truncation, which callers decide."""
        content = json.loads(self._tokenizer.to_str())
        for key, part in zip(("normalizer", "pre_tokenizer"), self._parts, strict=True):
            content[key] = None if part is None else json.loads(part.__getstate__())
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def end_id(self) -> int | None:
        return self._tokenizer.token_to_id(END)

    def __call__(self, texts: Sequence[str], *, truncate: bool = False, fill_context: bool = False) -> Tokens:
        """Ids padded to the longest text of the batch, with `fill_context` (of the call or the tokenizer) to the
        context.

        Raises TokenizerError on a text longer than the context. With `truncate`, the text is instead shortened, its end
        token kept, and counted in `.truncated`.
        """
        if isinstance(texts, str):
            raise TypeError("texts is a single string; pass a list of strings.")
        rows = self._rows(texts)
        if not truncate and (bad := self._too_long(texts, rows)):
            raise TokenizerError(next(iter(bad.values())))
        cut = sum(self._is_long(text, row) for text, row in zip(texts, rows, strict=True))
        sound = [row for row in rows if isinstance(row, list)]
        if len(sound) < len(rows):
            raise next(row for row in rows if isinstance(row, TokenizerError))
        kept = [row if len(row) <= self.context else [*row[: self.context - 1], row[-1]] for row in sound]
        return self.padded(kept, cut, fill_context=fill_context)

    def too_long(self, texts: Sequence[str]) -> dict[int, MessageParts]:
        """The error of each text that is longer than the context or that the library cannot encode, by its index in
        `texts`."""
        return self._too_long(texts, self._rows(texts))

    def _too_long(self, texts: Sequence[str], rows: Sequence[_Row]) -> dict[int, MessageParts]:
        return {
            at: [
                f"{_length(text, row)} in text {at} ({text[:40]!r}...); this model reads {self.context}. Pass ",
                Setting("truncate", True),
                " to cut.",
            ]
            if isinstance(row, list)
            else str(row)
            for at, (text, row) in enumerate(zip(texts, rows, strict=True))
            if self._is_long(text, row)
        }

    def _is_long(self, text: str, row: _Row) -> bool:
        return isinstance(row, TokenizerError) or len(row) > self.context or len(text) > MAX_TEXT

    def _rows(self, texts: Sequence[str]) -> list[_Row]:
        """Each text's ids; those of its first MAX_TEXT characters if it is longer. An error for a text on which the
        library fails, for example because of a pattern."""
        return self._encoded([cleaned(text[:MAX_TEXT], self.text_preprocessing.cleaning) for text in texts])

    def _encoded(self, texts: list[str]) -> list[_Row]:
        try:
            return [row.ids for row in self._tokenizer.encode_batch_fast(texts)]
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            if len(texts) > 1:
                return [row for text in texts for row in self._encoded([text])]
            return [TokenizerError(f"this model's tokenizer cannot read the text {texts[0][:40]!r} ({error}).")]

    def padded(
        self, rows: Sequence[Sequence[int] | Int[np.ndarray, "tokens"]], truncated: int = 0, *,
        fill_context: bool = False,
    ) -> Tokens:  # fmt: skip
        """The ids of texts, padded."""
        width = self.context if fill_context or self.fill_context else max((len(row) for row in rows), default=0)
        ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=bool)
        for i, row in enumerate(rows):
            at = slice(width - len(row), width) if self.text_preprocessing.pad_left else slice(len(row))
            ids[i, at], mask[i, at] = row, True
        return Tokens(ids, mask, truncated)

    def normalised(self, text: str) -> str:
        """The normalised text; for CLIP in lower case, with single spaces."""
        text, normalizer = cleaned(text[:MAX_TEXT], self.text_preprocessing.cleaning), self._tokenizer.normalizer
        return normalizer.normalize_str(text) if normalizer else text

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without start, end and padding."""
        row = [int(i) for i in ids]
        # Padding follows the end token, and its id may be a character's: OpenAI's 0 is "!".
        row = row[: row.index(self.end_id)] if self.end_id in row else [i for i in row if i != self.pad_id]
        return self._tokenizer.decode(row, skip_special_tokens=True).strip()

    @classmethod
    def train(cls, captions: Iterable[str], *, vocab_size: int = 4096, context: int = 77) -> "Tokenizer":
        """Learn a CLIP-style lower-cased byte-level BPE (Sennrich et al. 2016; Radford et al. 2019, section 2.2).

        Every byte is in the vocabulary, so any text can be encoded. The end token has the highest id, as OpenAI's
        pooling by argmax requires.
        """
        if vocab_size < 514:
            raise TokenizerError(f"vocab_size {vocab_size} is too small; 512 byte tokens and 2 special ones need 514.")
        learner = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
        _clip_style(learner)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            min_frequency=2,
            end_of_word_suffix="</w>",
            initial_alphabet=alphabet,
            # Ids break ties between merges. Without this, characters that end words would get ids in the order of a
            # hash map, which differs between processes (huggingface/tokenizers issue 1794).
            special_tokens=[letter + "</w>" for letter in alphabet],
            show_progress=False,
        )
        learner.train_from_iterator(captions, trainer)
        return cls(_with_all_bytes(learner, vocab_size), context=context)


# Where to find a model's tokenizer.json, by (vocabulary size, causal)
PUBLISHED = {
    (49408, True): "openai/clip-vit-base-patch32 has OpenAI's, which most CLIP models were trained with",
    (32000, False): "google/siglip-base-patch16-224 has SigLIP's",
    (250000, False): "google/siglip-base-patch16-256-multilingual has that of the multilingual SigLIP",
    (256000, False): "google/siglip2-base-patch16-224 has SigLIP 2's",
}


def missing(text: TextConfig, source: str) -> TokenizerError:
    """The error for a model without its tokenizer."""
    known = PUBLISHED.get((text.vocab_size, text.causal))
    return TokenizerError(
        f"{source} has no tokenizer.json, so it can read pictures but not text.",
        remedy=f"Put {'beside it' if Path(source).is_file() else 'there'} the tokenizer.json that it was trained with"
        f"{'; ' + known if known else ''}.",
    )


def check_ids(ids: np.ndarray, text: TextConfig, source: str) -> None:
    """Raises TokenizerError if the ids show that the tokenizer belongs to another model: its vectors would be
    meaningless."""
    mismatch = None
    if ids.size and ids.max() >= text.vocab_size:
        mismatch = f"gives ids up to {ids.max()}, but its text tower has {text.vocab_size}"
    elif text.pool == "end" and not (ids == text.end_id).any(axis=1).all():
        mismatch = f"ends no text with the id {text.end_id}, at which its text tower pools"
    if mismatch:
        raise TokenizerError(f"{source}: its tokenizer.json {mismatch}. Take both from the same model.")


def _clip_style(tokenizer: tokenizers.Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = _words()  # type: ignore[assignment]


def _words() -> pre_tokenizers.Sequence:
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _with_all_bytes(learner: tokenizers.Tokenizer, vocab_size: int) -> tokenizers.Tokenizer:
    """The learned merges over the full alphabet: each byte both inside a word and at its end."""
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    known = set(words)
    kept = []
    for left, right in merges:
        if len(words) >= vocab_size - 2 and left + right not in known:
            break
        kept.append((left, right))
        if left + right not in known:
            known.add(left + right)
            words.append(left + right)
    words += [START, END]
    return _of_vocabulary({word: index for index, word in enumerate(words)}, kept)


def json_of_vocabulary(vocab_json: str, merges: str) -> str:
    """The tokenizer.json of CLIP's tokenizer, from the vocab.json and merges.txt of older folders. Raises
    TokenizerError if they are invalid."""
    try:
        vocabulary = {str(word): int(index) for word, index in parse_json(vocab_json).items()}
        lines = merges.removeprefix("\ufeff").split("\n")
        check_vocabulary(len(vocabulary), len(lines))
        lines = lines[1:] if lines[0].startswith("#version") else lines
        pairs = [(left, right) for left, right in (line.split() for line in lines if line.strip())]
        return _of_vocabulary(vocabulary, pairs).to_str()
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"vocab.json and merges.txt are not those of a CLIP tokenizer ({error!r}).") from error


def _length(text: str, row: list[int]) -> str:
    return f"{len(text):,} characters" if len(text) > MAX_TEXT else f"{len(row)} tokens"


def _of_vocabulary(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    _clip_style(tokenizer)
    tokenizer.add_special_tokens([START, END])
    tokenizer.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("</w>", "Ġ"), decoders.ByteLevel()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{START} $A {END}",
        special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])],
    )
    return tokenizer
