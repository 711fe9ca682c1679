"""Items of all kinds, for tests of stores."""

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from diptych.index.catalog.stored_items import Block, StoredItem
from diptych.index.catalog.validation import Item
from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle
from diptych.media.items import Details
from tests.stores import DIM

FACTS = {"fingerprint": "f" * 16, "model": "bundled", "dim": DIM, "root": "/pictures", "version": "1"}
CAMERAS = ("Canon EOS 5D", "NIKON D850", "", None, "100% \\ 'real' \"_%\"")
FOLDERS = ("", "a", "a/b", "a%b", "a_b", "c'd", 'e"f', "g\\h", "\u00fc", "u\u0308", "[x]", "Z")
ENDINGS = (".jpg", ".JPG", ".png", ".jpeg", ".nef")
COUNT = 1500
SEED = 5
FIRST_NS = 1_700_000_000 * 10**9  # the first files changed in 2023, the last in 2071


def vectors_of(count: int, seed: int) -> np.ndarray:
    """Unit vectors in clusters, pictures and texts apart, as two towers leave them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, DIM))
    rows = centres[rng.integers(12, size=count)] + 0.6 * rng.normal(size=(count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def _taken_at(id: int, rng: np.random.Generator) -> str:
    whole = f"20{rng.integers(10, 25)}-0{rng.integers(1, 10)}-1{rng.integers(10)}T0{rng.integers(10)}:30:00"
    return (whole, "2024", "2024-05")[id % 5 % 3]


def item(id: int, rng: np.random.Generator) -> Item:
    """Any valid item: a picture, a frame, a paragraph or a caption."""
    kind = ("picture", "picture", "picture", "video", "text")[id % 5]
    folder = FOLDERS[rng.integers(len(FOLDERS))]
    ending = {"video": ".mp4", "text": ".txt"}.get(kind) or ENDINGS[rng.integers(len(ENDINGS))]
    path = f"{folder}/{id} {chr(233) if id % 7 else 'e' + chr(769)}{ending}".lstrip("/")
    if id % 31 == 0:
        path = os.fsdecode(b"bytes \xff\xfe ") + path.rpartition("/")[2]
    is_dated, is_located, is_text = id % 3 > 0, id % 4 > 0, kind == "text" or id % 11 == 0
    details = Details(
        width=None if kind == "text" else int(rng.integers(1, 5000)),
        height=None if kind == "text" else int(rng.integers(1, 5000)),
        taken_at=_taken_at(id, rng) if is_dated else None,
        latitude=float(rng.uniform(-90, 90)) if is_located else None,
        longitude=float(rng.uniform(-180, 180)) if is_located else None,
        camera=CAMERAS[rng.integers(len(CAMERAS))], caption="a caption; DROP TABLE items --" if id % 9 == 0 else None,
        duration_s=12.5 if kind == "video" else None,
    )  # fmt: skip
    digest = b"the same" if id % 50 == 3 else id.to_bytes(16, "big") if id % 13 else b""
    text = f"paragraph {id} with ' and % and \\ and ünïcödé" if is_text else None
    return Item(
        id, path, kind, "text" if is_text else "picture", 2.5 * id if kind == "video" else None,
        3 * id if kind == "text" else None, text, 1000 + id, digest, details,
    )  # fmt: skip


def stored_block(ids: range | list[int], seed: int = SEED) -> Block:
    rng = np.random.default_rng(seed)
    items = [StoredItem(item(id, rng), FIRST_NS + 10**15 * id if id % 17 else None, 1, 1) for id in ids]
    return Block(items, vectors_of(len(items), seed))


BLOCK = stored_block(range(1, COUNT + 1))
OF = {stored.item.id: (stored, vector) for stored, vector in zip(*BLOCK, strict=True)}


def is_in(one: Item, south: float, west: float, north: float, east: float) -> bool:
    """Whether a file lies in a box that does not cross the antimeridian."""
    latitude, longitude = one.details.latitude, one.details.longitude
    return latitude is not None and longitude is not None and south <= latitude <= north and west <= longitude <= east


def dated(one: Item) -> str:
    return one.details.taken_at or ""


def sides(one: Item) -> tuple[int, int]:
    return one.details.width or 0, one.details.height or 0


# Filters, each with what it lets pass, said once more in Python
FILTERS: list[tuple[Filters, Callable[[Item], Any]]] = [
    (Filters(), lambda one: True),
    (Filters(since="2015"), lambda one: dated(one) >= "2015"),
    (Filters(since="2024-05"), lambda one: dated(one) >= "2024-05"),
    (Filters(until="2014-03"), lambda one: "" < dated(one)[:7] <= "2014-03"),
    (Filters(since="2012-02", until="2016-07-13"), lambda one: "2012-02" <= dated(one)[:10] <= "2016-07-13"),
    (Filters(camera="canon"), lambda one: "canon" in (one.details.camera or "").lower()),
    (Filters(camera="100% \\ 'real' \"_"), lambda one: "100% \\ 'real' \"_" in (one.details.camera or "")),
    (Filters(camera="%"), lambda one: "%" in (one.details.camera or "")),
    (Filters(min_width=2500), lambda one: sides(one)[0] >= 2500),
    (Filters(min_height=4000), lambda one: sides(one)[1] >= 4000),
    (Filters(min_megapixels=9.5), lambda one: sides(one)[0] * sides(one)[1] >= 9_500_000),
    (Filters(orientation="landscape"), lambda one: sides(one)[0] > sides(one)[1]),
    (Filters(orientation="portrait", min_width=100), lambda one: 100 <= sides(one)[0] < sides(one)[1]),
    (Filters(orientation="square"), lambda one: 0 < sides(one)[0] == sides(one)[1]),
    (Filters(kind="video"), lambda one: one.kind == "video"),
    (Filters(subfolder="a"), lambda one: one.path.startswith("a/")),
    (Filters(subfolder="a%b"), lambda one: one.path.startswith("a%b/")),
    (Filters(subfolder="c'd"), lambda one: one.path.startswith("c'd/")),
    (Filters(path="*.jpg"), lambda one: one.path.lower().endswith(".jpg")),
    (Filters(path="a/**"), lambda one: one.path.startswith("a/")),
    (Filters(path="a_b"), lambda one: one.path.startswith("a_b/")),
    (Filters(path="g\\\\h/*"), lambda one: one.path.startswith("g\\h/")),
    (Filters(path="\\[x\\]/*1*.png"), lambda one: re.fullmatch(r"\[x\]/[^/]*1[^/]*\.(?i:png)", one.path)),
    (Filters(path="\u00fc/"), lambda one: one.path.split("/")[0] in ("\u00fc", "u\u0308")),
    (Filters(path="b/*", subfolder="a"), lambda one: one.path.startswith("a/b/")),
    (Filters(box=GeoBox(-10, -20, 40, 60)), lambda one: is_in(one, -10, -20, 40, 60)),
    (Filters(box=GeoBox(0, 170, 90, -170)), lambda one: is_in(one, 0, 170, 90, 180) or is_in(one, 0, -180, 90, -170)),
    (Filters(near=GeoCircle(48, 11, 3000)), lambda one: kilometres(one, 48, 11) <= 3000),
    (Filters(near=GeoCircle(89, 0, 2000)), lambda one: kilometres(one, 89, 0) <= 2000),
    (Filters(path="nowhere/*"), lambda one: False),
]


def kilometres(one: Item, latitude: float, longitude: float) -> float:
    """By the haversine formula (Sinnott, 1984), on a sphere of the earth's mean radius."""
    if one.details.latitude is None or one.details.longitude is None:
        return np.inf
    here, there = np.radians((one.details.latitude, latitude))
    across = np.radians(one.details.longitude - longitude)
    half = np.sin((here - there) / 2) ** 2 + np.cos(here) * np.cos(there) * np.sin(across / 2) ** 2
    return float(2 * 6371.0088 * np.arcsin(min(1.0, np.sqrt(half))))


def passing(filters: tuple[Filters, Any], modality: str) -> list[int]:
    return [id for id, (stored, _) in OF.items() if stored.item.modality == modality and filters[1](stored.item)]
