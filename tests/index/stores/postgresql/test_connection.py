"""A server that refuses, fails, freezes or goes away: what is said, how soon, and what it never contains."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import psycopg
import pytest

from diptych.errors import ArgumentError, IndexBusyError, StoreError
from diptych.index.filters.filters import Filters
from diptych.index.stores.postgresql.connection import Connection, Database
from diptych.index.stores.postgresql.store import PostgreSQLStore
from diptych.index.stores.uri import StoreURI
from tests.postgresql import server, started
from tests.stored_items import FACTS, stored_block

SECRET = "hunter2'%\\\"@/#?"


def opened(address: str, **options: float) -> PostgreSQLStore:
    return PostgreSQLStore(StoreURI.parse(address), **options)  # type: ignore[arg-type]


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database(StoreURI.parse(server().uri()), timeout_s=30)
    yield database
    database.close()


def pid_of(database: Database) -> int:
    return database.run(lambda connection: connection.info.backend_pid)


def terminate(pid: int) -> None:
    with psycopg.connect(server().address(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


def slept(connection: Connection) -> None:
    connection.execute("SELECT pg_sleep(600)")


def slept_without_a_limit(connection: Connection) -> None:
    connection.execute("SET LOCAL statement_timeout = 0")
    slept(connection)


def stopped_while_it_sleeps(database: Database, stop: Callable[[int], None]) -> StoreError:
    """The error of a query that runs when its server process, of this number, is stopped."""
    pid, errors = pid_of(database), list[StoreError]()

    def run() -> None:
        try:
            database.run(slept_without_a_limit)
        except StoreError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with psycopg.connect(server().address(), autocommit=True) as other:
        query = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        while thread.is_alive() and other.execute(query, [pid]).fetchone() != ("PgSleep",):
            time.sleep(0.01)
    stop(pid)
    thread.join(60)
    return errors[0]


def test_a_wrong_password_is_said_and_not_shown() -> None:
    store = opened(server().address(password=SECRET))
    with pytest.raises(StoreError, match="password authentication failed") as found:
        store.facts()
    assert "Check the user, the password" in str(found.value)
    assert SECRET not in str(found.value)
    assert quote(SECRET, safe="") not in f"{found.value} {store!r} {store.name}"


def test_a_password_of_the_environment_is_used_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    address = server().address().replace(":" + quote(server().password, safe=""), "")
    monkeypatch.setenv("PGPASSWORD", server().password)
    assert not opened(f"{address}#none").exists
    database = Database(StoreURI.parse(address), timeout_s=30)
    with pytest.raises(StoreError) as found:
        database.run(lambda connection: connection.execute(f'SELECT "{server().password}"'))  # the server quotes it
    assert "***" in str(found.value)
    assert server().password not in str(found.value)
    database.close()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hunter%2zz@host/db",
        "postgresql://me:hunter2@host/db?hunter2",
        "postgresql://me:hunter2@[::1/db",
    ],
)
def test_an_address_that_cannot_be_parsed_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(ArgumentError) as found:
        opened(address)
    assert "hunter2" not in str(found.value).replace("?hunter2", "")
    assert "hunter%2zz" not in str(found.value)


def test_a_server_that_is_down_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = opened(server()._replace(port=port).uri())
    with pytest.raises(StoreError, match=r"cannot be reached: .*\. Is the server up") as found:
        store.set_facts(FACTS)
    assert server().password not in str(found.value)


def test_a_database_that_is_not_there_is_said() -> None:
    with pytest.raises(StoreError, match='"nowhere" does not exist'):
        opened(server().address(database="nowhere")).facts()


def test_a_lost_connection_is_opened_again(database: Database) -> None:
    first = pid_of(database)
    terminate(first)
    assert pid_of(database) != first


def test_a_query_whose_connection_is_lost_is_repeated_once(database: Database) -> None:
    tries = list[int]()

    def ended(connection: Connection) -> None:
        tries.append(connection.info.backend_pid)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreError, match="terminating connection"):
        database.run(ended)
    assert len(set(tries)) == 2


def test_a_server_that_is_killed_mid_query_is_said(caplog: pytest.LogCaptureFixture) -> None:
    own_server = started()
    database = Database(StoreURI.parse(own_server.uri()), timeout_s=30)
    pid_of(database)
    errors = list[str]()

    def run() -> None:
        with pytest.raises(StoreError) as found:
            database.run(slept)
        errors.append(str(found.value))

    thread = threading.Thread(target=run)
    with psycopg.connect(own_server.address(), autocommit=True) as other, caplog.at_level(logging.DEBUG):
        thread.start()
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while thread.is_alive() and other.execute(asleep).fetchone() == (0,):
            time.sleep(0.01)
        own_server.process.send_signal(signal.SIGQUIT)
        thread.join(60)
    database.close()
    own_server.stop()
    assert errors
    assert own_server.password not in f"{errors} {caplog.text}"


def test_a_frozen_server_is_given_up_within_the_time_limit() -> None:
    database = Database(StoreURI.parse(server().uri()), timeout_s=1.5)
    frozen = list[int]()

    def stop(pid: int) -> None:
        frozen.append(pid)
        os.kill(pid, signal.SIGSTOP)

    try:
        error = stopped_while_it_sleeps(database, stop)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
            terminate(pid)
    assert "no answer within 1.5 seconds" in str(error)
    assert pid_of(database) not in frozen
    database.close()


def test_a_query_that_takes_too_long_is_ended() -> None:
    database = Database(StoreURI.parse(server().uri()), timeout_s=1.5)
    pid = pid_of(database)
    with pytest.raises(StoreError, match=r"no answer within 1\.5 seconds.*prepare"):
        database.run(slept)
    assert pid_of(database) == pid  # the server ended it, and the connection lives on
    database.close()


def test_who_waits_for_another_thread_has_the_whole_time() -> None:
    database = Database(StoreURI.parse(server().uri()), timeout_s=1)
    begun, waited = threading.Event(), list[int]()

    def first(connection: Connection) -> None:
        begun.set()
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SELECT pg_sleep(2.5)")

    threads = [threading.Thread(target=lambda: database.run(first, limit_s=60))]
    threads[0].start()
    begun.wait(60)
    threads.append(threading.Thread(target=lambda: waited.append(pid_of(database))))
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert waited
    database.close()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_is_more_than_nothing(timeout_s: float) -> None:
    with pytest.raises(ArgumentError, match="timeout_s"):
        opened(server().uri(), timeout_s=timeout_s)


def test_a_transaction_in_the_way_of_another_is_repeated(database: Database) -> None:
    tries = list[int]()

    def conflicting(connection: Connection) -> str:
        tries.append(1)
        if len(tries) < 3:
            connection.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        return "done"

    assert database.run(conflicting) == "done"
    with pytest.raises(IndexBusyError, match="at the same time"):
        database.run(lambda connection: connection.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))


def test_a_child_process_leaves_the_connection_to_its_parent(database: Database) -> None:
    first = pid_of(database)
    if not (child := os.fork()):
        os._exit(int(pid_of(database) == first))
    assert os.waitpid(child, 0)[1] == 0
    assert pid_of(database) == first


def test_a_full_disk_is_said_and_nothing_is_stored() -> None:
    """As the server says it, which a test cannot bring about everywhere."""
    store = opened(server().uri())
    store.set_facts(FACTS)
    store.put(stored_block(range(1, 4)))
    schema = store.name.partition("#")[2]
    with psycopg.connect(server().address(), autocommit=True) as other:
        other.execute(
            "CREATE FUNCTION pg_temp.full() RETURNS trigger AS $$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = "
            "'could not extend file'; END $$ LANGUAGE plpgsql".replace("pg_temp", schema)
        )
        other.execute(
            f"CREATE TRIGGER full_disk BEFORE INSERT ON {schema}.items FOR EACH ROW WHEN (new.id > 6) "
            f"EXECUTE FUNCTION {schema}.full()"
        )
        with pytest.raises(StoreError, match=r"could not extend file.*The server's disk is full"):
            store.put(stored_block(range(1, 9)))
        assert store.ids().tolist() == [1, 2, 3]
        assert len(store.select("picture", Filters())) + len(store.select("text", Filters())) == 3
        other.execute(f"DROP TRIGGER full_disk ON {schema}.items")
    store.put(stored_block(range(1, 9)))
    assert store.ids().tolist() == list(range(1, 9))
    store.close()
