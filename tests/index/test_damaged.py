"""Damaged files of every picture format: none is fatal, and the readable part equals that of the format's own
decoder."""

from __future__ import annotations

import random
from pathlib import Path

from damaged import LEAST, compared, drawn, write


def test_damaged_files_are_read_as_other_decoders_read_them(tmp_path: Path) -> None:
    """Always tifffile, and the tools for PNG, JPEG, HEIC and AVIF if they are installed."""
    write(drawn(), tmp_path / "files", 160, random.Random(7))
    outcomes = compared(tmp_path / "files", tmp_path)
    assert len(outcomes) == 160
    assert not {"crashed", "timed out"} & {one.reason for one in outcomes}
    assert sum(one.reason is None for one in outcomes) > 40
    assert [one for one in outcomes if one.alike is not None and one.alike < LEAST] == []
    assert any(one.alike for one in outcomes if one.name.endswith(".tif"))
