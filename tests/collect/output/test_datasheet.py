"""The datasheet counts what the shards have, and strangers' words do nothing in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from drawn_pairs import drawn_pair

from diptych.collect.output.datasheet import refresh_datasheet, write_datasheet
from diptych.collect.output.forgetting import forget
from diptych.collect.output.run_log import RUNS, RunRecord, add_run, read_runs
from diptych.collect.output.shard_writer import ShardWriter
from diptych.errors import DataError

RUN = RunRecord(
    "crawl", {"size": 256, "disable_rule": ["length"]}, 1_790_000_000, 1_790_000_060, 12, 4, {"noai": 3, "length": 5}
)


def collected(out: Path) -> None:
    with ShardWriter(out, pairs_per_shard=3) as writer:
        for number in range(4):
            pair = drawn_pair(number, host=("a.org", "b.org")[number == 3], scores={"agreement": number / 4})
            writer.add(replace(pair, flags=("nsfw",) * (number == 1)))


def test_it_counts(tmp_path: Path) -> None:
    collected(tmp_path)
    add_run(tmp_path, RUN)
    add_run(tmp_path, replace(RUN, command="list", left_out={"noai": 1}))
    facts = write_datasheet(tmp_path)
    assert facts == json.loads((tmp_path / "datasheet.json").read_text())
    assert (facts["pairs"], facts["captions"], facts["shards"]) == (4, 8, 2)
    assert facts["picture domains"] == {"a.org": 3, "b.org": 1}
    assert facts["distinct"]["picture domains"] == 2
    assert facts["licences"] == {"CC0-1.0": 4}
    assert facts["origins"] == {"alt": 4, "figcaption": 4}
    assert facts["flags"] == {"nsfw": 1}
    assert facts["sizes"]["width"] == {"least": 24, "median": 24, "95th percentile": 24, "most": 24}
    assert facts["scores"]["agreement"]["median"] == 0.375
    assert facts["collected"] == ["2026-09-21T14:13:20+00:00", "2026-09-21T14:13:23+00:00"]
    assert facts["left out"] == {"length": 5, "noai": 4}
    assert [run["command"] for run in facts["runs"]] == ["crawl", "list"]
    page = (tmp_path / "datasheet.md").read_text()
    sections = [line for line in page.splitlines() if line.startswith("## ")]
    assert sections == [
        f"## {name}" for name in ("Motivation", "Composition", "Collection process",
                                  "Preprocessing, cleaning, labelling", "Uses", "Distribution", "Maintenance")
    ]  # fmt: skip
    assert "| `a.org` | 3 |" in page


def test_unknown_facts_are_named_so(tmp_path: Path) -> None:
    pair = drawn_pair(1)
    bare = replace(pair.found, page_url="", language="", licence="", time_s=0.0, picture_url="http://[broken")
    with ShardWriter(tmp_path) as writer:
        writer.add(replace(pair, found=bare))
    facts = write_datasheet(tmp_path)
    assert facts["licences"] == facts["languages"] == facts["page domains"] == {"not stated": 1}
    assert facts["picture domains"] == {"not stated": 1}
    assert facts["collected"] == []
    assert "at times that were not noted" in (tmp_path / "datasheet.md").read_text()


def test_words_of_strangers_stay_in_their_cells(tmp_path: Path) -> None:
    pair = drawn_pair(1)
    licence = "a` <script>alert(1)</script> | b\n## Heading\x1b[2J"
    with ShardWriter(tmp_path) as writer:
        writer.add(replace(pair, found=replace(pair.found, licence=licence)))
    write_datasheet(tmp_path)
    (row,) = [line for line in (tmp_path / "datasheet.md").read_text().splitlines() if "script" in line]
    assert row.startswith("| `a' <script>alert(1)</script> \\| b ## Heading")
    assert row.count("`") == 2
    assert "\x1b" not in row


def test_it_follows_a_removal(tmp_path: Path) -> None:
    collected(tmp_path)
    refresh_datasheet(tmp_path)
    assert not (tmp_path / "datasheet.json").exists()
    write_datasheet(tmp_path)
    forget(tmp_path, [("domain", "a.org")])
    refresh_datasheet(tmp_path)
    facts = json.loads((tmp_path / "datasheet.json").read_text())
    assert (facts["pairs"], facts["shards"], facts["removed on request"], facts["requests remembered"]) == (1, 1, 3, 1)
    page = (tmp_path / "datasheet.md").read_text()
    assert "a.org" not in page
    assert "1 pair of a picture with 2 captions, in 1 shard." in page


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tables"):
        write_datasheet(tmp_path)
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"00000\.parquet cannot be read"):
        write_datasheet(tmp_path)


def test_a_cut_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    add_run(tmp_path, RUN)
    with (tmp_path / RUNS).open("a") as file:
        file.write('{"command": "cra\n')
    add_run(tmp_path, replace(RUN, command="filter"))
    assert [run.command for run in read_runs(tmp_path)] == ["crawl", "filter"]
    assert read_runs(tmp_path)[0] == RUN
