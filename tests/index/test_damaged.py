"""Damaged files of every kind of picture: none is fatal, and what is read of one is what its format's decoder reads."""

from __future__ import annotations

import random
from pathlib import Path

from damaged import LEAST, compared, drawn, write


def test_what_is_read_of_damaged_files_is_what_others_read(tmp_path: Path) -> None:
    """With tifffile always, with the tools of PNG, JPEG, HEIC and AVIF where they are installed."""
    write(drawn(), tmp_path / "files", 160, random.Random(7))
    outcomes = compared(tmp_path / "files", tmp_path)
    assert len(outcomes) == 160
    assert not {"crashed", "timed out"} & {one.reason for one in outcomes}
    assert sum(one.reason is None for one in outcomes) > 40
    assert [one for one in outcomes if one.alike is not None and one.alike < LEAST] == []
    assert any(one.alike for one in outcomes if one.name.endswith(".tif"))
