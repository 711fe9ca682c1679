"""What the log of a server says about its folder."""

import logging
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import diptych
from diptych.cli.serve import command
from diptych.cli.wording import message_of
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


def test_an_index_that_is_deleted_while_it_is_served_is_made_again(tiny: diptych.Embedder, tmp_path: Path) -> None:
    Image.new("RGB", (32, 24), "navy").save(tmp_path / "sea.png")
    with diptych.open_index(tmp_path, model=tiny) as index:
        updating = Updating(index)
        updating.start()
        try:
            for _ in range(2):
                while not (index.catalog_path.exists() and updating.state == "idle"):
                    assert updating.state != "failed", updating.error
                shutil.rmtree(index.index_dir, ignore_errors=True)
            while not index.catalog_path.exists():
                assert updating.state != "failed", updating.error
        finally:
            updating.close()


def test_who_started_the_server_is_told_which_flag_to_use(
    tiny: diptych.Embedder, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is read-only."""
    Image.new("RGB", (32, 24), "navy").save(tmp_path / "sea.png")

    def refused(*_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30))

    with diptych.open_index(tmp_path, model=tiny) as index:
        updating = Updating(index, watching=False, worded=partial(message_of, command=command))
        monkeypatch.setattr("os.mkdir", refused)
        (line,) = told(updating, caplog)
    assert "cannot be written (Read-only file system). Keep the index elsewhere with --index DIR" in line
    assert updating.error is not None
    assert updating.error in line
