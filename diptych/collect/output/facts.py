"""The facts of a pair as a shard keeps them: KEY.json in the tar, and a row of the Parquet table beside it.

Every object has the same names with values of the same types, none of them null, so that readers which infer a schema
from the first samples (`datasets` 5.2 does, from five) can read all of them. That is why scores and the columns of a
list are JSON texts and flags are words with spaces between them; the table has them as lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

from diptych.collect.pairs import Found, Origin, Pair, Picture, Words
from diptych.errors import DataError, JSONError
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

Facts = dict[str, "str | int | list[str]"]
_TEXTS = ("url", "page_url", "language", "licence", "time", "sha256", "perceptual_hash", "suffix")
_SIZES = ("width", "height", "original_width", "original_height", "bytes")
_OBJECTS = ("scores", "columns")


def facts_of(pair: Pair, key: str) -> Facts:
    """The facts of a pair under its key: `captions`, the best first, with the `origins` of each; `time` in ISO 8601, in
    UTC; hashes in hexadecimal. Unknown texts are empty, and scores that are no numbers are left out."""
    picture, found = pair.picture, pair.found
    scores = {name: value for name, value in sorted(pair.scores.items()) if math.isfinite(value)}
    return {
        "key": key,
        "captions": [_line(words.text) for words in pair.captions],
        "origins": [words.origin for words in pair.captions],
        "url": found.picture_url,
        "page_url": found.page_url,
        "language": found.language,
        "licence": found.licence,
        "time": _time(found.time_s),
        "sha256": picture.sha256,
        "perceptual_hash": f"{picture.perceptual_hash:016x}",
        "suffix": picture.suffix,
        "width": picture.width,
        "height": picture.height,
        "original_width": picture.original_width,
        "original_height": picture.original_height,
        "bytes": len(picture.content),
        "scores": json.dumps(scores),
        "flags": " ".join(pair.flags),
        "columns": json.dumps(dict(found.columns), ensure_ascii=False),
    }


def json_of(facts: Facts) -> bytes:
    """The content of KEY.json. Unpaired surrogates, which are no Unicode, become question marks."""
    return json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")


def parsed_facts(content: bytes, key: str) -> Facts:
    """The facts in a KEY.json, with the types that `facts_of` gives. Raises DataError for anything else."""
    try:
        given = parse_json(content)
        if not isinstance(given, dict):
            raise JSONError("it is not an object")
        captions, origins = _texts(given, "captions"), _texts(given, "origins")
        if not captions or len(origins) != len(captions) or not {*origins} <= {*get_args(Origin)}:
            raise JSONError("its captions and their origins do not fit")
        texts = {name: _typed(given, name, str) for name in (*_TEXTS, "flags", *_OBJECTS)}
        sizes = {name: _typed(given, name, int) for name in _SIZES}
        int(str(texts["perceptual_hash"]), 16)
        if not isinstance(parse_json(str(texts["columns"])), dict):
            raise JSONError("its columns are no object")
        numbers_in(str(texts["scores"]))
        _seconds(str(texts["time"]))
    except (JSONError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{key}.json is not of a collected pair ({error}).", "foreign facts") from error
    return {"key": key, "captions": captions, "origins": origins, **texts, **sizes}


def pair_of(facts: Facts, content: bytes) -> Pair:
    """The pair of these facts and its picture's bytes: the inverse of `facts_of`."""
    value: Mapping[str, object] = facts
    text = {name: str(value[name]) for name in _TEXTS}
    size = {name: int(str(value[name])) for name in _SIZES}
    words = zip(facts["captions"], facts["origins"], strict=True)  # type: ignore[arg-type]
    captions = tuple(Words(caption, origin) for caption, origin in words)  # type: ignore[arg-type]
    picture = Picture(
        content, text["suffix"], size["width"], size["height"], size["original_width"], size["original_height"],
        text["sha256"], int(text["perceptual_hash"], 16),
    )  # fmt: skip
    columns = _cells(str(value["columns"]))
    found = Found(
        text["url"], captions, text["page_url"], text["language"], text["licence"], _seconds(text["time"]), columns
    )
    return Pair(picture, captions, found, numbers_in(str(value["scores"])), tuple(str(value["flags"]).split()))


def numbers_in(scores: str) -> dict[str, float]:
    """The scores of a pair, by the name of each."""
    return {str(name): float(each) for name, each in parse_json(scores).items()}


def table_of(rows: list[Facts], shard: str) -> pa.Table:
    """The facts of a shard's pairs as the table beside it, with the `shard` and the best `caption`."""
    import pyarrow as pa

    from diptych.data.tables import arrow_arrays as arrays

    def words(of: Iterable[object]) -> pa.Array:
        return arrays.lists([[str(each) for each in found] for found in of], arrays.texts)  # type: ignore[attr-defined]

    columns = {
        "key": arrays.texts([str(facts["key"]) for facts in rows]),
        "shard": arrays.texts([shard] * len(rows)),
        "caption": arrays.texts([facts["captions"][0] for facts in rows]),  # type: ignore[index]
        **{name: words(facts[name] for facts in rows) for name in ("captions", "origins")},
        **{name: arrays.texts([str(facts[name]) for facts in rows]) for name in _TEXTS},
        "time": arrays.moments([_milliseconds(str(facts["time"])) for facts in rows]),
        **{name: arrays.numbers([int(str(facts[name])) for facts in rows], pa.int32()) for name in _SIZES},
        "scores": arrays.named([numbers_in(str(facts["scores"])) for facts in rows], _doubles),
        "flags": words(str(facts["flags"]).split() for facts in rows),
        "columns": arrays.named([_cells(str(facts["columns"])) for facts in rows], arrays.texts),
    }
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def _doubles(values: Sequence[float]) -> pa.Array:
    import pyarrow as pa

    from diptych.data.tables.arrow_arrays import numbers

    return numbers(values, pa.float64())


def _milliseconds(time: str) -> int | None:
    return round(_seconds(time) * 1000) or None


def _cells(columns: str) -> dict[str, str]:
    return {str(name): str(each) for name, each in parse_json(columns).items()}


def _line(text: str) -> str:
    """A caption in one line: readers of KEY.txt take each line for a caption."""
    return " ".join(text.split())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0


def _typed(given: dict[str, object], name: str, kind: type[str] | type[int]) -> str | int:
    if type(value := given.get(name)) is not kind:
        raise JSONError(f"{name} is {type(value).__name__}; wanted {kind.__name__}")
    return value  # type: ignore[return-value]


def _texts(given: dict[str, object], name: str) -> list[str]:
    value = given.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise JSONError(f"{name} is no list of texts")
    return value
