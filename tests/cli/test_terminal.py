"""What a terminal shows: lines that fit it, bars with words above them, JSON that is short."""

import io
import json
import os
import re
import select
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.cli.options import print_json
from diptych.cli.terminal import cells, folded, progress

COLUMNS = 80


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ("short", 20, "short"),
        ("one two three four", 13, "one two\n    three\n    four"),
        ("wrote /a/long/path/to/x.png", 14, "wrote /a/long/\n    path/to/\n    x.png"),
        ("  abcdefghijklmnopqrst", 15, "  abcdefghijklm\n      nopqrst"),
        ("\u732b" * 8, 14, "\u732b" * 7 + "\n    \u732b"),
        ("a narrow one is left", 9, "a narrow one is left"),
    ],
)
def test_long_lines_are_folded(text: str, width: int, wanted: str) -> None:
    assert folded(text, width) == wanted


@given(st.text(st.sampled_from("ab /\u732b"), max_size=200), st.integers(20, 60))
def test_nothing_is_lost_and_all_fits(text: str, width: int) -> None:
    lines = folded(text, width).split("\n")
    assert max(map(cells, lines)) <= max(width, cells(text.split(" ")[-1]) if len(lines) == 1 else width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_json_has_a_list_of_numbers_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": 0.1 + 0.2, "b": [[1, 2.5], [3, None]], "c": [], "d": {"e": ["x", "y"]}, 5: Path("p"), "f": {}})
    out = capsys.readouterr().out
    numbers, names = "[\n  [1, 2.5],\n  [3, null]\n ]", '{\n  "e": [\n   "x",\n   "y"\n  ]\n }'
    assert out == f'{{\n "a": 0.3,\n "b": {numbers},\n "c": [],\n "d": {names},\n "5": "p",\n "f": {{}}\n}}\n'
    assert json.loads(out)["b"] == [[1, 2.5], [3, None]]


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_what_is_said_while_a_bar_runs_stands_on_lines_of_its_own(
    tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    """In a terminal of 80 columns no line is wider, and the bar is not torn by the line that names the model."""
    raw = in_terminal(["index", str(pictures), "--model", str(tiny_model), "--index", str(tmp_path / "index")])
    lines = [line.rsplit("\r", 1)[-1] for line in plain(raw).replace("\r\n", "\n").split("\n")]
    (named,) = [line for line in lines if "OpenVINO on cpu" in line]
    assert named.startswith(str(tiny_model)[:20])
    assert max(map(cells, lines)) <= COLUMNS, lines


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_results_go_to_stdout_while_a_bar_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows the bar, a file takes the results."""
    import pty

    master, terminal = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    results = io.StringIO()
    with os.fdopen(terminal, "w") as stderr, os.fdopen(master, "rb"):
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(sys, "stdout", results)
        with progress("looking") as advance:
            advance(1, 2)
            print("found")
    assert results.getvalue() == "found\n"


def in_terminal(arguments: list[str]) -> str:
    """All that a command writes to a terminal of COLUMNS columns."""
    import fcntl
    import pty
    import termios

    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", *arguments],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    said = b""
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        try:
            said += os.read(master, 65536) if select.select([master], [], [], 0.1)[0] else b""
        except OSError:  # Linux says so when the last writer is gone
            break
    os.close(master)
    assert process.wait() == 0, said
    return said.decode()


def plain(text: str) -> str:
    """Without colours and cursor movements; a line that is wiped begins anew."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\x1b[2K", "\r"))
