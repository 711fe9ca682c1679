"""Image vectors of a set, kept in a folder: made once for each model, set and way of decoding.

A chunk of pictures is a file, written whole or not at all, so that work that is cut off goes on where it was; a chunk
that is damaged is made again.
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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from diptych.data.loading.decoding import why
from diptych.embedder import Embedder
from diptych.errors import DataError, ImageError
from diptych.evaluation.sets.sets import Pictures
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
KEPT = 32  # sets of vectors in the user's cache; those that were made first go first
_BATCH = 32


@contextmanager
def kept_for_user() -> Iterator[Path | None]:
    """A cache folder in the user's own place for such, None where it cannot be written to. Of what it holds, only the
    newest KEPT sets stay."""
    try:
        cache = compiled_cache.folder("vectors")
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        cache = None
    if cache is None or not os.access(cache, os.W_OK):
        yield None
        return
    yield cache.resolve()  # one called by a link is the user's own word
    with suppress(OSError):  # another process may do the same
        for old in sorted(cache.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


class Change(NamedTuple):
    """What is done to each picture before the model sees it. `name` says all that it depends on; `apply` is given the
    picture and a seed of its own."""

    name: str
    apply: Callable[[Image.Image, int], Image.Image]
    size_px: int = 224


class Seen(NamedTuple):
    """The vectors of the pictures that could be read, with their places in the set, and what is wrong with the rest, by
    place. `found` is how many pictures were there from before."""

    places: Int[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n dim"]
    failures: dict[int, Failure]
    found: int = 0

    def reasons(self) -> dict[str, int]:
        """How many pictures failed, by reason."""
        return dict(Counter(failure.reason for failure in self.failures.values()))


def image_vectors(
    model: Embedder,
    pictures: Pictures,
    cache: str | os.PathLike[str] | None = None,
    *,
    decode: Decode = "fast",
    change: Change | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Seen:
    """One unit vector a picture, float32. Bad pictures cost themselves. With a `cache` folder what is there is read and
    what is not is written. `progress` is told (done, total) in pictures. Raises DataError where no picture can be read.
    """
    folder = None if cache is None else Path(cache) / job_key(model, pictures, decode, change)
    parts = []
    for start in range(0, len(pictures), CHUNK):
        stop = min(start + CHUNK, len(pictures))
        tell = partial(_shifted, progress, start, len(pictures))
        parts.append(_chunk(model, pictures, range(start, stop), folder, decode, change, tell))
        progress(stop, len(pictures))
    if not any(len(part.places) for part in parts):
        first = next((failure.message for part in parts for failure in part.failures.values()), "it is empty")
        raise DataError(f"none of the {len(pictures)} pictures of the set can be read; the first: {first}")
    return Seen(
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        dict(chain.from_iterable(part.failures.items() for part in parts)),
        sum(part.found for part in parts),
    )


def _shifted(progress: Callable[[int, int], None], start: int, total: int, done: int) -> None:
    progress(start + done, total)


def job_key(model: Embedder, pictures: Pictures, decode: Decode, change: Change | None) -> str:
    """What vectors depend on: the model and its arithmetic (int8 is not float32), the set, decoding and the change, and
    the version of reading, by which a file's pixels may be others."""
    asked = (pictures.identity, pictures.split, decode, change and change.name)
    said = (model.fingerprint, arithmetic(model), *asked, READING)
    return hashlib.blake2b(repr(said).encode(), digest_size=12).hexdigest()


def arithmetic(model: Embedder) -> str:
    """The engine in words, without the number of cores or threads, which changes no vector's meaning."""
    return re.sub(r",? ?\(?\d+ (cores|threads)\)?", "", model.engine.describe())


def _chunk(
    model: Embedder, pictures: Pictures, places: range, folder: Path | None, decode: Decode, change: Change | None,
    tell: Callable[[int], None],
) -> Seen:  # fmt: skip
    path = None if folder is None else folder / f"{places.start:08}.npz"
    if path is not None and (kept := _kept(path, model.dim)) is not None:
        return kept
    seen = _embedded(model, pictures, places, decode, change, tell)
    if path is not None:
        _keep(path, seen)
    return seen


def _kept(path: Path, dim: int) -> Seen | None:
    """None where there is nothing, or something damaged: each array of an npz has a checksum of its own."""
    try:
        with np.load(path) as file:
            failures = {int(place): Failure(*why) for place, why in parse_json(str(file["failures"])).items()}
            seen = Seen(file["places"], file["vectors"], failures, len(file["places"]) + len(failures))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        return None
    return seen if seen.vectors.shape == (len(seen.places), dim) else None


def _keep(path: Path, seen: Seen) -> None:
    """A full disk costs the next run some time, and this one nothing."""
    with suppress(OSError):
        for folder in (path.parent.parent, path.parent):
            subfolder(folder)
        with atomic_write(path, durable=False) as part, part.open("wb") as file:
            np.savez(file, places=seen.places, vectors=seen.vectors, failures=np.array(json.dumps(seen.failures)))


def _embedded(
    model: Embedder, pictures: Pictures, places: Sequence[int], decode: Decode, change: Change | None,
    tell: Callable[[int], None],
) -> Seen:  # fmt: skip
    good, vectors, failures = [], [np.empty((0, model.dim), np.float32)], {}
    for done, batch in enumerate(_read(model, pictures, places, decode, change), start=1):
        failures |= {place: read for place, read in batch if isinstance(read, Failure)}
        right = [(place, read) for place, read in batch if not isinstance(read, Failure)]
        if right:
            good += [place for place, _ in right]
            vectors.append(model.embed_pixels(np.stack([read for _, read in right])))
        tell(min(_BATCH * done, len(places)))
    return Seen(np.array(good, np.int64), np.concatenate(vectors), failures)


def _read(
    model: Embedder, pictures: Pictures, places: Sequence[int], decode: Decode, change: Change | None
) -> Iterator[list[tuple[int, np.ndarray | Failure]]]:
    """Batches of (place, pixels), the next one on its way on a thread a core while one is looked at."""

    def attempt(place: int) -> tuple[int, np.ndarray | Failure]:
        try:
            return place, _pixels(model, pictures, place, decode, change)
        except (ImageError, DataError, OSError) as error:
            return place, Failure(*why(pictures.keys[place], error)[1])

    batches = [places[at : at + _BATCH] for at in range(0, len(places), _BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        coming = pool.map(attempt, batches[0]) if batches else None
        for batch in [*batches[1:], None]:
            if coming is None:
                return
            following = pool.map(attempt, batch) if batch is not None else None
            yield list(coming)
            coming = following


def _pixels(model: Embedder, pictures: Pictures, place: int, decode: Decode, change: Change | None) -> np.ndarray:
    source = pictures.read(place)
    if change is None:
        return resized_and_cropped(source, model.preprocessing, decode=decode)
    image = open_image(source, decode=decode, size_px=change.size_px)
    seed = int.from_bytes(hashlib.blake2b(pictures.keys[place].encode("utf-8", "replace"), digest_size=6).digest())
    return resized_and_cropped(change.apply(image, seed), model.preprocessing)
