"""The tables of an index: one schema of that name, with `items`, `facts`, and one row of `state`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from diptych.errors import ArgumentError, IndexDamagedError, IndexNewerError, StoreError
from diptych.index.stores.postgresql.connection import Connection, set_search_path
from diptych.index.stores.postgresql.errors import no_index
from diptych.index.stores.postgresql.texts import escaped, unescaped

FORMAT = 1
REQUIRED = ("fingerprint", "model", "dim")
OWN_FACTS = frozenset(("format", "generation", "change.picture", "change.text"))
MAX_DIM = 16_000  # numbers that a halfvec holds
_OLDEST = (0, 8)  # pgvector that goes on searching until a limit is filled
_INSTALL = "An administrator of the database must run: CREATE EXTENSION vector;"
# Vectors stay in the rows, which a scan reads in order, up to the size of a page. Text is compared byte by byte.
_ITEMS = sql.SQL(
    """CREATE TABLE {items} (
  id bigint PRIMARY KEY, modality text COLLATE "C" NOT NULL, drawn bigint NOT NULL, path text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL, size bigint NOT NULL, mtime_ns bigint, digest bytea, width bigint, height bigint,
  taken_at text COLLATE "C", latitude float8, longitude float8, camera text COLLATE "C", caption text COLLATE "C",
  duration_s float8, reading bigint NOT NULL, tokenizing bigint NOT NULL, at_s float8, line bigint,
  text text COLLATE "C", vector halfvec({dim}) NOT NULL) WITH (toast_tuple_target = 8160)"""
)
_OTHERS = (
    "CREATE INDEX items_drawn ON {items} (modality, drawn)",
    "CREATE INDEX items_path ON {items} (left(path, 500))",  # an index holds 2,704 bytes of a value
    "CREATE INDEX items_digest ON {items} USING hash (digest)",
    "CREATE INDEX items_taken_at ON {items} (left(taken_at, 19)) WHERE taken_at IS NOT NULL",
    'CREATE TABLE {facts} (key text COLLATE "C" PRIMARY KEY, value jsonb NOT NULL)',
    "CREATE TABLE {state} (format bigint NOT NULL, made text NOT NULL, change bigint NOT NULL, "
    "picture bigint NOT NULL, text bigint NOT NULL)",
)
_FOREIGN = """SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') LIMIT 1"""


class State(NamedTuple):
    """What is known of an index without reading its items: a name that no other has, given when it was `made`; a number
    that every `change` of it increases; the items of each modality; and the facts."""

    format: int
    made: str
    change: int
    picture: int
    text: int
    facts: dict[str, Any]

    def count(self, modality: str) -> int:
        """The items of a modality."""
        return self.picture if modality == "picture" else self.text

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.facts["dim"]


