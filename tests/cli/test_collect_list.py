"""`diptych collect list`: what it leaves as it was in the process that calls it."""

import gc
from pathlib import Path

import pytest
from click.testing import CliRunner

from diptych.cli.collect_list import command


def test_the_garbage_collector_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = (gc.get_threshold(), gc.get_freeze_count()), list[bool]()

    def interrupted(*_: object, **__: object) -> None:
        seen.append(gc.get_threshold() != before[0] and gc.get_freeze_count() > before[1])
        raise MemoryError

    monkeypatch.setattr("diptych.collect.lists.collecting.collect_list", interrupted)
    (tmp_path / "list.csv").write_text("url,caption\n")
    arguments = [str(tmp_path / "list.csv"), str(tmp_path / "out"), "--contact", "a@example.org"]
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert isinstance(done.exception, MemoryError)
    assert seen == [True]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
