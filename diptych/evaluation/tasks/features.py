"""The image vectors of a data set, cached in a folder for each model, data set and way of decoding.

Each chunk of pictures is one file that is written atomically, so interrupted work continues with the next chunk. A
damaged chunk is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from diptych.data.loading.decoding import failure_of
from diptych.embedder import Embedder
from diptych.errors import DataError, ImageError
from diptych.evaluation.sets.dataset import PictureSequence
from diptych.failures import Failure
from diptych.media.images import Decode, open_image
from diptych.media.preprocessing import resized_and_cropped
from diptych.storage.atomic import atomic_write
from diptych.storage.output_files import subfolder
from diptych.storage.user import compiled_cache
from diptych.untrusted.json import parse_json
from diptych.versions import READING

if TYPE_CHECKING:
    from jaxtyping import Float, Int

CHUNK = 1024  # pictures a file
MAX_CACHED = 32  # sets of vectors in the user's cache; the oldest are removed
_BATCH = 32


@contextmanager
def kept_for_user() -> Iterator[Path | None]:
    """The vectors' folder in the user's cache, or None if it is not writable. Only the newest MAX_CACHED sets of
    vectors are kept."""
    try:
        cache = compiled_cache.folder("vectors")
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        cache = None
    if cache is None or not os.access(cache, os.W_OK):
        yield None
        return
    yield cache.resolve()  # it may be a link
    with suppress(OSError):  # another process may remove it first
        for old in sorted(cache.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)[MAX_CACHED:]:
            shutil.rmtree(old, ignore_errors=True)


class ImageTransform(NamedTuple):
    """A change to each picture before it is embedded. `name` contains everything that it depends on; `apply` takes the
    picture and the picture's seed."""

    name: str
    apply: Callable[[Image.Image, int], Image.Image]
    size_px: int = 224


