"""Processes that read: a file that hangs, kills or vanishes costs itself alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_files import BLUE, RED, encoded, left_and_right
from PIL import Image

from diptych.errors import ReaderProcessError
from diptych.media.items import File, FileContents
from diptych.media.preprocessing import Preprocess
from diptych.media.reading import readers as readers_module
from diptych.media.reading.child_process import ChildProcess
from diptych.media.reading.reader_process import sendable
from diptych.media.reading.readers import AHEAD, ReaderPool
from diptych.media.scanning.scan import scan

SPEC = Preprocess(32)
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 small pictures, each of its own grey."""
    folder = tmp_path_factory.mktemp("many")
    for value in range(200):
        Image.new("RGB", (40, 40), (value,) * 3).save(folder / f"{value:03}.png")
    return folder


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 169 megapixels in a small file: it takes a second and 169 MB to decode, and is allowed."""
    side, packer = 13_000, zlib.compressobj(1)
    row = b"\4" + b"\0" * side  # Paeth's filter, the slowest
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path = tmp_path_factory.mktemp("slow") / "slow.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def reasons(contents: list[FileContents]) -> dict[str, int]:
    return dict(Counter(one.failure.reason if one.failure else "read" for one in contents))


def wait_until(holds: Callable[[], bool]) -> None:
    """For ever, if it does not: the test's own limit ends that."""
    while not holds():
        time.sleep(0.01)


def patient(folder: Path, count: int | None = None) -> list[File]:
    """The files of a folder, as if they were so large that they have hours."""
    return [file._replace(size=10**12) for file in sorted(scan(folder))[:count]]


def state(pid: int) -> str:
    """The kernel's letter: T for a process that was stopped, Z for one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def is_alive(pid: int) -> bool:
    return state(pid) != "Z"


def test_each_file_once_with_its_own_pixels(folder: Path) -> None:
    files = list(scan(folder))
    with ReaderPool(folder, SPEC, processes=2) as readers:
        for _ in range(2):  # the same processes serve a second time
            found = list(readers.read(iter(files)))
            assert sorted(one.file for one in found) == files
            for one in found:
                (part,) = one.parts
                np.testing.assert_array_equal(part.pixels, np.full((32, 32, 3), int(one.file.path[:3]), np.uint8))
        pids = readers.pids
        assert len(pids) == 2
    assert not any(map(is_alive, pids))


def test_nothing_to_read_starts_nothing(tmp_path: Path) -> None:
    with ReaderPool(tmp_path, SPEC) as readers:
        assert list(readers.read([])) == []
        assert readers.pids == []


def test_files_are_taken_no_further_ahead_than_that(folder: Path) -> None:
    taken = 0

    def files() -> Iterator[File]:
        nonlocal taken
        for file in [*scan(folder)] * 3:
            taken += 1
            yield file

    with ReaderPool(folder, SPEC, processes=1) as readers:
        for handed, _ in enumerate(readers.read(files()), start=1):
            assert taken - handed <= AHEAD
        assert handed == 600


def test_waiting_pixels_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "BUFFER_BYTES", 5 * 32 * 32 * 3)
    most, real = 0, readers_module._Buffer.put

    def put(self: readers_module._Buffer, item: FileContents) -> None:
        nonlocal most
        real(self, item)
        most = max(most, len(self._items))

    monkeypatch.setattr(readers_module._Buffer, "put", put)
    with ReaderPool(folder, SPEC, processes=2) as readers:
        for count, _ in enumerate(readers.read(scan(folder)), start=1):
            if count == 50:
                wait_until(lambda: most == 5)  # meanwhile all the others could be read
        assert count == 200
    assert most == 5


def test_a_slow_file_is_ended_and_the_next_are_read(slow: Path, folder: Path) -> None:
    late = File(f"../{slow.parent.name}/{slow.name}", "picture", 0, 0)
    with ReaderPool(folder, SPEC, processes=1, timeout_s=0.4, follow_links=True) as readers:
        found = list(readers.read([late, *patient(folder, 20)]))
    assert reasons(found) == {"timed out": 1, "read": 20}
    (failure,) = [one.failure for one in found if one.failure]
    assert failure.message == f"{late.path}: timed out. It was not read within 0.4 s."


def test_a_large_file_has_more_time(slow: Path) -> None:
    late = File(slow.name, "picture", 10**12, 0)  # as if it were: a hundred thousand seconds
    with ReaderPool(slow.parent, SPEC, processes=1, timeout_s=0.15) as readers:
        assert reasons(list(readers.read([late]))) == {"read": 1}


@posix
def test_what_takes_too_much_memory_is_too_large(slow: Path, folder: Path) -> None:
    late = File(f"../{slow.parent.name}/{slow.name}", "picture", 0, 0)
    with ReaderPool(folder, SPEC, processes=1, memory_bytes=300 * 2**20, follow_links=True) as readers:
        found = list(readers.read([late, *scan(folder)]))
    assert reasons(found) == {"too large": 1, "read": 200}


@posix
def test_processes_that_stand_still_are_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves while the process stands still, and only then."""
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 20 * any(state(pid) == "T" for pid in readers.pids)
        return now_s

    monkeypatch.setattr("diptych.media.reading.child_process.time", SimpleNamespace(monotonic=clock))
    with ReaderPool(folder, SPEC, processes=1) as readers:
        found = []
        for one in readers.read(scan(folder)):
            found.append(one)
            if len(found) in (1, 40):
                os.kill(readers.pids[0], signal.SIGSTOP)
    assert len({one.file for one in found}) == len(found) == 200
    assert reasons(found) == {"read": 198, "timed out": 2}


