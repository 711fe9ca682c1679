"""What a stranger may hand over, changed in hundreds of ways: no command breaks a promise; and the fuzzer sees those
that are broken. `python -m tests.fuzzing` runs thousands more."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from fuzzing import driver, watching
from fuzzing.case import write_precious
from fuzzing.driver import Failure, fuzzed
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


# --- the promises

# Changes to each target: five seconds of one core each. By option there are more.
CASES = {"index": 130, "models": 80, "shards": 80, "tables": 70}


@pytest.mark.slow
@pytest.mark.parametrize("target", CASES)
def test_whatever_is_changed_every_promise_is_kept(target: str, tmp_path: Path) -> None:
    count, failures = fuzzed(target, range(CASES[target]), place=tmp_path)
    assert not failures, "\n\n".join(f"{failure}\n{told(failure)}" for failure in failures[:5])
    assert count == CASES[target]


def told(failure: Failure) -> str:
    """What a failing case was and what it said."""
    return (Path(failure.kept) / "said.txt").read_text()[:3000] if failure.kept else ""


BROKEN = {
    "traceback": "a traceback: KeyError: 'broken'",
    "outside": "changed outside: precious/notes.txt",
    "terminal": "sends to a terminal: ",
    "secret": "tells what stands in a file outside",
    "network": "asked the network for the address of 'example.invalid'",
    "json": "--json is none: NaN is no JSON",
    "silent": "exit code 1 without a word",
    "ended": "ended its process (7)",
}


def test_every_broken_promise_is_found_and_kept(tmp_path: Path) -> None:
    """Also behind one that ended the process; a command that breaks none is not named."""
    count, failures = fuzzed("breaking", range(len(BROKEN)), place=tmp_path)
    assert count == len(BROKEN)
    assert [failure.number for failure in failures] == list(range(len(BROKEN)))
    for (way, what), failure in zip(BROKEN.items(), failures, strict=True):
        assert any(said.startswith(what) for said in failure.what), failure
        assert f"tests.fuzzing breaking --seed 0 --case {failure.number}\n" in told(failure)
        assert way == "ended" or f"changed: {way}\n" in told(failure)


def test_the_most_memory_is_seen() -> None:
    watching.forget_peak()
    before = watching.peak_bytes()
    kept = bytearray(100_000_000)
    kept[::4096] = b"x" * len(kept[::4096])
    del kept
    assert 90_000_000 < watching.peak_bytes() - before < 200_000_000
    watching.forget_peak()
    assert watching.peak_bytes() - before < 50_000_000


def test_the_same_seed_makes_the_same_changes(tmp_path: Path) -> None:
    """In another process, too: what changes follow from is drawn from the seed alone, not from names or orders."""
    one, other = (driver.made_alone("index", 0, range(3, 9), tmp_path / side) for side in "ab")
    assert len(one) == 6
    assert [changes_of(folder) for folder in one] == [changes_of(folder) for folder in other]


def changes_of(folder: str) -> list[str]:
    said = (Path(folder) / "said.txt").read_text()
    return [line for line in said.splitlines() if line.startswith("changed: ")]
