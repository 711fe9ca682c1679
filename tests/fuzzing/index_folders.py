"""Index folders that came with the pictures: files of every kind in `.diptych`, and any value in any column."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import click
import index_model
import legacy_catalog
import numpy as np

from diptych import embedder
from diptych.errors import CheckpointError
from diptych.index import model as stored_model
from diptych.media.reading import readers

from .case import Case, write_precious
from .files import file_changed, files_below
from .running import ran
from .values import anything, damaged, json_with_changes, number, outside, text

KEYS = ("exclude", "hidden", "skipped", "model", "fingerprint", "dim", "format", "generation", "version")
SCHEMA = (
    "CREATE TRIGGER more AFTER UPDATE ON files BEGIN DELETE FROM facts WHERE key = 'exclude'; END",
    "CREATE TRIGGER other AFTER INSERT ON items BEGIN SELECT raise(FAIL, 'no'); END",
    "CREATE VIEW some AS SELECT * FROM files",
    "CREATE TABLE others(a, b)",
    "CREATE INDEX files_by_camera ON files(camera)",
    "CREATE INDEX files_by_sum ON files(size + id)",
    "ALTER TABLE files ADD COLUMN more TEXT",
    "ALTER TABLE files ADD COLUMN made TEXT GENERATED ALWAYS AS (path || 'x') VIRTUAL",
    "ALTER TABLE items DROP COLUMN line",
    "ALTER TABLE files RENAME COLUMN camera TO lens",
    "DROP TRIGGER item_added",
    "DROP INDEX items_by_file",
    "DROP TABLE items",
    "PRAGMA user_version = 77",
    "PRAGMA journal_mode = wal",
)  # fmt: skip
BESIDE = ("catalog.sqlite-journal", "catalog.sqlite-wal", "catalog.sqlite-shm", "catalog-new.sqlite", "lock", "extra")
Change = Callable[[Path, Path, Random], str]


class IndexFolders:
    """A folder of a few pictures and texts with its index, in several forms. The model is one that is quick; whoever
    opens another than that of this installation, which nobody named, is told of."""

    def __init__(self, home: Path):
        embedder.load = _load
        stored_model._bundled_fingerprint = lambda: _load().fingerprint
        readers.ReaderPool = index_model.InlineReaders  # type: ignore[misc, assignment]
        self._home = home
        self._forms = [_made(home / "forms" / name, name) for name in ("exact", "codes", "earlier", "in parts")]

    def case(self, folder: Path, choice: Random) -> Case:
        """One to four changes."""
        photos, precious = folder / "photos", write_precious(self._home)
        shutil.copytree(choice.choice(self._forms), photos, symlinks=True)
        changes = [_change(photos, precious, choice) for _ in range(choice.choice((1, 1, 2, 4)))]
        commands = [_command(photos, choice) for _ in range(choice.choice((1, 2, 2)))]
        places = [photos / ".diptych", photos / "below" / ".diptych"]
        return Case(changes, commands, [place for place in places if not place.is_symlink()])


def _change(photos: Path, precious: Path, choice: Random) -> str:
    """What was done, in words."""
    try:
        return choice.choice(CHANGES)(photos, precious, choice)
    except RecursionError:  # of JSON that an earlier change nested
        return "was nested too deep before"


def _load(source: Any = None, **options: Any) -> index_model.PixelModel:
    """In place of `diptych.load`."""
    if source in (None, "bundled"):
        return index_model.PixelModel(source="bundled")
    context = click.get_current_context(silent=True)
    if context and context.params.get("trust"):
        raise CheckpointError("this model is not here.")
    raise StrangersModelError(f"the model {source!r} was opened, which nobody named")


class StrangersModelError(Exception):
    """No error of ours: it comes out as a traceback."""


def _made(photos: Path, form: str) -> Path:
    """A sound index of one form."""
    for seed in range(4):
        index_model.draw(photos / f"{'below/' if seed == 3 else ''}{seed}.png", seed)
    lines = 300 if form == "codes" else 2
    (photos / "notes.txt").write_text("\n\n".join(f"paragraph {number}" for number in range(lines)))
    names = Random(form)  # of files, which are drawn by name
    with (
        patch("diptych.vectors.tuning.EXACT_UP_TO", 0 if form == "codes" else 10**9),
        patch("diptych.vectors.vector_files.secrets.token_hex", lambda count: names.randbytes(count).hex()),
    ):
        for command in (["index", photos], ["search", "a dog", photos, "--find", "both"]):
            assert ran(list(map(str, command))).code == 0, form
    if form == "earlier":
        legacy_catalog.as_earlier(photos / ".diptych" / "catalog.sqlite")
    if form == "in parts":
        shutil.copy(photos / ".diptych" / "catalog.sqlite", photos / ".diptych" / "catalog-new.sqlite")
    return photos


def _command(photos: Path, choice: Random) -> list[str]:
    found = choice.choice(("pictures", "texts", "both"))
    lines = [
        ["search", "a dog", str(photos), "--find", found],
        ["search", "a dog", str(photos), "--no-update", "--limit", "50", "--copies"],
        ["search", "a dog", str(photos), "--find", found, "--since", "2001", "--path", "*.png", "--min-width", "2"],
        ["search", "a dog", str(photos / "below"), "--relevant", "--diverse", "0.5"],
        ["index", str(photos)],
        ["index", str(photos), "--reindex"],
        ["index", "duplicates", str(photos)],
        ["doctor", str(photos)],
        ["doctor", str(photos), "--repair"],
    ]
    more = (["--json"] if choice.random() < 0.4 else []) + (["--trust"] if choice.random() < 0.5 else [])
    return choice.choice(lines) + more


# --- what is changed


def _file(photos: Path, precious: Path, choice: Random) -> str:
    """One of the index's own files."""
    files = files_below(photos / ".diptych")
    return file_changed(choice.choice(files), precious, choice) if files else "nothing is left"


