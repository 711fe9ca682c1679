"""The pictures of evaluation sets, so that none of them is trained on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from diptych.collect.pairs import Found, Pair, Words
from diptych.collect.pictures.preparing import PictureRefused, prepare
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules
from diptych.errors import DataError
from diptych.evaluation.sets.opening import open_set
from diptych.failures import Failure
from diptych.media.images import open_image
from diptych.media.scanning.image_files import find_images
from diptych.untrusted.regular_files import read_file

ALL = PictureRules(disabled=tuple(PICTURE_RULES))
_NO_WORDS = (Words("a picture", "list"),)


def pictures_of(name: str) -> Iterator[tuple[str, Pair | Failure]]:
    """Each picture of the evaluation set of this name or in this folder, which may have pictures alone. Raises
    DataError where there is none."""
    keys, read = _opened(name)
    for number, key in enumerate(keys):
        try:
            yield f"{name}/{key}", Pair(prepare(_content(read(number)), rules=ALL), _NO_WORDS, Found("", ()))
        except PictureRefused as refused:
            yield f"{name}/{key}", Failure(refused.reason, refused.message)
        except (DataError, OSError) as error:
            yield f"{name}/{key}", Failure("unreadable", str(error))


def _opened(name: str) -> tuple[Sequence[str], Callable[[int], object]]:
    """The keys of the pictures, and what reads one by its number."""
    try:
        pictures = open_set(name).pictures
    except DataError:
        files = find_images(name) if Path(name).is_dir() else []
        if not files:
            raise
        return [str(path.relative_to(name)) for path in files], files.__getitem__
    return pictures.keys, pictures.read


def _content(source: object) -> bytes:
    """The bytes of a picture that a set has as bytes, as a file, or decoded."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return read_file(source)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    open_image(source).save(buffer, "PNG", compress_level=1)  # type: ignore[arg-type]
    return buffer.getvalue()
