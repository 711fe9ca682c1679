"""diptych collect forget and datasheet."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn_pairs import drawn_pair

from diptych.cli.collect import command
from diptych.collect.output.shard_writer import ShardWriter


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with ShardWriter(tmp_path / "pairs") as writer:
        for number in range(4):
            writer.add(drawn_pair(number, host=("a.org", "b.org")[number % 2]))
    return tmp_path / "pairs"


def call(*arguments: object) -> tuple[int, str]:
    """The exit code and what was printed on stdout."""
    result = CliRunner().invoke(command, [str(each) for each in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value, result.stdout


def test_a_domain_is_forgotten_and_the_datasheet_says_so(out: Path) -> None:
    code, text = call("datasheet", out, "--json")
    assert (code, json.loads(text)["picture domains"]) == (0, {"a.org": 2, "b.org": 2})
    code, text = call("forget", out, "--domain", "a.org")
    assert (code, text) == (0, f"removed 2 pairs from 1 shard of {out}\n")
    assert json.loads((out / "datasheet.json").read_text())["picture domains"] == {"b.org": 2}


def test_json_says_all(out: Path) -> None:
    code, text = call("forget", out, "--url", "https://b.org/1.jpg", "--json")
    assert code == 0
    assert json.loads(text) == {"pairs": 1, "shards": ["00000.tar"], "indexes": {}, "models": [], "unread": {}}


def test_a_damaged_shard_is_no_success(out: Path) -> None:
    content = (out / "00000.tar").read_bytes()
    (out / "00000.tar").write_bytes(content[:-5000])
    code, text = call("forget", out, "--domain", "a.org", "--json")
    assert code == 3
    assert list(json.loads(text)["unread"]) == ["00000.tar"]