def _many_links(photos: Path, precious: Path, choice: Random) -> str:
    """Every file is a link to one outside that holds the same."""
    for number_, path in enumerate(files_below(photos / ".diptych")):
        if path.is_symlink() or not path.is_file():
            continue
        target = precious / f"{number_}-{path.name}"
        shutil.move(path, target)
        path.symlink_to(target)
    return "every file is a link to one that holds the same"


def _all_of_it(photos: Path, precious: Path, choice: Random) -> str:
    """The folder itself, or one in it."""
    below = [path for path in sorted((photos / ".diptych").glob("*")) if path.is_dir() and not path.is_symlink()]
    folder = choice.choice([photos / ".diptych", *below])
    moved = precious / "folder" / f"moved-{len(list((precious / 'folder').iterdir()))}"
    if not os.path.lexists(folder):
        return "nothing is left"
    shutil.move(folder, moved)
    if choice.random() < 0.3:
        folder.write_bytes(b"no folder")
        return f"{folder.name} is a file"
    folder.symlink_to(moved)
    return f"{folder.name} is a link to where it was moved"


def _beside(photos: Path, precious: Path, choice: Random) -> str:
    """Something that was not there."""
    place = photos / ".diptych" / choice.choice(BESIDE)
    if os.path.lexists(place) or not place.parent.is_dir():
        return "is there already"
    if choice.random() < 0.3:
        place.symlink_to(precious / choice.choice(("notes.txt", "nothing-yet")))
        return f"{place.name} is a link"
    place.write_bytes(choice.choice((b"", choice.randbytes(600), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))))
    return f"{place.name} is there"


def _picture(photos: Path, precious: Path, choice: Random) -> str:
    """One of the pictures or texts."""
    files = [path for path in files_below(photos) if ".diptych" not in path.parts]
    return file_changed(choice.choice(files), precious, choice) if files else "no pictures are left"


def _head(photos: Path, precious: Path, choice: Random) -> str:
    """The numbers of a cache of vectors, with the sum that goes with them."""
    heads = [path for path in sorted(photos.glob(".diptych/*/rows.json")) if path.is_file() and not path.is_symlink()]
    if not heads:
        return "no cache is left"
    head = choice.choice(heads)
    try:
        said, told = json_with_changes(json.loads(json.loads(head.read_bytes())["head"]), choice)
    except (ValueError, KeyError, TypeError):
        return "rows.json was damaged before"
    written = json.dumps(said)
    head.write_text(json.dumps({"head": written, "crc": zlib.crc32(written.encode())}))
    return f"rows.json: {', '.join(told)}"


def _json_file(photos: Path, precious: Path, choice: Random) -> str:
    """What any file of JSON says."""
    files = [path for path in files_below(photos / ".diptych") if path.suffix == ".json" and path.is_file()]
    if not files:
        return "no JSON is left"
    path = choice.choice(files)
    try:
        said, told = json_with_changes(json.loads(path.read_bytes()), choice)
    except ValueError:
        return f"{path.name} was damaged before"
    path.write_text(json.dumps(said) if choice.random() < 0.9 else text(choice), errors="replace")
    return f"{path.name}: {', '.join(told)}"


def _catalog(photos: Path, precious: Path, choice: Random) -> str:
    """A value in the catalog."""
    path = photos / ".diptych" / choice.choice(("catalog.sqlite",) * 5 + ("catalog-new.sqlite",))
    if path.is_symlink() or not path.is_file():
        return f"{path.name} is no file"
    db = sqlite3.connect(path, isolation_level=None, timeout=1)
    try:
        db.execute("PRAGMA ignore_check_constraints = ON")
        return choice.choice((_value, _value, _value, _value, _fact, _fact, _path, _row, _schema, _vector))(
            db, precious, choice
        )
    except sqlite3.Error as error:
        return f"SQLite does not take a change ({error})"
    finally:
        db.close()


