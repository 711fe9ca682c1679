"""Bulk embedding: complete shards, resumed after an interruption, with unreadable inputs named."""

import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import diptych
from diptych.cli import FAILED, OK, PARTLY
from diptych.errors import DataError, IndexBusyError
from diptych.index.bulk.job import Input, embed_in_bulk
from diptych.index.bulk.shard_files import LOCK
from diptych.storage.lock import locked
from tests.conftest import Cli


@pytest.fixture
def album(pictures: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    shutil.copytree(pictures, folder)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "scene-0.txt").write_text("a caption of the first", encoding="utf-8")
    return folder


def test_a_folder_becomes_shards(
    cli: Cli, album: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_BFLOAT16", "0")
    out = tmp_path / "out"
    said = cli("embed", album, out, "--model", tiny_model, "--shard-size", 4, "--dtype", "float32", "--json")
    assert said.code == PARTLY
    assert {key: said.json[key] for key in ("rows", "texts", "shards", "found")} == {
        "rows": 8, "texts": 1, "shards": 3, "found": 0,
    }  # fmt: skip
    assert list(said.json["failures"]) == ["broken.jpg"]
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.glob("*.parquet"))]
    vectors = np.concatenate([np.load(path) for path in sorted(out.glob("*.npy"))])
    paths = [path for table in tables for path in table["path"].to_pylist()]
    assert paths == sorted(paths)
    model = diptych.load(tiny_model)
    np.testing.assert_allclose(vectors, model.embed_images([album / path for path in paths]), atol=1e-5)
    assert tables[0].schema.metadata[b"diptych.fingerprint"].decode() == model.fingerprint
    assert tables[0].column("width").to_pylist()[0] == 64
    (texts,) = [np.load(path) for path in (out / "texts").glob("*.npy")]
    np.testing.assert_allclose(texts, model.embed_texts(["a caption of the first"]), atol=1e-5)


def test_an_interrupted_job_resumes(album: Path, tiny_model: Path, tmp_path: Path) -> None:
    model, out = diptych.load(tiny_model), tmp_path / "out"

    def cut(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_in_bulk(model, album, out, shard_size=3, progress=cut)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("0*.*")}
    assert {path.stem for path in kept} == {"00000"}
    written = embed_in_bulk(model, album, out, shard_size=3)
    assert (written.shards, written.found, written.rows) == (3, 1, 8)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert embed_in_bulk(model, album, out, shard_size=3).found == 3


def test_a_shards_pixels_are_freed(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    class Many:
        def __init__(self) -> None:
            self.names, self.links = [f"{at:03}.png" for at in range(300)], 0
            self.skipped: dict[str, int] = {}

        def read(self, start: int, stop: int) -> Iterator[Input]:
            for name in self.names[start:stop]:
                pixels = np.zeros((32, 32, 3), np.uint8)
                held.append(weakref.ref(pixels))
                assert sum(one() is not None for one in held) < 100
                yield Input(name, pixels)

    monkeypatch.setattr("diptych.index.bulk.job.open_inputs", lambda source, spec, **options: Many())
    assert embed_in_bulk(diptych.load(tiny_model), "anything", tmp_path / "out").rows == 300


def test_another_job_is_not_mixed_in(album: Path, tiny_model: Path, tmp_path: Path) -> None:
    model, out = diptych.load(tiny_model), tmp_path / "out"
    embed_in_bulk(model, album, out)
    with pytest.raises(DataError, match="its dtype differ"):
        embed_in_bulk(model, album, out, dtype="float32")
    job = json.loads((out / "job.json").read_text())
    del job["version of reading"]  # as 0.1.0 wrote it
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "job.json").write_text(json.dumps(job))
    with pytest.raises(DataError, match="its version of reading differ"):
        embed_in_bulk(model, album, tmp_path / "earlier")
    (album / "more.png").write_bytes((album / "scene-1.png").read_bytes())
    with pytest.raises(DataError, match="its inputs differ"):
        embed_in_bulk(model, album, out)
    with pytest.raises(DataError, match=r"contains other files and no job\.json"):
        embed_in_bulk(model, album, album)


def test_two_jobs_in_one_folder(album: Path, tiny_model: Path, tmp_path: Path) -> None:
    model, out = diptych.load(tiny_model), tmp_path / "out"
    out.mkdir()
    with locked(out / LOCK), pytest.raises(IndexBusyError, match="is writing to"):
        embed_in_bulk(model, album, out)
    assert embed_in_bulk(model, album, out).rows == 8


def test_pairs_keep_their_captions(cli: Cli, shards: Path, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("embed", shards, tmp_path / "out", "--model", tiny_model)
    assert said.code == OK, said.err
    table = pyarrow.parquet.read_table(tmp_path / "out" / "00000.parquet")
    texts = pyarrow.parquet.read_table(tmp_path / "out" / "texts" / "00000.parquet")
    vectors = np.load(tmp_path / "out" / "texts" / "00000.npy")
    assert len(table) == 96
    assert len(texts) == len(vectors) >= 96
    assert vectors.dtype == np.float16
    first = texts["text"].to_pylist()[0]
    assert first == table["caption"].to_pylist()[0]
    expected = diptych.load(tiny_model).embed_texts([first], truncate=True)
    np.testing.assert_allclose(vectors[:1].astype(np.float32), expected, atol=2e-3)
    assert json.loads((tmp_path / "out" / "00000.json").read_text())["failures"] == {}


def test_a_folder_without_pictures_is_an_error(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = cli("embed", tmp_path / "empty", tmp_path / "out", "--model", tiny_model)
    assert said.code == FAILED
    assert "contains no pictures; wanted a folder" in said.err
