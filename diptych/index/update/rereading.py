"""The files of an index whose vectors an earlier version made of other pixels or other ids: they alone are read and
embedded again.

Each file's row notes by which version it was read. After an update of the program what is older is looked at once: a
file that is read as it was is noted as such, and what is not comes back, to be read with the new and changed ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.validation import SOUND_FILE
from diptych.index.update.reading_versions import MORE_SAID, kind_read_anew, tells_more
from diptych.media.items import File, Kind, Modality
from diptych.media.path_patterns import inside
from diptych.text.cleaning import PLAIN
from diptych.versions import READING, TOKENIZING

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.text.tokenizer import Tokenizer

NOTED_SINCE = 2  # the format from which on a catalog notes by which version a file was read
_AT_ONCE = 256  # files that are looked at before what is known of them is kept
_TEXT = "with a text"
_NO_DATE = ("1904-01-01", "1970-01-01T00:00")


@dataclass
class Again:
    """The `files` to be read again though they have not changed, by path, each with what kind of file it is. `wrong`
    says of these, and of changed ones, which of the vectors that are known are not those of today."""

    files: dict[str, File] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, frozenset[Modality]] = field(default_factory=dict)

    def add(self, file: File, kind: str | None, *, has_text: bool, is_changed: bool) -> None:
        """One more; `kind` is None where its text alone is read otherwise."""
        wrong: tuple[Modality, ...] = () if kind in (None, *MORE_SAID) else ("picture",)
        self.wrong[file.path] = frozenset((*wrong, "text") if has_text else wrong)
        if not is_changed:
            self.files[file.path], self.kinds[file.path] = file, kind or _TEXT

    def counted(self, read: Collection[str]) -> dict[str, int]:
        """How many of those that were `read` are of which kind, most first."""
        return dict(Counter(kind for path, kind in self.kinds.items() if path in read).most_common())


class _Older(NamedTuple):
    id: int
    path: str
    kind: Kind
    taken_at: str | None
    latitude: float | None
    reading: int
    tokenizing: int


_SQL = (
    "SELECT id, path, kind, taken_at, latitude, reading, tokenizing FROM files WHERE reason IS NULL "
    f"AND (reading < {READING} OR tokenizing < {TOKENIZING}) AND typeof(taken_at) IN ('text', 'null') AND {SOUND_FILE} "
    "ORDER BY path"
)


def read_otherwise(
    catalog: Catalog,
    root: Path,
    found: Mapping[str, File],
    changed: Set[str],
    model: Callable[[], Embedder],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Again:
    """What of the files that were `found` is to be read again; those that have `changed` are, anyway. What is read as
    it was is noted as of today, some files at a time. `model` is asked for where there are texts alone; where it cannot
    be opened, all is left for another time."""
    older = [each for row in catalog.rows(_SQL) if (each := _Older(*row)).path in found]
    again = Again()
    if not older:
        return again
    try:
        texts = _texts_read_otherwise(catalog, model)
    except (OSError, ValueError):
        return again
    with ThreadPoolExecutor(4, thread_name_prefix="looking") as pool:
        for start in range(0, len(older), _AT_ONCE):
            some = older[start : start + _AT_ONCE]
            kinds = list(pool.map(lambda each: _kind(root, each), some))
            for each, kind in zip(some, kinds, strict=True):
                if kind or each.id in texts:
                    is_changed = each.path in changed
                    again.add(found[each.path], kind, has_text=each.id in texts, is_changed=is_changed)
            note_as_of_today(catalog, [one.id for one in some if one.path not in again.wrong.keys() | changed])
            if progress:
                progress(start + len(some), len(older))
    return again


def count_older(catalog: Catalog, folder: str = "") -> int:
    """How many files, of a folder in the index, were read by an earlier version, and not looked at since."""
    here, values = inside(folder)
    if catalog.facts()["format"] < NOTED_SINCE:
        return catalog.counts(here, values).files
    older = f"(reading < {READING} OR tokenizing < {TOKENIZING}) AND {here}"
    return catalog.rows(f"SELECT count(*) FROM files WHERE {older}", values)[0][0]


def note_as_of_today(catalog: Catalog, ids: Sequence[int]) -> None:
    """These files, by id, are read today as they were."""
    if ids:
        with catalog.writing() as db:
            sql = f"UPDATE files SET reading = {READING}, tokenizing = {TOKENIZING} WHERE id = ?"
            db.executemany(sql, [(id,) for id in ids])


def _kind(root: Path, older: _Older) -> str | None:
    if older.reading >= READING:
        return None
    path = os.path.join(root, older.path)
    if kind := kind_read_anew(path, older.kind):
        return kind
    if older.kind == "text":
        return None
    is_undated = older.taken_at is None or older.taken_at.startswith(_NO_DATE)
    return tells_more(path, is_undated=is_undated, has_place=older.latitude is not None)


def _texts_read_otherwise(catalog: Catalog, model: Callable[[], Embedder]) -> set[int]:
    """The ids of the files with a text of which the model's tokenizer makes other ids than before."""
    rows: list[Any] = catalog.rows(
        "SELECT DISTINCT file, items.text FROM items JOIN files ON files.id = items.file "
        f"WHERE modality = 'text' AND typeof(items.text) = 'text' AND tokenizing < {TOKENIZING}"
    )
    if not rows:
        return set()
    other = texts_read_otherwise(model(), sorted({text for _, text in rows}))
    return {file for file, text in rows if text in other}


def texts_read_otherwise(model: Embedder, texts: Sequence[str]) -> set[str]:
    """Those of which version 1 made other ids: it did with every text as the model's tokenizer.json alone says."""
    from diptych.checkpoint.fingerprint import as_read_before
    from diptych.text.tokenizer import Tokenizer

    if getattr(model, "text_preprocessing", PLAIN) == PLAIN or model.tokenizer is None or model.tokenizer_json is None:
        return set()
    before = Tokenizer.of_tower(model.tokenizer_json, as_read_before(model.config, model.text_preprocessing).text)
    other = set[str]()
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        rows = zip(some, _ids(model.tokenizer, some), _ids(before, some), strict=True)
        other.update(text for text, now, then in rows if now != then)
    return other


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, with padding only where the tower sees it."""
    tokens = tokenizer(texts, truncate=True)
    shown = tokens.mask | tokenizer.fill_context
    return [ids[seen].tolist() for ids, seen in zip(tokens.ids, shown, strict=True)]
