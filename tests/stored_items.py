"""Items of all kinds, for tests of stores."""

import os

import numpy as np

from diptych.index.catalog.stored_items import Block, StoredItem
from diptych.index.catalog.validation import Item
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
