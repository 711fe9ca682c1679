"""What works where nothing is installed but what `pip install .` brings."""

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from drawn_files import video

from diptych.cli import FAILED, OK, PARTLY
from diptych.errors import VectorFilesError
from diptych.extras import EXTRAS
from diptych.vectors import tuning
from diptych.vectors.nearest import VectorIndex

ROOT = Path(__file__).parent.parent

RUN = """
import contextlib, io, json, sys
asked, network = [], {"socket.connect", "socket.getaddrinfo", "socket.sendto"}
sys.addaudithook(lambda event, _: event in network and asked.append(event))
from diptych.cli import run
said = []
for words in json.loads(sys.argv[1]):
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    said.append([code, *(each.buffer.getvalue().decode() for each in (out, err))])
assert not asked
print(json.dumps(said))
"""


def _normalised(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.fixture(scope="module")
def base_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with links to what requirements.lock names, and nothing else."""
    folder = tmp_path_factory.mktemp("base") / "venv"
    venv.create(folder, symlinks=os.name != "nt")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    base = {line.partition("==")[0] for line in lines if "==" in line}
    for found in importlib.metadata.distributions():
        if _normalised(found.metadata["Name"]) in base:
            for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if not (packages / top).exists():
                    (packages / top).symlink_to(str(found.locate_file(top)))
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_it_is_light(base_python: Path) -> None:
    """Under 500 MB with all that it needs, of which the package's own model is 24."""
    (packages,) = base_python.parents[1].rglob("site-packages")
    tops = [packages / path.name for path in packages.iterdir()] + [ROOT / "diptych"]
    files = (path for top in tops for path in ([top] if top.is_file() else top.resolve().rglob("*")))
    assert 100e6 < sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink()) < 500e6


def ran(python: Path, home: Path, *commands: str) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each, run one after the other in one process, which asks no other machine."""
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("XDG_")}
    environment = inherited | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", RUN, json.dumps([command.split() for command in commands])],
        cwd=home, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_no_extra_is_in_it(base_python: Path) -> None:
    """The tests below would show nothing if all were there."""
    code = f"from diptych.extras import is_importable; print(*filter(is_importable, {[*EXTRAS, 'jaxtyping']!r}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([base_python, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == []


def test_the_first_commands_need_no_extra(base_python: Path, pictures: Path, tiny_model: Path, tmp_path: Path) -> None:
    photos, model = tmp_path / "photos", f"--model {tiny_model}"
    photos.mkdir()
    for path in sorted(pictures.glob("*.png"))[:4]:
        (photos / path.name).write_bytes(path.read_bytes())
    (first, second, *_) = sorted(photos.iterdir())
    (photos / f"copy of {first.name}").write_bytes(first.read_bytes())
    said = ran(
        base_python,
        tmp_path / "home",
        f"index {photos} {model}",
        f"search cat {photos} {model} --json",
        f"search {photos} {model} --image {first} --sheet {tmp_path}/found.png",
        f"classify {photos} --labels cat,dog {model}",
        f"compare {photos} cat {model}",
        f"locate {first} cat --plot {tmp_path}/map.png {model}",
        f"difference {first} {second} --words cat,dog {model}",
        f"index duplicates {photos}",
        f"doctor {photos}",
    )
    assert [(code, err) for code, _, err in said if code != OK] == []
    assert len(json.loads(said[1][1])["hits"]) == 4
    written = {"/".join(path.relative_to(tmp_path / "home").parts[:2]) for path in (tmp_path / "home").rglob("*/*")}
    assert written <= {".cache/diptych", ".config/diptych"}
    assert {path.name for path in tmp_path.iterdir()} == {"home", "photos", "found.png", "map.png"}
    assert (tmp_path / "found.png").stat().st_size > 1000
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_what_an_extra_brings_is_named(base_python: Path, pictures: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A video costs itself alone; commands that need more say so before they begin."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(min(pictures.glob("*.png")).read_bytes())
    video(photos / "b.mp4", ["red", "blue"])
    index, *others = ran(
        base_python,
        tmp_path / "home",
        f"index {photos} --model {tiny_model}",
        f"compare {photos} cat --plot {tmp_path}/plot.png",
        f"probe {photos}",
        f"embed {photos} {tmp_path}/vectors",
        f"train --data {photos} --out {tmp_path}/run",
    )
    assert index[0] == PARTLY
    assert "b.mp4: needs a package. Videos need PyAV: pip install 'diptych[video]'" in index[2]
    assert [code for code, _, _ in others] == [FAILED] * 4
    wanted = ("matplotlib", "plots"), ("scipy", "probe"), ("pyarrow", "data"), ("matplotlib", "train")
    for (_, _, err), (package, extra) in zip(others, wanted, strict=True):
        assert f"{package}, which" in err
        assert f"pip install 'diptych[{extra}]'" in err


@pytest.mark.parametrize("kept", ["codes", "nothing"])
def test_a_large_set_is_searched_without_faiss(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is read, and what was made with FAISS is made anew."""
    monkeypatch.setattr(tuning, "EXACT_UP_TO", 100)
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((300, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    ids = np.arange(300)
    if kept == "codes":
        VectorIndex.build(tmp_path / "nearest", ids, vectors, stamp="1", kind="approximate")
    monkeypatch.setitem(sys.modules, "faiss", None)
    if kept == "codes":
        with pytest.raises(VectorFilesError, match=r"cannot be read .*faiss"):
            VectorIndex.open(tmp_path / "nearest", stamp="1")
    made = VectorIndex.build(tmp_path / "nearest", ids, vectors, stamp="1")
    assert made.kind == "exact"
    found = VectorIndex.open(tmp_path / "nearest", stamp="1").search(vectors[7].astype(np.float32), 3)
    best = np.argsort(-(vectors.astype(np.float32) @ vectors[7].astype(np.float32)))[:3]
    assert found.ids.tolist() == best.tolist()
