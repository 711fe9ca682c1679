"""Encoding of pictures and texts in batches, with the error of each unreadable picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from diptych.errors import ImageError
from diptych.failures import EmbeddingResult, Failure, Key, several
from diptych.media.images import Decode, Source
from diptych.media.preprocessing import Preprocess, load_pixels

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from diptych.text.tokenizer import Tokenizer, Tokens

BATCH = 32
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of texts in a batch
Encode: TypeAlias = Callable[[np.ndarray], np.ndarray]  # from uint8 pixels (n, size, size, 3) to a row for each picture
Progress: TypeAlias = Callable[[int, int], None]  # called with (done, total)


def encoded_images(
    sources: Iterable[Source], spec: Preprocess, decode: Decode, encode: Encode
) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    """The row of each picture with its position, or its error."""
    loaded = load_pixels(sources, spec, decode=decode)
    while batch := list(islice(loaded, BATCH)):
        good = [pixels for _, pixels in batch if not isinstance(pixels, ImageError)]
        rows = iter(encode(np.stack(good)) if good else ())
        for index, pixels in batch:
            yield index, pixels if isinstance(pixels, ImageError) else next(rows)


def stream(
    items: Iterable[Key | tuple[Key, Source]], spec: Preprocess, decode: Decode, encode: Encode
) -> Iterator[tuple[Key, np.ndarray | Failure]]:
    """`encoded_images` of (key, picture) pairs, or of pictures that are their own keys, with keys and failures."""
    keys = dict[int, Key]()

    def sources() -> Iterator[Source]:
        for index, item in enumerate(several(items, "items")):
            keys[index], source = item if isinstance(item, tuple) else (item, item)  # type: ignore[assignment]
            yield source  # type: ignore[misc]

    for index, result in encoded_images(sources(), spec, decode, encode):
        is_bad = isinstance(result, ImageError)
        yield keys.pop(index), Failure(result.reason, str(result)) if is_bad else result


def stacked(results: Iterable[tuple[int, np.ndarray | ImageError]], width: int) -> np.ndarray:
    """The rows of `encoded_images` as an array (n, width). Raises the first error."""
    rows = list[np.ndarray]()
    for _, result in results:
        if isinstance(result, ImageError):
            raise result
        rows.append(result)
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def encoded_pixels(pixels: np.ndarray, encode: Encode, dim: int) -> Float[np.ndarray, "pictures dim"]:
    """The vectors of pictures that have the tower's size, (n, size, size, 3)."""
    batches = [encode(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return np.concatenate(batches) if batches else np.empty((0, dim), np.float32)


def gathered(
    results: Iterable[tuple[Key, np.ndarray | Failure]], total: int, width: int, progress: Progress | None
) -> EmbeddingResult[Key]:
    """The rows of a stream as an array (n, width), and its failures."""
    keys, rows, failures = list[Key](), list[np.ndarray](), dict[Key, Failure]()
    for done, (key, result) in enumerate(results, start=1):
        if isinstance(result, Failure):
            failures[key] = result
        else:
            keys.append(key)
            rows.append(result)
        if progress:
            progress(done, total)
    return EmbeddingResult(keys, np.stack(rows) if rows else np.empty((0, width), np.float32), failures)


def encoded_texts(tokens: Tokens, encode: Encode, dim: int, reader: Tokenizer) -> Float[np.ndarray, "texts dim"]:
    """The vectors of texts, in batches of similar length: the longest text of a batch determines its time."""
    vectors = np.empty((len(tokens.ids), dim), np.float32)
    lengths = tokens.mask.sum(axis=1)
    order = lengths.argsort(kind="stable")
    for part in (order[at : at + BATCH] for at in range(0, len(order), BATCH)):
        if reader.fill_context:
            vectors[part] = encode(tokens.ids[part])
        else:
            ids = of_few_shapes(tokens.ids[part, : lengths[part[-1]]], reader.pad_id, reader.context)
            vectors[part] = encode(ids)[: len(part)]
    return vectors


def of_few_shapes(
    ids: Int[np.ndarray, "texts tokens"], pad_id: int, context: int
) -> Int[np.ndarray, "more_texts more_tokens"]:
    """The texts padded to one of few lengths, and by repeating the first to one of few numbers of texts. Engines
    compile and keep code for each shape of a batch: a server that is asked for all shapes would need ever more
    memory."""
    texts, tokens = ids.shape
    width = min(context, tokens + -tokens % (2 if tokens <= 16 else 4 if tokens <= 32 else 8))
    rows = next((each for each in COUNTS if each >= texts), texts)
    padded = np.full((rows, width), pad_id, ids.dtype)
    padded[:texts, :tokens], padded[texts:, :tokens] = ids, ids[:1]
    return padded
