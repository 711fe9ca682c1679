"""What the log of a server says about its folder."""

import logging
from pathlib import Path

import pytest
from PIL import Image

import diptych
from diptych.serve.library.updating import Updating


def told(updating: Updating, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "diptych.serve"):
        updating._update()
    return [record.getMessage() for record in caplog.records]


def test_each_change_is_told_and_what_stayed_is_not(
    tiny: diptych.Embedder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with diptych.open_index(tmp_path, model=tiny) as index:
        updating = Updating(index, watching=False)
        assert told(updating, caplog) == ["there is nothing to index in the folder yet: no pictures, films or texts"]
        Image.new("RGB", (32, 24), "navy").save(tmp_path / "sea.png")
        (tmp_path / "torn.jpg").write_bytes(b"no picture")
        (line,) = told(updating, caplog)
        assert line.startswith("indexed in ")
        assert line.endswith(
            "1 added; 1 file, 1 picture and 0 texts; left out 1 (1 not an image): diptych doctor names them"
        )
        assert told(updating, caplog) == []
        (tmp_path / "sea.png").unlink()
        assert "1 removed; 0 files" in told(updating, caplog)[0]
