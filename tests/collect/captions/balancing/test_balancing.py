"""Balancing over queries: what stays of frequent and of rare ones, reproducibly and in one pass."""

import math
from pathlib import Path

import numpy as np
import pytest

from diptych.collect.captions.balancing.balance import balance, kept_by_clip, kept_by_metaclip
from diptych.collect.captions.balancing.queries import LossyCounter, QueryMatcher, queries_of, read_queries
from diptych.errors import ArgumentError, DataError

CAPTIONS = ["a dog on grass"] * 3000 + ["a zebra"] * 20 + ["a dog and a zebra"] * 10 + ["nothing known"] * 5
QUERIES = ["dog", "zebra", "unicorn"]


def kept(method: str, **settings: object) -> list[str]:
    flags = [*balance(lambda: CAPTIONS, method=method, **settings)]  # type: ignore[arg-type]
    assert len(flags) == len(CAPTIONS)
    return [caption for caption, keep in zip(CAPTIONS, flags, strict=True) if keep]


def test_clip_chooses_exactly_so_many_of_each_query() -> None:
    matcher = QueryMatcher(["dog"])
    flags = kept_by_clip(CAPTIONS, matcher, matcher.count(CAPTIONS), most=100, seed=3)
    assert sum(flags) == 100


def test_a_pair_that_a_rare_query_chose_stays() -> None:
    for method in ("clip", "metaclip"):
        chosen = kept(method, queries=QUERIES, most=100)
        assert chosen.count("a zebra") == 20
        assert chosen.count("a dog and a zebra") == 10
        assert chosen.count("nothing known") == 0


def test_metaclip_keeps_each_query_with_its_probability() -> None:
    """t / count = 300 / 3010 of the dogs: 299 of 3000 are expected, with a standard deviation of 16."""
    chosen = kept("metaclip", queries=QUERIES, most=300)
    assert abs(chosen.count("a dog on grass") - 299) < 5 * math.sqrt(3000 * 0.0997 * 0.9003)


def test_two_frequent_queries_choose_independently() -> None:
    """1 - (1 - 1/4)(1 - 1/2) = 5/8 of the captions that have both."""
    matcher, captions = QueryMatcher(["red", "car"]), ["red car"] * 4000
    counts = np.array([400, 200])
    share = np.mean([*kept_by_metaclip(captions, matcher, counts, most=100)])
    assert abs(share - 5 / 8) < 5 * math.sqrt(5 / 8 * 3 / 8 / 4000)


@pytest.mark.parametrize("method", ["clip", "metaclip"])
def test_the_seed_decides(method: str) -> None:
    first = kept(method, queries=QUERIES, most=50, seed=1)
    assert first == kept(method, queries=QUERIES, most=50, seed=1)
    settings: dict = {"queries": QUERIES, "method": method, "most": 50}
    each = [[*balance(lambda: CAPTIONS, **settings, seed=seed)] for seed in (0, 1)]
    assert each[0] != each[1]


def test_without_queries_the_sets_own_frequent_words_are_limited() -> None:
    chosen = kept("metaclip", most=200)  # the words a, dog, on and grass occur a hundred times
    assert chosen.count("nothing known") == 5  # rare words alone
    assert 200 < len(chosen) < 1500


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        balance(lambda: CAPTIONS, most=0)
    with pytest.raises(ArgumentError, match="clip or metaclip"):
        balance(lambda: CAPTIONS, method="laion")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "caption", "matches"),
    [
        ("dog", "A DOG.", True),
        ("dog", "hotdog stand", False),
        ("hot dog", "a hot-dog stand", True),
        ("hot dog", "hot summer, dog", False),
        ("t-shirt", "White T shirt", True),
        ("富士山", "夏の富士山と湖", True),
        ("hot dog", "hot\ndog", False),
        ("straße", "Alte STRASSE", True),
        ("new york city", "in New York", False),
    ],
)
def test_what_matches(query: str, caption: str, matches: bool) -> None:
    assert QueryMatcher(["unused", query]).find(caption) == ({1} if matches else set())


def test_each_query_counts_once_a_caption() -> None:
    matcher = QueryMatcher(["dog", "Dog", "", "brown dog", "?"])
    assert matcher.queries == ["dog", "brown dog"]
    assert matcher.count(["dog, dog and brown dog", "a dog", "cat"]).tolist() == [2, 1]


def test_queries_of_a_set_are_frequent_words_and_pairs_that_belong_together() -> None:
    captions = ["eiffel tower"] * 100 + [f"the {word}" for word in ("cat", "dog", "cow") for _ in range(400)]
    captions += ["tower"] * 20 + ["rare bird"] * 99
    assert queries_of(lambda: captions) == ["cat", "cow", "dog", "eiffel", "the", "tower", "eiffel tower"]


def test_lossy_counts_are_low_by_no_more_than_they_say() -> None:
    counter: LossyCounter[str] = LossyCounter(1000)
    for at in range(5000):
        counter.add(["often", f"once {at}"])
    assert 5000 - counter.total / 1000 <= counter.counts["often"] <= 5000
    assert len(counter.counts) <= 1001


def test_a_file_of_queries(tmp_path: Path) -> None:
    path = tmp_path / "queries.txt"
    path.write_text("\ufeff# WordNet\ndog\n\n hot dog \ndog\n", encoding="utf-8")
    assert read_queries(path) == ["dog", "hot dog"]
    path.write_text("# nothing\n")
    with pytest.raises(DataError, match="has no query"):
        read_queries(path)
    path.write_text("x" * 2000)
    with pytest.raises(DataError, match="line 1: a list of queries has lines of up to 1000 bytes"):
        read_queries(path)