class Tables:
    """The names of an index's tables, quoted."""

    def __init__(self, schema: str):
        self.schema = schema
        self.items, self.facts, self.state = (sql.Identifier(schema, name) for name in ("items", "facts", "state"))

    def sql(self, text: str, **more: sql.Composable) -> sql.Composed:
        """A statement of ours in which {items}, {facts}, {state}, {schema} and others are put in, quoted."""
        known = {"items": self.items, "facts": self.facts, "state": self.state, "schema": sql.Identifier(self.schema)}
        return sql.SQL(text).format(**known, **more)  # type: ignore[arg-type]

    def read_state(self, connection: Connection, name: str) -> State:
        """The state. Raises IndexDirectoryError where there is no index, IndexNewerError for one of a later format."""
        values = "(SELECT jsonb_object_agg(key, value) FROM {facts})"
        row = connection.execute(
            self.sql("SELECT format, made, change, picture, text, " + values + " FROM {state}")
        ).fetchone()
        if row is None:
            raise no_index(name)
        if row[0] > FORMAT:
            remedy = "Update diptych, or name another index after the # of the address."
            raise IndexNewerError(f"{name} has format {row[0]}; this diptych reads {FORMAT}.", remedy=remedy)
        facts = {unescaped(key): unescaped(value) for key, value in (row[5] or {}).items()}
        if not isinstance(facts.get("dim"), int) or not all(isinstance(facts.get(key), str) for key in REQUIRED[:2]):
            raise IndexDamagedError(f"{name} lacks facts of its model, or has others than diptych wrote.")
        return State(row[0], row[1], row[2], row[3], row[4], facts)

    def create(self, connection: Connection, name: str, facts: Mapping[str, Any]) -> None:
        """Make the tables, unless another process does so first: others that try wait for it."""
        dim = _checked_dim(facts)
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"diptych {self.schema}"])
        if connection.execute("SELECT to_regclass(%s)", [self.state.as_string(connection)]).fetchone() != (None,):
            return
        _check_server(connection, name)
        if found := connection.execute(_FOREIGN, [self.schema]).fetchone():
            raise StoreError(
                f"{name} cannot be made: the schema {self.schema} of the database has the table {found[0]!a}, which "
                "diptych did not make; it was left alone.",
                remedy="Name another index after the # of the address.",
            )
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self.schema]).fetchone():
            connection.execute(self.sql("CREATE SCHEMA {schema}"))
        connection.execute(_ITEMS.format(items=self.items, dim=sql.Literal(dim)))
        for statement in _OTHERS:
            connection.execute(self.sql(statement))
        connection.execute(self.sql("INSERT INTO {state} VALUES (%s, gen_random_uuid(), 0, 0, 0)"), [FORMAT])

    def is_empty(self, connection: Connection) -> bool:
        """Whether there are no facts: the tables were made in this transaction."""
        return connection.execute(self.sql("SELECT 1 FROM {facts} LIMIT 1")).fetchone() is None

    def write_facts(self, connection: Connection, facts: Mapping[str, Any]) -> None:
        """Add or replace facts; None deletes one. Those that the state gives are left out."""
        put = "INSERT INTO {facts} VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        for key, value in sorted(facts.items()):
            if key in OWN_FACTS:
                continue
            if value is None:
                connection.execute(self.sql("DELETE FROM {facts} WHERE key = %s"), [escaped(key)])
            else:
                connection.execute(self.sql(put), [escaped(key), Jsonb(escaped(value))])
        connection.execute(self.sql("UPDATE {state} SET change = change + 1"))


def _checked_dim(facts: Mapping[str, Any]) -> int:
    missing = [key for key in REQUIRED if facts.get(key) is None]
    if missing:
        raise ArgumentError(f"the first facts of an index lack {', '.join(missing)}.", argument="facts")
    if not 1 <= facts["dim"] <= MAX_DIM:
        raise StoreError(f"vectors of {facts['dim']} numbers; PostgreSQL's halfvec holds 1 to {MAX_DIM:,}.")
    return int(facts["dim"])


def _check_server(connection: Connection, name: str) -> None:
    """Raises StoreError for a database that cannot hold an index, and says what an administrator must do."""
    row = connection.execute("SELECT current_setting('server_encoding'), current_setting('server_version')").fetchone()
    if row and row[0] != "UTF8":
        raise StoreError(f"{name} is in a database with the encoding {row[0]}; wanted UTF8.")
    version = _vector_version(connection)
    if version is None:
        _create_extension(connection, name)
        version = _vector_version(connection)
    numbers = tuple(int(part) for part in (version or "").split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        raise StoreError(
            f"{name} has pgvector {version}; wanted {'.'.join(map(str, _OLDEST))} or later.",
            remedy="An administrator must install a later one on the server and run: ALTER EXTENSION vector UPDATE;",
        )


def _vector_version(connection: Connection) -> str | None:
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return row[0] if row else None


def _create_extension(connection: Connection, name: str) -> None:
    try:
        with connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
        raise StoreError(
            f"{name} needs pgvector, which is not installed on the server.",
            remedy="An administrator must install it (Debian's package is postgresql-VERSION-pgvector). " + _INSTALL,
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        raise StoreError(
            f"{name} needs pgvector, which this user may not add to the database.", remedy=_INSTALL
        ) from None
    set_search_path(connection)
