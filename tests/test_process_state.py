"""The watch over what tests leave behind sees what it is there for."""

import sys
from types import ModuleType

import process_state
import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the package with a constant, a table and a cache."""
    made = ModuleType("diptych.made")
    made.LIMIT, made.TABLE = 3, {"a": 1}  # type: ignore[attr-defined]
    exec("import functools\n@functools.cache\ndef able(device): return True", vars(made))
    monkeypatch.setitem(sys.modules, "diptych.made", made)
    monkeypatch.delitem(process_state.CACHES, "diptych.made", raising=False)
    return made


def test_a_variable_a_table_and_a_cache(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = process_state.snapshot()
    assert process_state.differences(before) == []
    module.LIMIT = 4
    module.TABLE["b"] = 2
    module.able("cpu")
    assert process_state.differences(before) == ["diptych.made.LIMIT", "diptych.made.TABLE", "diptych.made.able"]
    module.LIMIT = 3
    del module.TABLE["b"]
    module.able.cache_clear()
    assert process_state.differences(before) == []
    monkeypatch.setenv("DIPTYCH_MADE", "0")
    assert process_state.differences(before) == ["$DIPTYCH_MADE"]
