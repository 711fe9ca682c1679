"""An item and its vector as a row of a Milvus collection, and back.

Every field that filters compare is a declared one, for Milvus compares a missing key of a JSON field differently from
version to version. Older servers have no nullable fields, so a missing value is one that no condition lets pass. What
no condition looks at is one JSON text, `rest`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import IndexDamagedError
from diptych.index.catalog import validation
from diptych.index.catalog.stored_items import Block, StoredItem
from diptych.index.catalog.validation import Item, storable
from diptych.index.filters.row_filter import FilteredRow
from diptych.untrusted.json import parse_json
from diptych.vectors.drawing import hashes

if TYPE_CHECKING:
    from pymilvus import CollectionSchema

MAX_TEXT_BYTES = 65_535  # of a VARCHAR
MAX_ENDING = 16  # characters of an ending that is stored for conditions; longer ones are compared here
NO_NUMBER, NO_DEGREES, NO_TIME = -1, 1e300, -(1 << 62)  # missing values
_PACKED = "z:"  # before a rest that is compressed
_SIGN = np.uint64(1 << 63)

# Field -> type, and the bytes that a text may have
FIELDS: dict[str, tuple[str, int]] = {
    "id": ("INT64", 0), "modality": ("VARCHAR", 16), "kind": ("VARCHAR", 16), "path": ("VARCHAR", MAX_TEXT_BYTES),
    "stem": ("INT64", 0), "ending": ("VARCHAR", 4 * MAX_ENDING), "digest": ("VARCHAR", 256), "size": ("INT64", 0),
    "mtime_ns": ("INT64", 0), "width": ("INT64", 0), "height": ("INT64", 0), "pixels": ("INT64", 0),
    "shape": ("VARCHAR", 16), "taken_at": ("VARCHAR", MAX_TEXT_BYTES), "latitude": ("DOUBLE", 0),
    "longitude": ("DOUBLE", 0), "camera": ("VARCHAR", MAX_TEXT_BYTES), "drawn": ("INT64", 0),
    "rest": ("VARCHAR", MAX_TEXT_BYTES),
}  # fmt: skip
FILTERED_FIELDS = [
    "id", "path", "kind", "mtime_ns", "width", "height", "taken_at", "latitude", "longitude", "camera", "rest",
]  # fmt: skip
ALL_FIELDS = [*FIELDS, "vector"]
ITEM_FIELDS = [name for name in FIELDS if name not in ("stem", "ending", "pixels", "shape", "drawn")]
_OF_DETAILS = ("width", "height", "taken_at", "latitude", "longitude", "camera")  # details with a field
_IN_REST = tuple(name for name in validation.DETAILS if name not in _OF_DETAILS)
_DEFAULTS: dict[str, Any] = {
    "width": NO_NUMBER, "height": NO_NUMBER, "taken_at": "", "latitude": NO_DEGREES, "longitude": NO_DEGREES,
    "camera": "", "mtime_ns": NO_TIME, "digest": "",
}  # fmt: skip


class VectorForm(NamedTuple):
    """The dimension of a collection's vectors, and whether they are float16 there; else they are the same numbers in
    float32, for Milvus Lite and old servers know no other."""

    dim: int
    is_half: bool

    def outgoing(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors, or a query, as Milvus takes them."""
        return np.ascontiguousarray(vectors, np.float16 if self.is_half else np.float32)

    def incoming(self, values: Sequence[Any]) -> np.ndarray:
        """The `vector` fields of rows, as (rows, dim) float16."""
        if not self.is_half:
            return np.array(values, np.float32).reshape(-1, self.dim).astype(np.float16)
        parts = (value[0] if isinstance(value, list) else value for value in values)
        return np.frombuffer(b"".join(map(bytes, parts)), "<f2").reshape(-1, self.dim)


