"""What a stranger may hand over, changed in hundreds of ways: no command breaks a promise; and the fuzzer sees those
that are broken. `python -m tests.fuzzing` runs thousands more."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from fuzzing import watching
from fuzzing.case import write_precious
from fuzzing.values import DOING, anything, damaged, json_with_changes
from fuzzing.watching import Outside, TooLong, limited_time, not_escaped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it watches a process as Linux shows it")

# --- what is watched


@pytest.mark.parametrize("said", DOING)
def test_what_does_something_in_a_terminal_is_seen(said: str) -> None:
    assert not_escaped(f"a line\n  {said}")
    assert not not_escaped(f"a line\n  {said!r}")


def test_colours_and_bars_are_no_fault() -> None:
    assert not not_escaped("\x1b[1;31m 3/7\x1b[0m\r\x1b[2K\x1b[1A\x1b[?25l\tdone\n日本語 é\n")


def test_every_change_outside_is_seen(tmp_path: Path) -> None:
    precious = write_precious(tmp_path)
    (tmp_path / "own").mkdir()
    outside = Outside(tmp_path, [tmp_path / "own"])
    (tmp_path / "own" / "file").write_text("x")
    (precious / "notes.txt").read_text()
    assert outside.changed() == []
    (precious / "notes.txt").write_text("other")
    (precious / "folder" / "more.txt").unlink()
    (precious / "link").symlink_to("nowhere")
    (precious / "secret.png").chmod(0o700)
    names = {line.partition(":")[0] for line in outside.changed()}
    assert names == {f"precious/{name}" for name in ("notes.txt", "folder/more.txt", "link", "secret.png")}


def test_what_goes_on_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CPU_S", 0.2)
    with pytest.raises(TooLong, match="computed"), limited_time():
        all(True for _ in itertools.repeat(None))
    monkeypatch.setattr(watching, "WAIT_S", 0.2)
    reading, writing = os.pipe()
    with pytest.raises(TooLong, match="waited"), limited_time():
        os.read(reading, 1)
    os.close(reading)
    os.close(writing)


def test_who_asks_the_network_is_seen() -> None:
    """In a process of its own, for nobody is deaf again who has begun to listen."""
    script = """
import socket
from fuzzing.watching import Network
network = Network()
for host in ("example.invalid", "127.0.0.1"):
    try:
        socket.create_connection((host, 9), timeout=1)
    except OSError:
        pass
try:
    socket.socket().connect(("192.0.2.1", 80))
except OSError:
    pass
print(network.asked)
"""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["the address of 'example.invalid'", "('192.0.2.1', 80)"])


# --- the same seed makes the same changes


def test_changes_follow_from_the_seed() -> None:
    def made(seed: int) -> list[object]:
        choice = Random(seed)
        value = {"a": [1, {"b": "c"}], "d": 0.5}
        return [
            repr((damaged(b"some bytes" * 9, choice), json_with_changes(value, choice), anything(choice)))
            for _ in range(50)
        ]

    assert made(1) == made(1)
    assert made(1) != made(2)
