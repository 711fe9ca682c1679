"""Filtering by what one caption alone does not show: that its site repeats it, and that many are of its kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filtered_pairs import best_captions, pair, soft, written

from diptych.collect import caption_passes
from diptych.collect.filtering import FilterSettings, filter_shards
from diptych.collect.pairs import Found, Pair
from diptych.errors import ArgumentError, DataError

MOTTO = "The friendly farm in the valley"


def on_site(number: int, *captions: str, site: str = "farm.example") -> Pair:
    return pair(soft(number), *captions, url=f"https://{site}/{number}.jpg")


def kinds(folder: Path) -> Path:
    """Forty dogs, ten cats and a heron, in two shards."""
    captions = [f"A dog beside tree number {number}" for number in range(40)] + ["A cat asleep"] * 10 + ["A heron"]
    pairs = [pair(soft(number), caption) for number, caption in enumerate(captions)]
    return written(folder, pairs[::2], pairs[1::2])


def balancing(queries: Path, most: int, **others: object) -> FilterSettings:
    return FilterSettings(balance=most, queries=str(queries), **others)  # type: ignore[arg-type]


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.txt"
    path.write_text("dog\ncat\nboat\n", encoding="utf-8")
    return path


def test_captions_that_a_site_repeats_are_left_out(tmp_path: Path) -> None:
    pairs = [on_site(number, MOTTO) for number in range(11)]
    pairs += [on_site(11, MOTTO, "A cow in the rain"), on_site(12, MOTTO, site="blog.example")]
    folder = written(tmp_path / "in", pairs[:6], pairs[6:])
    result = filter_shards(folder, tmp_path / "out", FilterSettings())
    assert (result.kept, result.removed) == (2, {"repeated": 11})
    assert sorted(best_captions(tmp_path / "out")) == ["A cow in the rain", MOTTO]
    off = filter_shards(folder, tmp_path / "all", FilterSettings(disabled=("repeated",)))
    assert off.kept == 13


def test_pairs_of_no_known_site_are_not_compared(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [pair(soft(number), MOTTO) for number in range(12)])
    assert filter_shards(folder, tmp_path / "out", FilterSettings()).removed == {}


def test_an_interrupted_count_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [on_site(number, MOTTO) for number in range(10)]  # 10 may be; counted twice they would be too many
    folder = written(tmp_path / "in", pairs[:6], pairs[6:])

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_shards(folder, tmp_path / "out", FilterSettings(), counting=interrupt)
    read, found_in = list[str](), caption_passes._found_in

    def noted(path: Path) -> Iterator[Found]:
        read.append(path.name)
        yield from found_in(path)

    monkeypatch.setattr(caption_passes, "_found_in", noted)
    assert filter_shards(folder, tmp_path / "out", FilterSettings()).kept == 10
    assert read == ["00001.tar"]


@pytest.mark.parametrize("by", ["clip", "metaclip"])
def test_queries_keep_about_so_many_pairs_and_rare_ones_all(by: str, tmp_path: Path, queries: Path) -> None:
    settings = balancing(queries, 12, balance_by=by)
    result = filter_shards(kinds(tmp_path / "in"), tmp_path / "out", settings)
    kept = best_captions(tmp_path / "out")
    dogs = sum("dog" in caption for caption in kept)
    assert dogs == 12 if by == "clip" else 3 < dogs < 25
    assert kept.count("A cat asleep") == 10
    assert result.removed == {"balance": 40 - dogs, "no-query": 1}
    filter_shards(tmp_path / "in", tmp_path / "again", settings)
    assert best_captions(tmp_path / "again") == kept
    filter_shards(tmp_path / "in", tmp_path / "other", replace(settings, seed=1))
    assert best_captions(tmp_path / "other") != kept
    assert not (tmp_path / "out" / ".filter" / "captions.jsonl").exists()


def test_without_a_file_the_queries_are_of_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FilterSettings(balance=12)
    assert filter_shards(kinds(tmp_path / "in"), tmp_path / "out", settings).removed == {}  # no word is frequent
    made = caption_passes.queries_of
    monkeypatch.setattr(caption_passes, "queries_of", lambda captions: made(captions, least_count=10))
    result = filter_shards(tmp_path / "in", tmp_path / "often", replace(settings, seed=1))
    assert [*result.removed] == ["balance"]
    words = " ".join(best_captions(tmp_path / "often"))
    assert 10 <= words.count("dog") < 40
    assert words.count("cat") == 10


def test_rules_of_balancing_can_be_disabled(tmp_path: Path, queries: Path) -> None:
    folder = kinds(tmp_path / "in")
    kept = filter_shards(folder, tmp_path / "heron", balancing(queries, 40, disabled=("no-query",)))
    assert (kept.kept, kept.removed) == (51, {})
    kept = filter_shards(folder, tmp_path / "all", balancing(queries, 1, disabled=("balance",)))
    assert (kept.kept, kept.removed) == (51, {})


def test_what_balancing_cannot_use_is_named_before_the_work(tmp_path: Path, queries: Path) -> None:
    folder = written(tmp_path / "in", [on_site(0, "A dog on a beach")])
    with pytest.raises(ArgumentError, match="how many pairs"):
        FilterSettings(queries=str(queries))
    with pytest.raises(ArgumentError, match="balance=0"):
        FilterSettings(balance=0)
    filter_shards(folder, tmp_path / "out", balancing(queries, 5))
    queries.write_text("# none\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no query"):
        filter_shards(folder, tmp_path / "none", balancing(queries, 5))
    queries.write_text("another dog\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="other settings"):
        filter_shards(folder, tmp_path / "out", balancing(queries, 5))


def test_the_report_tells_of_pairs_and_of_captions(tmp_path: Path, queries: Path) -> None:
    pairs = [on_site(number, "IMG_0001.JPG", "A dog on a beach") for number in range(3)]
    pairs += [on_site(3, "A heron by a lake"), pair(soft(4, (40, 40)), "click here")]
    filter_shards(written(tmp_path / "in", pairs), tmp_path / "out", balancing(queries, 2))
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert (report["pairs"]["seen"], report["pairs"]["kept"]) == (5, 2)
    counts = {name: rule["count"] for name, rule in report["pairs"]["rules"].items() if rule["count"]}
    assert counts == {"balance": 1, "no-query": 1, "small": 1}
    assert report["captions"]["rules"]["file-name"] == {
        "removes": "the name of a file, not of what it shows", "count": 3, "examples": ["IMG_0001.JPG"],
    }  # fmt: skip
    assert report["captions"]["seen"] == 7
