"""What is written into a folder that came from anybody stays in it: links in it lead nowhere."""

import contextlib
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.checkpoint import convert
from diptych.checkpoint.replacement import replace_folder
from diptych.cli import FAILED, OK
from diptych.data.loading.decoding import BadSample
from diptych.errors import DiptychError, OutputError
from diptych.evaluation import results
from diptych.evaluation.report.page import write_report
from diptych.evaluation.tasks.features import EmbeddedPictures, _write_chunk
from diptych.scenes.scene import write_shards
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import open_for_append, refuse_link, subfolder
from diptych.training.config import TrainConfig
from diptych.training.diagnostics.monitor import Monitor, Step
from diptych.training.run import checkpoints
from diptych.training.run.folder import open_run_folder
from diptych.training.run.metrics_file import append_metrics
from diptych.training.run.skipped import SkippedLog
from tests.conftest import GOLDEN, Cli

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")

ROW = {"key": "k", "task": "probe", "dataset": "d", "model": "m", "metrics": {}, "settings": {}, "error": None}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What belongs to somebody: a file, and a folder with a file, a folder of numbers and a hidden one in it."""
    home = tmp_path / "home"
    for name in ("letter.txt", "folder/letter.txt", "folder/000000001/letter.txt", "folder/.hidden/letter.txt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("not yours")
    return home


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that came from anybody."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def step() -> Step:
    return Step(1, 0.1, 0.1, 4.0, 4.0, 1e-3, 14.3, 1.0, 0.0, 32)


def record(out: Path) -> None:
    with Monitor(out, quiet=True) as monitor:
        monitor.step(step())


def skip(out: Path) -> None:
    bad: dict[str, BadSample] = {}
    log = SkippedLog(out, bad, lambda line: None)
    bad["a"] = BadSample("damaged", "a: damaged")
    log.update()
    bad["b"] = BadSample("damaged", "b: damaged")
    log.update()
    log.finish()


def evaluate(out: Path) -> None:
    results.begin(out, "m", ["d"])
    results.append(out, ROW)
    results.begin(out, "m", ["d"])
    write_report(out)


def checkpoint(out: Path) -> None:
    checkpoints.save(out, 1, {}, lambda folder: None)
    checkpoints.save(out, 2, {}, lambda folder: None)


def keep_vectors(out: Path) -> None:
    seen = EmbeddedPictures(np.zeros(1, np.int64), np.ones((1, 2), np.float32), {}, 1)
    _write_chunk(out / "vectors" / "key" / "0.npz", seen)


def rows(out: Path) -> None:
    file, _ = append_metrics(out, 3)
    file.close()


WRITERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "evaluation": (evaluate, ("results.jsonl", "report.html")),
    "rows": (rows, ("metrics.jsonl",)),
    "skipped": (skip, ("skipped.jsonl",)),
    "checkpoint": (checkpoint, ("checkpoints",)),
    "tensorboard": (record, ("tensorboard",)),
    "vectors": (keep_vectors, ("vectors", "vectors/key", "vectors/key/0.npz")),
    "scenes": (lambda out: write_shards(out, 1, size_px=32), ("scenes-train-00000.tar",)),
    "text": (lambda out: atomic_write_text(out / "a", "a"), ("a",)),
    "lines": (lambda out: open_for_append(out / "a").close(), ("a",)),
    "folder": (lambda out: subfolder(out / "a"), ("a",)),
}


@pytest.mark.parametrize("place", ["letter.txt", "folder", "folder/gone.txt", "gone/gone.txt"])
@pytest.mark.parametrize("writer", list(WRITERS))
def test_a_link_in_a_folder_is_not_followed(home: Path, out: Path, writer: str, place: str) -> None:
    """One for each file that is written, wherever it leads: it is replaced, or refused in words."""
    write, names = WRITERS[writer]
    before = content(home)
    for name in names:
        shutil.rmtree(out)
        (out / name).parent.mkdir(parents=True)
        (out / name).symlink_to(home / place)
        with contextlib.suppress(DiptychError, OSError):
            write(out)
        assert content(home) == before, name


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match="fifo"):  # nobody reads it: it would wait for ever
        open_for_append(tmp_path / "fifo")
    with pytest.raises(OutputError, match=r"link is a link, .* remove it"):
        open_for_append(tmp_path / "link")
    with pytest.raises(OutputError, match=r"link is a link, .* remove it"):
        refuse_link(tmp_path / "link")
    with pytest.raises(OutputError, match="file is not a folder"):
        subfolder(tmp_path / "file")
    with pytest.raises(IsADirectoryError):
        open_for_append(tmp_path)


@pytest.mark.parametrize("name", ["model", "checkpoints", "tensorboard"])
def test_a_run_does_not_begin_where_a_link_stands(home: Path, out: Path, name: str) -> None:
    (out / name).symlink_to(home / "folder")
    for resume in (False, True):
        with pytest.raises(OutputError, match=f"{name} is a link"):
            open_run_folder(TrainConfig(data="pairs", out=str(out)), resume)


def test_what_a_killed_conversion_left_is_no_link(home: Path, out: Path) -> None:
    """Under the name of a former model that would be put back, and emptied."""
    before = content(home)
    (out / ".model.old-0123abcd").symlink_to(home / "folder")
    (out / "model").mkdir()
    (out / "model" / "config.json").write_text('{"model_type": "clip"}')
    for _ in range(2):
        replace_folder(out / "model", lambda new: (new / "config.json").write_text("{}"))
        assert content(home) == before
        assert not (out / "model").is_symlink()
        shutil.rmtree(out / "model")


@pytest.mark.parametrize("form", ["hf", "open_clip", "openai"])
def test_a_conversion_writes_only_its_target(home: Path, out: Path, form: str) -> None:
    """Beside it lie links under the names that it needs meanwhile; the target itself may be one that the user made."""
    (out / ".target.old-0123abcd").symlink_to(home / "letter.txt")
    before = content(home)
    if form != "openai":
        (out / "real").mkdir()
        (out / "target").symlink_to(out / "real")
    convert(GOLDEN / "openai_vit" / "openai_vit.pt", out / "target", to=form)  # type: ignore[arg-type]
    assert (out / "target").exists()
    assert content(home) == before


def test_embed_writes_only_below_its_target(tiny_model: Path, home: Path, out: Path, cli: Cli) -> None:
    pictures = out.parent / "pictures"
    pictures.mkdir()
    Image.new("RGB", (40, 40), "red").save(pictures / "a.png")
    (pictures / "a.txt").write_text("a red square")
    before = content(home)
    embed = ("embed", pictures, out, "--model", tiny_model)
    (out / ".lock").symlink_to(home / "letter.txt")
    assert cli(*embed).code == FAILED
    for path in out.iterdir():
        path.unlink()
    assert cli(*embed).code == OK
    assert content(home) == before
    assert np.load(out / "00000.npy").shape[0] == 1
    assert not [path for path in out.iterdir() if path.is_symlink()]


def test_curves_beside_runs_are_not_written_through_a_link(home: Path, out: Path, cli: Cli) -> None:
    rows = [{"step": at, "epoch": at / 10, "elapsed_s": at, "loss": 2.0, "lr": 0.1} for at in (1, 2, 3)]
    (out / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (out / "curves.png").symlink_to(home / "letter.txt")
    before = content(home)
    assert cli("train", "--plot", out).code == OK
    assert content(home) == before
    assert Image.open(out / "curves.png").format == "PNG"


def test_shards_are_whole(out: Path) -> None:
    (path,) = write_shards(out, 2, size_px=32)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 4