CHANGES: tuple[Change, ...] = (
    *[_catalog] * 12, *[_file] * 5, _many_links, _all_of_it, _beside, _beside, _picture, _head, _head, _json_file,
)  # fmt: skip

# --- in the catalog


def _sql_value(precious: Path, choice: Random) -> Any:
    """A value of any type that a column takes."""
    kind = choice.randrange(6)
    if kind == 0:
        return choice.choice((None, b"", b"\xff\xfe\0", choice.randbytes(choice.choice((7, 32, 5000)))))
    if kind == 1:
        return outside(str(precious), choice)
    value = number(choice) if kind < 4 else choice.choice((text(choice), json.dumps(anything(choice))))
    if isinstance(value, int):
        return max(-(2**63), min(value, 2**63 - 1))
    if isinstance(value, str) and not value.isascii():
        return (
            value.encode("utf-8", "surrogatepass")
            if choice.random() < 0.3
            else value.encode("utf-8", "replace").decode()
        )
    return None if isinstance(value, float) and math.isnan(value) else value


def _set(db: sqlite3.Connection, table: str, column: str, value: Any, where: str) -> str:
    is_text = isinstance(value, bytes) and len(value) % 2  # some as text that is no UTF-8
    db.execute(f'UPDATE {table} SET "{column}" = {"CAST(? AS TEXT)" if is_text else "?"} WHERE {where}', (value,))
    said = repr(value)
    return f"{table}.{column} is {said if len(said) < 60 else said[:50] + '...'} where {where}"


def _value(db: sqlite3.Connection, precious: Path, choice: Random) -> str:
    table = choice.choice(("files", "files", "items"))
    columns = [row[1] for row in db.execute(f"SELECT * FROM pragma_table_info('{table}')")]
    where = choice.choice(("1", "id = 1", "id = 2", "id % 2"))
    if not columns:
        return f"{table} is gone already"
    return _set(db, table, choice.choice(columns), _sql_value(precious, choice), where)


def _fact(db: sqlite3.Connection, precious: Path, choice: Random) -> str:
    """A fact is another, in its own form where that is JSON, or not there."""
    known = [key for (key,) in db.execute("SELECT key FROM facts ORDER BY key")]
    key = choice.choice([*known, *KEYS])
    (before,) = db.execute("SELECT max(value) FROM facts WHERE key = ?", (key,)).fetchone()
    if choice.random() < 0.15:
        db.execute("DELETE FROM facts WHERE key = ?", (key,))
        return f"the fact {key} is gone"
    value = _sql_value(precious, choice)
    if isinstance(before, str) and before[:1] in ("[", "{") and choice.random() < 0.5:
        value = json.dumps(json_with_changes(json.loads(before), choice)[0])
    if key == "exclude" and choice.random() < 0.5:
        value = json.dumps([choice.choice((text(choice), anything(choice))) for _ in range(choice.randrange(1, 4))])
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))
    said = repr(value)
    return f"the fact {key} is {said if len(said) < 60 else said[:50] + '...'}"


def _path(db: sqlite3.Connection, precious: Path, choice: Random) -> str:
    """A file of the catalog lies elsewhere, or is called what no file is."""
    value = choice.choice((outside(str(precious), choice), text(choice).encode("utf-8", "replace").decode()))
    return _set(db, "files", "path", value, f"id = {choice.randrange(1, 5)}")


def _row(db: sqlite3.Connection, precious: Path, choice: Random) -> str:
    """Rows are gone, doubled, or belong to nothing."""
    statement = choice.choice(
        (
            "DELETE FROM files WHERE id = 2", "DELETE FROM items WHERE id = 2", "DELETE FROM facts",
            "DELETE FROM files",
            "INSERT INTO items(file, modality, vector) SELECT 999, modality, vector FROM items",
            "INSERT INTO items(file, modality, vector) SELECT file, 'sound', vector FROM items",
            "INSERT INTO items(id, file, modality, vector) SELECT 1 << 62, file, modality, vector FROM items LIMIT 1",
            "UPDATE items SET id = -id", "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        )
    )  # fmt: skip
    db.execute(statement)
    return statement


def _schema(db: sqlite3.Connection, precious: Path, choice: Random) -> str:
    statement = choice.choice(SCHEMA)
    db.execute(statement)
    return statement


def _vector(db: sqlite3.Connection, precious: Path, choice: Random) -> str:
    """Vectors with other numbers, or of another length."""
    numbers = np.full(index_model.DIM, choice.choice((0, np.nan, np.inf, -np.inf, 65504, 1e-8)), np.float16)
    blob = choice.choice(
        (numbers.tobytes(), numbers.tobytes()[:-1], numbers.tobytes() * 2, damaged(numbers.tobytes(), choice))
    )
    db.execute(f"UPDATE items SET vector = ? WHERE {choice.choice(('1', 'id = 1'))}", (blob,))
    return f"a vector of {len(blob)} bytes, {numbers[0]}"
