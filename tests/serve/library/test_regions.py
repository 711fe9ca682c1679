"""Names of the map's regions."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diptych.serve.library.overview import regions
from diptych.serve.library.overview.regions import WORDS, grouped, named_regions


def model(known: set[str] | None = None) -> Any:
    """Each word is an axis."""
    words = None if known is None else SimpleNamespace(knows=known.__contains__)
    return SimpleNamespace(
        known_words=words,
        scale=20.0,
        embed_texts=lambda texts: np.stack([like(text.removeprefix("a photo of "), 1)[0] for text in texts]),
    )


def like(word: str, count: int) -> np.ndarray:
    vectors = np.zeros((count, len(WORDS)), np.float16)
    vectors[:, WORDS.index(word)] = 1
    return vectors


def test_a_region_has_the_name_that_sets_it_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "COARSE", 3)
    rng = np.random.default_rng(0)
    middles = {"dogs": (0.2, 0.3), "boats": (0.8, 0.6), "cows": (0.3, 0.9)}
    sizes = {"dogs": 80, "boats": 70, "cows": 60}
    positions = np.concatenate([rng.normal(middles[word], 0.03, (size, 2)) for word, size in sizes.items()])
    found = named_regions(model(), np.concatenate([like(word, size) for word, size in sizes.items()]), positions)
    coarse = [region for region in found if region.is_coarse]
    assert {region.name: region.count for region in coarse} == sizes
    for region in coarse:
        assert (region.x, region.y) == pytest.approx(middles[region.name], abs=0.02)


def test_what_is_everywhere_names_nothing() -> None:
    positions = np.random.default_rng(0).random((200, 2))
    assert named_regions(model(), like("dogs", 200), positions) == []


def test_a_word_that_the_model_never_saw_is_no_name() -> None:
    shown = ("dogs", "cats", "boats", "cows")
    positions = np.repeat([[0.2, 0.2], [0.8, 0.8], [0.2, 0.8], [0.8, 0.2]], 100, axis=0)
    vectors = np.concatenate([like(word, 100) for word in shown])
    assert {region.name for region in named_regions(model(), vectors, positions)} == {*shown}
    known = {"dogs", "boats", "cows"}
    assert {region.name for region in named_regions(model(known), vectors, positions)} == known


def test_few_pictures_have_no_regions() -> None:
    assert named_regions(model(), like("dogs", 79), np.zeros((79, 2))) == []


def test_groups_are_those_that_lie_together() -> None:
    positions = np.repeat([[0.1, 0.1], [0.5, 0.9], [0.9, 0.2]], 30, axis=0)
    groups = grouped(positions.astype(np.float32), 3).reshape(3, 30)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0])) == 3
