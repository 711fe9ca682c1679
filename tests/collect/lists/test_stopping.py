"""Runs that are stopped say how to go on, do not report success, and lose or repeat nothing that is finished."""

import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from diptych.cli.exit_codes import FAILED, INTERRUPTED, NOTHING, OK, PARTLY
from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.output.shard_writer import ShardWriter
from tests.collect.lists.little_web import LittleWeb, Page, little_web, picture
from tests.conftest import Cli

HOST = "127.0.1.1"
NUMBER = 12


@pytest.fixture
def web() -> Iterator[LittleWeb]:
    with little_web() as made:
        yield made


@pytest.fixture
def words(web: LittleWeb, tmp_path: Path) -> list[str]:
    """The words of a command that downloads twelve pictures, one at a time."""
    web.pages = {f"/{number}.jpg": Page(picture(number)) for number in range(NUMBER)}
    rows = [f"{web.url(HOST, f'/{number}.jpg')},the picture of row {number}" for number in range(NUMBER)]
    (tmp_path / "list.csv").write_text("\n".join(["url,caption", *rows]))
    options = "--contact me@example.org --allow-network 127.0.0.0/8 --per-host 1 --requests 4 --processes 1"
    return ["collect", "list", str(tmp_path / "list.csv"), str(tmp_path / "out"), *options.split()]


def hold(web: LittleWeb, number: int) -> None:
    """One picture is not answered any more, so that the run stops there."""
    web.pages[f"/{number}.jpg"] = Page(hang=True)


def start(words: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "diptych", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, cwd=Path(__file__).parents[3], preexec_fn=heed_interrupts
    )


def heed_interrupts() -> None:
    """Tests that a shell runs in the background pass on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def urls(out: Path) -> Counter[str]:
    """What is in the shards, also in one that is not finished."""
    whole = [url for path in out.glob("*.parquet") for url in pq.read_table(path)["url"].to_pylist()]
    unfinished = [str(pair.facts["url"]) for path in out.glob(".*.tar.open") for pair in stored_pairs(path)]
    return Counter(whole + unfinished)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_came_and_says_how_to_go_on(
    words: list[str], web: LittleWeb, tmp_path: Path, cli: Cli, how: signal.Signals
) -> None:
    hold(web, 6)
    process = start(words)
    web.wait_for(7)
    process.send_signal(how)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (INTERRUPTED, "")
    assert "the same command goes on" in err
    assert "Traceback" not in err
    kept = urls(tmp_path / "out")
    assert set(kept.values()) <= {1}
    finish(words, web, tmp_path, cli)


def test_a_killed_run_loses_and_repeats_nothing(words: list[str], web: LittleWeb, tmp_path: Path, cli: Cli) -> None:
    """What it wrote and had no time to note is found in its unfinished shard."""
    for stop in (2, 5, 9):
        awaited = len(web.paths()) + 1 + stop - len(urls(tmp_path / "out"))
        hold(web, stop)
        process = start(words)
        web.wait_for(awaited)
        process.kill()
        process.communicate(timeout=300)
        web.pages[f"/{stop}.jpg"] = Page(picture(stop))
    finish(words, web, tmp_path, cli)


def finish(words: list[str], web: LittleWeb, tmp_path: Path, cli: Cli) -> None:
    """The same command asks only for what is not in a shard, and then all are there, once."""
    web.pages |= {f"/{number}.jpg": Page(picture(number)) for number in range(NUMBER)}
    there, before = urls(tmp_path / "out"), len(web.paths())
    said = cli(*words, "--json")
    assert said.code == OK, said.err
    assert said.json["done"] == NUMBER
    assert urls(tmp_path / "out") == {web.url(HOST, f"/{number}.jpg"): 1 for number in range(NUMBER)}
    again = web.paths()[before:]
    assert not {web.url(HOST, path) for path in again} & there.keys()
    assert len(again) == len(set(again)) == NUMBER - len(there)


def test_a_full_disk_ends_the_run_and_nothing_is_lost(
    words: list[str], web: LittleWeb, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, added = ShardWriter.add, [0]

    def full_after_5(writer: ShardWriter, pair: object) -> str:
        added[0] += 1
        if added[0] > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "00000.tar")
        return add(writer, pair)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardWriter, "add", full_after_5)
    said = cli(*words)
    assert (said.code, said.out) == (FAILED, "")
    assert "the disk is full; make room on it" in said.err
    assert "the same command goes on" in said.err
    assert len(urls(tmp_path / "out")) == 5
    monkeypatch.setattr(ShardWriter, "add", add)
    assert cli(*words).code == OK
    assert urls(tmp_path / "out") == {web.url(HOST, f"/{number}.jpg"): 1 for number in range(NUMBER)}


def test_two_runs_in_one_folder(words: list[str], tmp_path: Path, cli: Cli) -> None:
    with ShardWriter(tmp_path / "out"):
        said = cli(*words)
    assert said.code == FAILED
    assert "is writing pairs" in said.err


def test_what_is_printed(words: list[str], web: LittleWeb, tmp_path: Path, cli: Cli) -> None:
    web.pages |= {"/1.jpg": Page(b"", 404), "/2.jpg": Page(picture(2), headers={"X-Robots-Tag": "noai"})}
    said = cli(*words)
    assert said.code == PARTLY
    assert said.out.startswith("10 pairs written in ")
    assert said.out.endswith("10 of 12 addresses are in shards\n")
    assert said.err.splitlines() == [
        "failed: 1 HTTP 404", "refused: 1 noai",
        f"{tmp_path / 'out' / 'failed.csv'} has their addresses; --retry asks for them again",
    ]  # fmt: skip
    web.pages |= {"/1.jpg": Page(picture(1))}
    assert cli(*words, "--retry").code == OK


def test_what_cannot_be_used_is_said_before_the_work(words: list[str], web: LittleWeb, cli: Cli) -> None:
    at = words.index("--contact") + 1
    assert "reaches nobody" in cli(*words[:at], "me", *words[at + 1 :]).err
    assert "no rule is called 'odd'" in cli(*words, "--disable-rule", "odd").err
    assert cli(*words, "--allow-network", "10.0.0.1/8").code == FAILED
    assert web.log == []


def test_nothing_is_there(words: list[str], web: LittleWeb, cli: Cli) -> None:
    web.pages = {}
    assert cli(*words).code == NOTHING