@posix
def test_a_process_that_dies_costs_one_file(folder: Path) -> None:
    with ReaderPool(folder, SPEC, processes=2) as readers:
        found = []
        for one in readers.read(scan(folder)):
            found.append(one)
            if len(found) in (20, 100):
                os.kill(readers.pids[len(found) == 100 and -1], signal.SIGKILL)
    assert len({one.file for one in found}) == len(found) == 200
    assert reasons(found)["read"] >= 198
    messages = [one.failure.message for one in found if one.failure]
    assert all("crashed. It ended the process that read it (signal 9)" in message for message in messages)


def test_a_read_may_be_left(folder: Path) -> None:
    with ReaderPool(folder, SPEC, processes=2) as readers:
        for _ in range(2):
            reading = readers.read(scan(folder))
            next(reading)
            pids = readers.pids
            reading.close()
            assert not any(map(is_alive, pids))
        assert len(list(readers.read(scan(folder)))) == 200


def test_one_read_at_a_time(folder: Path) -> None:
    with ReaderPool(folder, SPEC, processes=1) as readers:
        first = readers.read(scan(folder))
        next(first)
        with pytest.raises(RuntimeError, match="already reading"):
            next(readers.read([]))
        first.close()


def test_closed_while_reading(folder: Path) -> None:
    with ReaderPool(folder, SPEC, processes=1) as readers:
        reading = readers.read(scan(folder))
        next(reading)
    with pytest.raises(ReaderProcessError, match="closed"):
        list(reading)


def test_an_error_in_the_callers_files_ends_the_processes(folder: Path) -> None:
    def files() -> Iterator[File]:
        yield from list(scan(folder))[:50]
        raise KeyError("the caller's own")

    with ReaderPool(folder, SPEC, processes=1) as readers, pytest.raises(KeyError):
        list(readers.read(files()))
    assert readers.pids == []


def test_processes_that_cannot_start_say_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.media.reading.child_process._COMMAND", "raise SystemExit(3)")
    with (
        ReaderPool(folder, SPEC, processes=1) as readers,
        pytest.raises(ReaderProcessError, match=r"did not start.*exit code 3"),
    ):
        list(readers.read(scan(folder)))
    monkeypatch.undo()
    readers = ReaderPool(folder, SPEC, processes=1)
    readers._workers[0]._settings["spec"]["size_px"] = "wide"
    with readers, pytest.raises(ReaderProcessError, match=r"(?s)Traceback.*size_px='wide'"):
        list(readers.read(scan(folder)))


def test_arguments(folder: Path) -> None:
    for options in ({"processes": 0}, {"timeout_s": 0}):
        with pytest.raises(ValueError, match="wanted 1 or more"):
            ReaderPool(folder, SPEC, **options)


def test_a_module_in_the_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "numpy", "PIL", "queue"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken in')")
    (tmp_path / "a.png").write_bytes(encoded(left_and_right(RED, BLUE), "PNG"))
    monkeypatch.chdir(tmp_path)
    with ReaderPool(".", SPEC, processes=1) as readers:
        assert reasons(list(readers.read(scan(".")))) == {"read": 1}


@posix
def test_ctrl_c_goes_to_the_parent_alone(folder: Path) -> None:
    with ReaderPool(folder, SPEC, processes=1) as readers:
        list(readers.read(list(scan(folder))[:1]))
        (pid,) = readers.pids
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        assert reasons(list(readers.read(scan(folder)))) == {"read": 200}
        assert readers.pids == [pid]


@posix
def test_processes_end_with_their_parent(folder: Path) -> None:
    code = (
        "import sys\n"
        "from diptych.media.preprocessing import Preprocess\nfrom diptych.media.reading.readers import ReaderPool\n"
        "from diptych.media.scanning.scan import scan\n"
        "readers = ReaderPool(sys.argv[1], Preprocess(32), processes=2)\n"
        "list(readers.read(scan(sys.argv[1])))\nprint(*readers.pids, flush=True)\nsys.stdin.read()"
    )
    pipes: dict = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.kill()
    wait_until(lambda: not any(map(is_alive, pids)))


@posix
def test_a_decoder_that_hangs_without_a_parent_is_ended_by_the_kernel(slow: Path) -> None:
    settings = {"root": sendable(str(slow.parent)), "spec": asdict(SPEC), "memory_bytes": None, "follow_links": False}
    process = ChildProcess(settings)
    process.wait_until_ready()
    process.send([slow.name, "picture", -9.95])  # of its ten seconds of grace, 50 ms are left
    with pytest.raises(EOFError):
        process.receive(3600)
    assert process.end() == f"signal {int(signal.SIGALRM)}"


def test_orders_and_answers_say_any_path() -> None:
    from diptych.media.reading.reader_process import path

    for name in ("a\nb.jpg", "\N{PILE OF POO}.jpg", os.fsdecode(b"\xff\xfe.jpg"), "\u05d0"):
        assert path(json.loads(json.dumps(sendable(name)))) == name