class EmbeddedPictures(NamedTuple):
    """The vectors of the readable pictures with their indices in the data set, and the failures of the others by index.
    `cached` counts the pictures that were in the cache."""

    indices: Int[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n dim"]
    failures: dict[int, Failure]
    cached: int = 0

    def reasons(self) -> dict[str, int]:
        """How many pictures failed, by reason."""
        return dict(Counter(failure.reason for failure in self.failures.values()))


def image_vectors(
    model: Embedder,
    pictures: PictureSequence,
    cache: str | os.PathLike[str] | None = None,
    *,
    decode: Decode = "fast",
    transform: ImageTransform | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EmbeddedPictures:
    """One float32 unit vector for each readable picture. Vectors are read from and written to the `cache` folder, if
    there is one. `progress` is called with (done, total) pictures. Raises DataError if no picture can be read."""
    folder = None if cache is None else Path(cache) / job_key(model, pictures, decode, transform)
    parts = []
    for start in range(0, len(pictures), CHUNK):
        stop = min(start + CHUNK, len(pictures))
        on_progress = partial(_report_progress, progress, start, len(pictures))
        parts.append(_chunk(model, pictures, range(start, stop), folder, decode, transform, on_progress))
        progress(stop, len(pictures))
    if not any(len(part.indices) for part in parts):
        first = next((failure.message for part in parts for failure in part.failures.values()), "it is empty")
        raise DataError(f"none of the {len(pictures)} pictures of the set can be read; the first: {first}")
    return EmbeddedPictures(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        dict(chain.from_iterable(part.failures.items() for part in parts)),
        sum(part.cached for part in parts),
    )


def _report_progress(progress: Callable[[int, int], None], start: int, total: int, done: int) -> None:
    progress(start + done, total)


def job_key(model: Embedder, pictures: PictureSequence, decode: Decode, transform: ImageTransform | None) -> str:
    """A hash of everything that the vectors depend on: the model and its arithmetic (such as int8), the data set, the
    decoding, the transform, and the version of the picture reader."""
    dataset = (pictures.identity, pictures.split, decode, transform and transform.name)
    parts = (model.fingerprint, arithmetic(model), *dataset, READING)
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def arithmetic(model: Embedder) -> str:
    """The engine's description without the number of cores or threads, which changes no vector."""
    return re.sub(r",? ?\(?\d+ (cores|threads)\)?", "", model.engine.describe())


def _chunk(
    model: Embedder, pictures: PictureSequence, indices: range, folder: Path | None, decode: Decode,
    transform: ImageTransform | None, on_progress: Callable[[int], None],
) -> EmbeddedPictures:  # fmt: skip
    path = None if folder is None else folder / f"{indices.start:08}.npz"
    if path is not None and (cached := _read_chunk(path, model.dim)) is not None:
        return cached
    embedded = _embed(model, pictures, indices, decode, transform, on_progress)
    if path is not None:
        _write_chunk(path, embedded)
    return embedded


def _read_chunk(path: Path, dim: int) -> EmbeddedPictures | None:
    """The chunk in a file; None if it is missing or damaged (each array of an .npz has a checksum)."""
    try:
        with np.load(path) as file:
            failures = {int(index): Failure(*parts) for index, parts in parse_json(str(file["failures"])).items()}
            count = len(file["places"]) + len(failures)
            chunk = EmbeddedPictures(file["places"], file["vectors"], failures, count)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        return None
    return chunk if chunk.vectors.shape == (len(chunk.indices), dim) else None


def _write_chunk(path: Path, chunk: EmbeddedPictures) -> None:
    """Writes to the cache; on a full disk the next run embeds the pictures again."""
    with suppress(OSError):
        for folder in (path.parent.parent, path.parent):
            subfolder(folder)
        with atomic_write(path, durable=False) as part, part.open("wb") as file:
            arrays: dict[str, Any] = {"places": chunk.indices, "vectors": chunk.vectors}
            np.savez(file, failures=np.array(json.dumps(chunk.failures)), **arrays)


def _embed(
    model: Embedder, pictures: PictureSequence, indices: Sequence[int], decode: Decode,
    transform: ImageTransform | None, on_progress: Callable[[int], None],
) -> EmbeddedPictures:  # fmt: skip
    readable, vectors, failures = [], [np.empty((0, model.dim), np.float32)], {}
    for done, batch in enumerate(_read(model, pictures, indices, decode, transform), start=1):
        failures |= {index: read for index, read in batch if isinstance(read, Failure)}
        decoded = [(index, read) for index, read in batch if not isinstance(read, Failure)]
        if decoded:
            readable += [index for index, _ in decoded]
            vectors.append(model.embed_pixels(np.stack([pixels for _, pixels in decoded])))
        on_progress(min(_BATCH * done, len(indices)))
    return EmbeddedPictures(np.array(readable, np.int64), np.concatenate(vectors), failures)


def _read(
    model: Embedder, pictures: PictureSequence, indices: Sequence[int], decode: Decode, transform: ImageTransform | None
) -> Iterator[list[tuple[int, np.ndarray | Failure]]]:
    """Batches of (index, pixels or failure). One thread per core decodes the next batch while one is embedded."""

    def attempt(index: int) -> tuple[int, np.ndarray | Failure]:
        try:
            return index, _pixels(model, pictures, index, decode, transform)
        except (ImageError, DataError, OSError) as error:
            return index, Failure(*failure_of(pictures.keys[index], error)[1])

    batches = [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        current = pool.map(attempt, batches[0]) if batches else None
        for batch in [*batches[1:], None]:
            if current is None:
                return
            following = pool.map(attempt, batch) if batch is not None else None
            yield list(current)
            current = following


def _pixels(
    model: Embedder, pictures: PictureSequence, index: int, decode: Decode, transform: ImageTransform | None
) -> np.ndarray:
    source = pictures.read(index)
    if transform is None:
        return resized_and_cropped(source, model.preprocessing, decode=decode)
    image = open_image(source, decode=decode, size_px=transform.size_px)
    seed = int.from_bytes(hashlib.blake2b(pictures.keys[index].encode("utf-8", "replace"), digest_size=6).digest())
    return resized_and_cropped(transform.apply(image, seed), model.preprocessing)
