"""The command in a process of its own: its streams, closed pipes, names that are no text, interrupts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli import FAILED, INTERRUPTED, OK, PARTLY

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and file names of other systems differ")
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start() -> Start:
    """The command in a process of its own, its output as bytes, its streams in strict UTF-8 as in a usual locale."""

    def call(*arguments: object, **options: object) -> subprocess.Popen:
        words = [sys.executable, "-m", "diptych", *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "OMP_NUM_THREADS": "1"}
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, **options}
        return subprocess.Popen(words, **given)  # type: ignore[call-overload]

    return call


def test_in_a_process_of_its_own(start: Start, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """Results on stdout, the rest on stderr, and the exit code is the process's."""
    shutil.copy(pictures / "scene-0.png", tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    process = start("search", "a dog", tmp_path, "--model", tiny_model, "--json")
    out, err = process.communicate()
    assert process.returncode == PARTLY
    assert [Path(hit["path"]).name for hit in json.loads(out)["hits"]] == ["good.png"]
    assert b"left out 1: 1 empty file" in err
    assert b"\x1b" not in err  # no bar where there is no terminal


@POSIX
@pytest.mark.parametrize("name", ["recipes", "compare"])
def test_a_reader_that_has_had_enough(start: Start, tiny_model: Path, pictures: Path, name: str) -> None:
    """As under `| head -1`: no traceback, no complaint, no failure. rich writes the table of compare."""
    arguments = ("train", "--recipes") if name == "recipes" else ("compare", pictures, "a dog", "--model", tiny_model)
    read, write = os.pipe()
    os.close(read)
    process = start(*arguments, stdout=write)
    os.close(write)
    _, err = process.communicate()
    assert process.returncode == OK, err
    assert re.fullmatch(rb"(\S+ \xc2\xb7 (OpenVINO|PyTorch) on .*\n|architecture .*\n)?", err)


@POSIX
def test_names_that_are_no_text(start: Start, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """A name's bytes come out as they are on a line, escaped in JSON (which is Unicode), and replaced in a picture."""
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        shutil.copy(os.fsencode(pictures / "scene-0.png"), name)
    except OSError:
        pytest.skip("this file system takes no such names")
    arguments = ("search", "a dog", tmp_path, "--model", tiny_model)
    process = start(*arguments, "--paths", "--sheet", tmp_path.parent / "sheet.png")
    out, err = process.communicate()
    assert (process.returncode, out) == (OK, name + b"\n"), err
    assert Image.open(tmp_path.parent / "sheet.png").size == (176, 238)  # a title, and two lines under the picture
    (tmp_path / "broken.png").touch()
    process = start("compare", name, "a dog", "--image", tmp_path / "broken.png", "--model", tiny_model, "--json")
    out, err = process.communicate()
    assert os.fsencode(json.loads(out.decode("utf-8"))["pictures"][0]) == name
    assert b"broken.png: empty file" in err
    process = start("search", b"caf\xe9", tmp_path, "--model", tiny_model)
    assert b"contains invalid bytes" in process.communicate()[1]
    assert process.returncode == FAILED


@POSIX
def test_interrupt(start: Start, shards: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a run: exit code 130 and a line, not a traceback."""
    restore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    options = ("--epochs", 10**6, "--batch-size", 32, "--model", "vit-tiny", "--threads", 1, "--vocab-size", 700)
    process = start("train", "--data", shards, "--out", tmp_path / "run", *options, **restore)
    assert process.stderr is not None
    try:
        while b"parameters" not in (line := process.stderr.readline()):
            assert line, "it ended before it began"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED
    assert out == b""
    assert err.strip().splitlines()[-1] == b"diptych: interrupted"
    assert b"Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of another kind")
def test_a_closed_stdout_is_no_traceback(pictures: Path, tiny_model: Path, tmp_path: Path) -> None:
    script = '"$0" -m diptych compare "$1" "a dog" --model "$2" --json >&-'
    said = subprocess.run(["sh", "-c", script, sys.executable, pictures, tiny_model], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("command", "set_by_user", "threads"),
    [("search", "", "1"), ("search", "3", "3"), ("serve", "", "1"), ("index", "", "")],
)
def test_a_search_starts_no_threads_of_numpy(command: str, set_by_user: str, threads: str) -> None:
    """They would take twice the search's processor time; who asks for them gets them."""
    code = (
        "import atexit, os; atexit.register(lambda: print(os.environ.get('OPENBLAS_NUM_THREADS', '')));"
        "from diptych.__main__ import main; main()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment |= {"OPENBLAS_NUM_THREADS": set_by_user} if set_by_user else {}
    said = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, env=environment
    )
    assert said.stdout.splitlines()[-1] == threads
