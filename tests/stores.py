"""Stores that the conformance suite runs over: each is made empty, and can be opened again."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from diptych.index.stores.store import Store
from diptych.index.stores.uri import StoreURI
from tests import milvus
from tests.postgresql import server

DIM = 32


class MadeStore(NamedTuple):
    """An empty store, and a function that opens it again, as another process would."""

    store: Store
    again: Callable[[], Store]


@contextmanager
def local_store(folder: Path) -> Iterator[MadeStore]:
    (folder / "pictures").mkdir()

    def opened() -> Store:
        return LocalStore(IndexFolder(folder / "pictures"))

    yield MadeStore(opened(), opened)


@contextmanager
def postgresql_store(folder: Path) -> Iterator[MadeStore]:
    uri = StoreURI.parse(server().uri())
    from diptych.index.stores.postgresql.store import PostgreSQLStore

    opened = list[PostgreSQLStore]()

    def again() -> Store:
        opened.append(PostgreSQLStore(uri))
        return opened[-1]

    yield MadeStore(again(), again)
    for store in opened:
        store.close()


@contextmanager
def milvus_lite_store(folder: Path) -> Iterator[MadeStore]:
    for module in ("pymilvus", "milvus_lite"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the wheel of {module} is not installed; it has none for this system")
    with milvus_store(f"milvus://{folder}/items.db") as made:
        yield made


@contextmanager
def milvus_server_store(folder: Path) -> Iterator[MadeStore]:
    with milvus_store(milvus.server().uri()) as made:
        yield made


@contextmanager
def milvus_store(uri: str) -> Iterator[MadeStore]:
    from diptych.index.stores.milvus.store import MilvusStore

    opened = list[MilvusStore]()

    def again() -> Store:
        opened.append(MilvusStore(StoreURI.parse(uri)))
        return opened[-1]

    try:
        yield MadeStore(again(), again)
    finally:
        for store in opened:
            store.close()


MAKERS = {
    "local": local_store,
    "postgresql": postgresql_store,
    "milvus-lite": milvus_lite_store,
    "milvus": milvus_server_store,
}
