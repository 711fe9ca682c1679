"""Stores of each kind, with BLOCK and without."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.index.catalog.stored_items import Block
from diptych.index.stores.store import Store
from tests.stored_items import BLOCK, COUNT, FACTS
from tests.stores import MAKERS, MadeStore


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeStore]:
    """A store with all of BLOCK."""
    with MAKERS[request.param](tmp_path_factory.mktemp("store")) as made:
        made.store.set_facts(FACTS)
        for start in range(0, COUNT, 400):
            made.store.put(Block(BLOCK.items[start : start + 400], BLOCK.vectors[start : start + 400]))
        yield made
        made.store.close()


@pytest.fixture
def store(made: MadeStore) -> Store:
    """The store with all of BLOCK; not to be changed."""
    return made.store


@pytest.fixture(params=MAKERS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MadeStore]:
    """A store of its own."""
    with MAKERS[request.param](tmp_path) as made:
        yield made
        made.store.close()
