"""diptych collect filter"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filtered_pairs import best_captions, good, pair, soft, written

from diptych.cli import run
from diptych.cli.exit_codes import FAILED, NOTHING, PARTLY, USAGE


def test_filter_prints_what_each_rule_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [good(0), good(0), pair(soft(1, (40, 40)), "A small cat in the garden"), good(2)]
    folder = written(tmp_path / "in", pairs)
    assert run(["collect", "filter", str(folder), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.split("\n")
    assert printed[0] == "2 of 4 pairs kept"
    assert {tuple(line.split()) for line in printed[1:] if line} == {("1", "near-duplicate"), ("1", "small")}
    assert best_captions(tmp_path / "out") == [each.captions[0].text for each in (good(0), good(2))]
    assert run(["collect", "filter", str(folder), str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["seen"], found["kept"], found["removed"]) == (4, 2, {"near-duplicate": 1, "small": 1})


def test_a_damaged_shard_is_no_success(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [good(0), good(1)], [good(2)])
    content = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").write_bytes(content[: len(content) // 2])
    assert run(["collect", "filter", str(folder), str(tmp_path / "out")]) == PARTLY
    assert best_captions(tmp_path / "out")[-1] == good(2).captions[0].text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--disable-rule", "smal"], "smal"),
        (["--classifier", "yahoo"], "opennsfw or nudenet"),
        (["--concept", "blood"], "a text and a cosine"),
        (["--keep-top", "2"], "keep-top"),
    ],
)
def test_wrong_options_are_named(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", [good(0)])
    assert run(["collect", "filter", str(folder), str(tmp_path / "out"), *options]) in (FAILED, USAGE)
    printed = capsys.readouterr()
    assert said in printed.err
    assert not printed.out


def test_nothing_that_is_worth_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [pair(soft(1, (40, 40)), "A small cat in the garden")])
    assert run(["collect", "filter", str(folder), str(tmp_path / "out")]) == NOTHING