def collection_schema(form: VectorForm) -> CollectionSchema:
    """The schema of a collection, without dynamic fields: a condition on a field that is misspelt is an error."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name, (type, length) in FIELDS.items():
        limit = {"max_length": length} if length else {}
        schema.add_field(name, DataType[type], is_primary=name == "id", **limit)
    schema.add_field("vector", DataType.FLOAT16_VECTOR if form.is_half else DataType.FLOAT_VECTOR, dim=form.dim)
    return schema


def form_of(description: Mapping[str, Any]) -> VectorForm | None:
    """The form of the vectors of a collection that `describe_collection` described; None if it has other fields than
    ours."""
    from pymilvus import DataType

    fields = {field["name"]: field for field in description["fields"]}
    ours = {name: DataType[type] for name, (type, _) in FIELDS.items()}
    if any(name not in fields or fields[name]["type"] != type for name, type in ours.items()) or "vector" not in fields:
        return None
    kind = fields["vector"]["type"]
    if kind not in (DataType.FLOAT_VECTOR, DataType.FLOAT16_VECTOR):
        return None
    return VectorForm(int(fields["vector"]["params"]["dim"]), kind == DataType.FLOAT16_VECTOR)


# --- to rows


def rows_of(block: Block, form: VectorForm) -> list[dict[str, Any]]:
    """A block as rows. Raises IndexDamagedError for an item whose texts do not fit."""
    ids = np.array([stored.item.id for stored in block.items], np.int64)
    drawn_numbers = (hashes(ids) ^ _SIGN).view(np.int64).tolist()
    vectors = form.outgoing(block.vectors)
    rows = []
    for stored, drawn, vector in zip(block.items, drawn_numbers, vectors, strict=True):
        rows.append({**_fields_of(stored), "drawn": drawn, "vector": vector})
        for name, (_, length) in FIELDS.items():
            if length and len(rows[-1][name].encode()) > length:
                raise IndexDamagedError(
                    f"item {stored.item.id} has a {name} of {len(rows[-1][name].encode()):,} bytes; a field of Milvus "
                    f"takes {length:,}."
                )
    return rows


def _fields_of(stored: StoredItem) -> dict[str, Any]:
    item, details = stored.item, stored.item.details
    values = {name: storable(getattr(details, name)) for name in validation.DETAILS}
    width, height = values["width"], values["height"]
    given = {name: values[name] for name in _OF_DETAILS} | {
        "mtime_ns": stored.mtime_ns,
        "digest": item.digest.hex() if item.digest is not None else None,
    }
    rest = {name: values[name] for name in _IN_REST} | {
        "at_s": storable(item.at_s), "line": item.line, "text": storable(item.text),
        "reading": stored.reading, "tokenizing": stored.tokenizing,
        "missing": [name for name, value in given.items() if value is None],
    }  # fmt: skip
    text, raw = path_text(item.path)
    if raw:
        rest["path"] = raw
    camera = folded(given["camera"] or "")
    if given["camera"] and camera != given["camera"]:
        rest["camera"] = given["camera"]
    return {
        "id": int(item.id), "modality": item.modality, "kind": item.kind, "size": int(item.size), "path": text,
        **{name: _DEFAULTS[name] if value is None else value for name, value in given.items()},
        "camera": camera, "stem": stem_hash(os.path.splitext(item.path)[0]), "ending": ending_of(item.path),
        "pixels": NO_NUMBER if width is None or height is None else width * height,
        "shape": _shape(width, height), "rest": _packed(rest),
    }  # fmt: skip


def path_text(path: str) -> tuple[str, str]:
    """A path as Milvus can hold it, and its bytes in base64 if they are not UTF-8."""
    raw = os.fsencode(path)
    text = raw.decode("utf-8", "replace")
    return text, "" if text.encode() == raw else base64.b64encode(raw).decode()


def stem_hash(stem: str) -> int:
    """A number for a path without its ending."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(stem), digest_size=8).digest(), "big", signed=True)


def ending_of(path: str) -> str:
    """What follows a path's last dot, with it and in small ASCII letters; "" if it is long."""
    ending = folded(path_text(path)[0].rpartition(".")[2]) if "." in path else ""
    return f".{ending}" if 0 < len(ending) < MAX_ENDING else ""


def folded(text: str) -> str:
    """A text with ASCII letters made small, as SQLite's lower() makes them."""
    return text.translate(_SMALL)


_SMALL = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def _shape(width: int | None, height: int | None) -> str:
    if width is None or height is None:
        return ""
    return "landscape" if width > height else "portrait" if width < height else "square"


def _packed(rest: dict[str, Any]) -> str:
    text = json.dumps(rest, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) <= MAX_TEXT_BYTES:
        return text
    return _PACKED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


# --- from rows


def stored_items(rows: Sequence[Mapping[str, Any]], refused: dict[int, str]) -> Iterator[tuple[int, StoredItem]]:
    """The rows that are valid, with their positions; the others are noted in `refused`."""
    for position, row in enumerate(rows):
        stored = None
        with suppress(KeyError, TypeError, ValueError, AttributeError, zlib.error):
            stored = _stored(row)
        if stored is None:
            refused[int(row["id"])] = validation.display_path(row.get("path"), int(row["id"]))
        else:
            yield position, stored


def _stored(row: Mapping[str, Any]) -> StoredItem | None:
    rest = _rest(row)
    values = {name: None if name in rest["missing"] else row[name] for name in (*_OF_DETAILS, "mtime_ns", "digest")}
    values["camera"] = rest.get("camera", values["camera"])
    details = [values[name] if name in values else rest[name] for name in validation.DETAILS]
    digest = None if values["digest"] is None else bytes.fromhex(values["digest"])
    read = (
        row["id"], row_path(row, rest), row["kind"], row["modality"], rest["at_s"], rest["line"], rest["text"],
        row["size"], digest, 0, *details,
    )  # fmt: skip
    item = validation.item_of(read, 0)
    return item and StoredItem(item, values["mtime_ns"], int(rest["reading"]), int(rest["tokenizing"]))


def row_path(row: Mapping[str, Any], rest: Mapping[str, Any]) -> str:
    """The path of a row's file, with surrogates for bytes that are not UTF-8."""
    return os.fsdecode(base64.b64decode(rest["path"])) if "path" in rest else row["path"]


def filtered_row(row: Mapping[str, Any]) -> FilteredRow:
    """A row with FILTERED_FIELDS, for filters."""
    rest = _rest(row)
    given = {name: None if name in rest["missing"] else row[name] for name in (*_OF_DETAILS, "mtime_ns")}
    given["camera"] = rest.get("camera", given["camera"])
    return FilteredRow(id=row["id"], path=os.fsencode(row_path(row, rest)), kind=row["kind"], **given)


def _rest(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row["rest"]
    if text.startswith(_PACKED):
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b64decode(text[len(_PACKED) :]), 1 << 22).decode()
    rest = parse_json(text)
    if not isinstance(rest, dict):
        raise ValueError("it is no table")
    return rest


def items_in(rows: Sequence[Mapping[str, Any]], refused: dict[int, str]) -> dict[int, Item]:
    """The valid items of rows, by id."""
    return {stored.item.id: stored.item for _, stored in stored_items(rows, refused)}
