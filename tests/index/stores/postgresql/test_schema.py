"""What is in the database before an index: nothing, another's tables, another version's, and what may not be done."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from diptych.errors import ArgumentError, IndexDirectoryError, IndexModelError, IndexNewerError, StoreError
from diptych.index.filters.filters import Filters
from diptych.index.stores.postgresql.store import PostgreSQLStore
from diptych.index.stores.uri import StoreURI
from tests.postgresql import server
from tests.stored_items import FACTS, stored_block


def opened(address: str) -> PostgreSQLStore:
    return PostgreSQLStore(StoreURI.parse(address))


def run(statement: str, database: str = "postgres") -> list[Any]:
    """A statement of an administrator's."""
    with psycopg.connect(server().address(database=database), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def empty_database() -> Iterator[str]:
    """A database without pgvector, and a role `guest` who may connect."""
    run("CREATE DATABASE empty TEMPLATE template0")
    run("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    yield "empty"
    run("DROP DATABASE empty WITH (FORCE)")
    run("DROP ROLE guest")


@pytest.fixture
def made() -> Iterator[PostgreSQLStore]:
    store = opened(server().uri())
    store.set_facts(FACTS)
    yield store
    store.close()


def schema_of(store: PostgreSQLStore) -> str:
    return store.name.partition("#")[2]


def test_anothers_tables_are_left_alone() -> None:
    store = opened(server().uri())
    schema = schema_of(store)
    run(f"CREATE SCHEMA {schema}")
    run(f"CREATE TABLE {schema}.items AS SELECT 7 AS mine")
    assert not store.exists
    with pytest.raises(StoreError, match="which diptych did not make; it was left alone"):
        store.set_facts(FACTS)
    with pytest.raises(IndexDirectoryError):
        store.put(stored_block([1]))
    assert run(f"SELECT * FROM {schema}.items") == [(7,)]
    assert run(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == [(1,)]
    store.close()


def test_tables_of_the_same_names_and_other_columns_are_said() -> None:
    store = opened(server().uri())
    schema = schema_of(store)
    run(f"CREATE SCHEMA {schema}")
    run(f"CREATE TABLE {schema}.state AS SELECT 7 AS mine")
    for use in (store.facts, lambda: store.set_facts(FACTS), lambda: store.exists):
        with pytest.raises(StoreError, match="Diptych did not make the tables"):
            use()
    store.close()


def test_a_schema_that_is_empty_is_used() -> None:
    store = opened(server().uri())
    run(f"CREATE SCHEMA {schema_of(store)}")
    store.set_facts(FACTS)
    assert store.exists
    store.close()


def test_a_later_format_is_not_read(made: PostgreSQLStore) -> None:
    run(f"UPDATE {schema_of(made)}.state SET format = 99")
    with pytest.raises(IndexNewerError, match="has format 99"):
        made.facts()


def test_an_index_that_is_dropped_is_gone(made: PostgreSQLStore) -> None:
    selection = made.select("picture", Filters())
    run(f"DROP SCHEMA {schema_of(made)} CASCADE")
    assert not made.exists
    with pytest.raises(IndexDirectoryError):
        selection.search(stored_block([1]).vectors[0].astype("float32"), 3)
    made.set_facts(FACTS)
    assert made.exists


def test_the_first_facts_name_a_model() -> None:
    store = opened(server().uri())
    with pytest.raises(ArgumentError, match="lack model, dim"):
        store.set_facts({"fingerprint": "f"})
    with pytest.raises(StoreError, match="halfvec holds 1 to 16,000"):
        store.set_facts(FACTS | {"dim": 20_000})
    assert not store.exists
    store.close()


def test_another_model_is_refused_and_named(made: PostgreSQLStore) -> None:
    with pytest.raises(IndexModelError, match="cannot be added"):
        made.set_facts({"fingerprint": "another", "model": "owner/name"})


def test_of_two_who_make_an_index_at_once_one_model_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found nothing there."""
    first = opened(server().uri())
    second = opened(f"{server().address()}#{schema_of(first)}")
    for store in (first, second):
        monkeypatch.setattr(type(store), "exists", property(lambda self: False))
    first.set_facts(FACTS)
    second.set_facts(FACTS | {"version": "2"})
    with pytest.raises(IndexModelError):
        second.set_facts(FACTS | {"fingerprint": "another"})
    assert first.facts()["fingerprint"] == FACTS["fingerprint"]
    first.close()
    second.close()


def test_facts_hold_any_text(made: PostgreSQLStore) -> None:
    facts = {"root": "/a'b%s\\ \udcff\0\"", "packages": '{"a": "1"}', "number": 1 << 62}
    made.set_facts(facts)
    assert {key: value for key, value in made.facts().items() if key in facts} == facts
    assert str(made.path_of("x.jpg")) == facts["root"] + "/x.jpg"


def test_the_facts_of_the_tables_themselves_cannot_be_set(made: PostgreSQLStore) -> None:
    before = made.facts()
    made.set_facts({"format": 7, "generation": -1, "change.picture": "x"})
    after = made.facts()
    assert after["format"] == before["format"]
    assert after["generation"] > before["generation"]
    assert after["change.picture"] != "x"


def test_who_may_not_add_pgvector_is_told_the_statement(empty_database: str) -> None:
    store = opened(server().address(user="guest", password="guest", database=empty_database))
    with pytest.raises(StoreError, match="must run: CREATE EXTENSION vector;"):
        store.set_facts(FACTS)
    store.close()


def test_a_server_without_pgvector_is_said(empty_database: str, tmp_path: Any) -> None:
    address = server().address(database=empty_database)
    store = opened(f"{address}?options=-c%20extension_control_path%3D{tmp_path}")
    with pytest.raises(StoreError, match="not installed on the server"):
        store.set_facts(FACTS)
    store.close()


def test_a_pgvector_that_is_too_old_is_said(empty_database: str) -> None:
    run("CREATE EXTENSION vector", empty_database)
    run("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'", empty_database)
    store = opened(server().address(database=empty_database))
    with pytest.raises(StoreError, match=r"pgvector 0\.7\.4; wanted 0\.8 or later.*ALTER EXTENSION vector UPDATE"):
        store.set_facts(FACTS)
    store.close()


def test_pgvector_may_lie_in_any_schema(empty_database: str) -> None:
    run('CREATE SCHEMA "the extensions"', empty_database)
    run('CREATE EXTENSION vector SCHEMA "the extensions"', empty_database)
    store = opened(server().address(database=empty_database))
    store.set_facts(FACTS)
    store.put(stored_block([1, 2]))
    assert store.vectors_of([1]).shape == (1, FACTS["dim"])
    store.close()


def test_a_database_of_another_encoding_is_refused() -> None:
    run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    store = opened(server().address(database="latin"))
    with pytest.raises(StoreError, match="the encoding LATIN1; wanted UTF8"):
        store.set_facts(FACTS)
    store.close()
    run("DROP DATABASE latin WITH (FORCE)")


def test_who_may_not_write_is_told(made: PostgreSQLStore, empty_database: str) -> None:
    schema = schema_of(made)
    run(f"GRANT USAGE ON SCHEMA {schema} TO guest")
    run(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO guest")
    guest = opened(server().address(user="guest", password="guest") + f"#{schema}")
    assert guest.facts()["model"] == FACTS["model"]
    for use in (lambda: guest.put(stored_block([1])), lambda: guest.set_facts({"version": "2"})):
        with pytest.raises(StoreError, match=r"permission denied.*Ask the owner"):
            use()
    guest.close()
    run(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM guest")
    run(f"REVOKE ALL ON SCHEMA {schema} FROM guest")
