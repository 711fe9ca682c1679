"""Finds files of an index that an earlier version read differently, with other pixels or token ids: only these are
read and embedded again.

Each file's row stores the version that read it. After an update of the program, older rows are checked once: a file
that would be read the same is marked as current, and the others are read together with the new and changed ones.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.validation import VALID_FILE
from diptych.index.update.outdated_kinds import METADATA_ONLY, has_new_metadata, outdated_kind
from diptych.media.items import File, FileKind, Modality
from diptych.media.scanning.path_patterns import inside
from diptych.text.cleaning import PLAIN
from diptych.versions import READING, TOKENIZING

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.text.tokenizer import Tokenizer

VERSIONED_SINCE = 2  # the first catalog format that stores the version that read a file
_BATCH = 256  # files that are checked before they are marked
_TEXT = "with a text"
_NO_DATE = ("1904-01-01", "1970-01-01T00:00")


@dataclass
class OutdatedFiles:
    """The unchanged `files` to be read again, by path, and their `kinds`. `stale` lists the modalities whose stored
    vectors are outdated, for these files and for changed ones."""

    files: dict[str, File] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    stale: dict[str, frozenset[Modality]] = field(default_factory=dict)

    def add(self, file: File, kind: str | None, *, has_text: bool, is_changed: bool) -> None:
        """Add a file; `kind` is None where only its text is read differently."""
        stale: tuple[Modality, ...] = () if kind in (None, *METADATA_ONLY) else ("picture",)
        self.stale[file.path] = frozenset((*stale, "text") if has_text else stale)
        if not is_changed:
            self.files[file.path], self.kinds[file.path] = file, kind or _TEXT

    def counted(self, read: Collection[str]) -> dict[str, int]:
        """The number of `read` files by kind, the most frequent first."""
        return dict(Counter(kind for path, kind in self.kinds.items() if path in read).most_common())


class _Older(NamedTuple):
    id: int
    path: str
    kind: FileKind
    taken_at: str | None
    latitude: float | None
    reading: int
    tokenizing: int


_SQL = (
    "SELECT id, path, kind, taken_at, latitude, reading, tokenizing FROM files WHERE reason IS NULL "
    f"AND (reading < {READING} OR tokenizing < {TOKENIZING}) AND typeof(taken_at) IN ('text', 'null') AND {VALID_FILE} "
    "ORDER BY path"
)


def find_outdated(
    catalog: Catalog,
    root: Path,
    found: Mapping[str, File],
    changed: Set[str],
    model: Callable[[], Embedder],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> OutdatedFiles:
    """The `found` files that must be read again; those that have `changed` are read anyway. Files that would be read
    the same are marked as current, in batches. `model` is opened only where there are texts; if it cannot be opened,
    nothing is checked now."""
    older = [each for row in catalog.rows(_SQL) if (each := _Older(*row)).path in found]
    outdated = OutdatedFiles()
    if not older:
        return outdated
    try:
        texts = _files_tokenized_differently(catalog, model)
    except (OSError, ValueError):
        return outdated
    with ThreadPoolExecutor(4, thread_name_prefix="outdated") as pool:
        for start in range(0, len(older), _BATCH):
            some = older[start : start + _BATCH]
            kinds = list(pool.map(lambda each: _kind(root, each), some))
            for each, kind in zip(some, kinds, strict=True):
                if kind or each.id in texts:
                    is_changed = each.path in changed
                    outdated.add(found[each.path], kind, has_text=each.id in texts, is_changed=is_changed)
            mark_current(catalog, [one.id for one in some if one.path not in outdated.stale.keys() | changed])
            if progress:
                progress(start + len(some), len(older))
    return outdated


def count_older(catalog: Catalog, folder: str = "") -> int:
    """The number of files, in a folder of the index, that an earlier version read and that were not checked since."""
    here, values = inside(folder)
    if catalog.facts()["format"] < VERSIONED_SINCE:
        return catalog.counts(here, values).files
    older = f"(reading < {READING} OR tokenizing < {TOKENIZING}) AND {here}"
    return catalog.rows(f"SELECT count(*) FROM files WHERE {older}", values)[0][0]


def mark_current(catalog: Catalog, ids: Sequence[int]) -> None:
    """Mark files, by id, as read by this version."""
    if ids:
        with catalog.writing() as db:
            sql = f"UPDATE files SET reading = {READING}, tokenizing = {TOKENIZING} WHERE id = ?"
            db.executemany(sql, [(id,) for id in ids])


def _kind(root: Path, older: _Older) -> str | None:
    if older.reading >= READING:
        return None
    path = os.path.join(root, older.path)
    if kind := outdated_kind(path, older.kind):
        return kind
    if older.kind == "text":
        return None
    is_undated = older.taken_at is None or older.taken_at.startswith(_NO_DATE)
    return has_new_metadata(path, is_undated=is_undated, has_gps=older.latitude is not None)


def _files_tokenized_differently(catalog: Catalog, model: Callable[[], Embedder]) -> set[int]:
    """The ids of the files with a text whose token ids differ from those of an earlier version."""
    rows: list[Any] = catalog.rows(
        "SELECT DISTINCT file, items.text FROM items JOIN files ON files.id = items.file "
        f"WHERE modality = 'text' AND typeof(items.text) = 'text' AND tokenizing < {TOKENIZING}"
    )
    if not rows:
        return set()
    other = texts_tokenized_differently(model(), sorted({text for _, text in rows}))
    return {file for file, text in rows if text in other}


def texts_tokenized_differently(model: Embedder, texts: Sequence[str]) -> set[str]:
    """The texts whose token ids differ from those of version 1, which applied the model's tokenizer.json alone."""
    from diptych.checkpoint.fingerprint import legacy_config
    from diptych.text.tokenizer import Tokenizer

    if getattr(model, "text_preprocessing", PLAIN) == PLAIN or model.tokenizer is None or model.tokenizer_json is None:
        return set()
    before = Tokenizer.of_tower(model.tokenizer_json, legacy_config(model.config, model.text_preprocessing).text)
    other = set[str]()
    for start in range(0, len(texts), _BATCH):
        some = texts[start : start + _BATCH]
        rows = zip(some, _ids(model.tokenizer, some), _ids(before, some), strict=True)
        other.update(text for text, now, then in rows if now != then)
    return other


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, with padding only where the tower attends to it."""
    tokens = tokenizer(texts, truncate=True)
    shown = tokens.mask | tokenizer.fill_context
    return [ids[seen].tolist() for ids, seen in zip(tokens.ids, shown, strict=True)]
