"""Filtering by what models say: agreement of pictures and words, vectors, classifiers, concepts."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from filtered_pairs import good, kept, pair, soft, written
from PIL import Image

from diptych.collect import filtering
from diptych.collect.filtering import FilterSettings, filter_shards
from diptych.collect.pictures.safety import Concept
from diptych.embedder import load
from diptych.errors import ArgumentError


class Redness:
    """Stands in for a classifier: the share of red in the colours."""

    def scores(self, images: Sequence[Image.Image]) -> list[float]:
        means = [np.asarray(image.convert("RGB"), float).mean((0, 1)) for image in images]
        return [float(mean[0] / mean.sum()) for mean in means]


@pytest.fixture
def red_is_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "open_classifier", lambda name: Redness())


def red(seed: int) -> Image.Image:
    return Image.fromarray((np.asarray(soft(seed)) * (1, 0.2, 0.2)).astype(np.uint8))


@pytest.mark.usefixtures("red_is_unsafe")
def test_unsafe_pictures_are_left_out_or_flagged(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [good(0), pair(red(1), "A red cat near the harbour"), good(2)])
    settings = FilterSettings(classifiers={"opennsfw": 0.6})
    assert filter_shards(folder, tmp_path / "out", settings).removed == {"unsafe": 1}
    flagging = FilterSettings(classifiers={"opennsfw": 0.6}, flags_unsafe=True)
    result = filter_shards(folder, tmp_path / "flagged", flagging)
    assert (result.removed, result.flagged) == ({}, {"opennsfw": 1})
    assert [each.flags for each in kept(tmp_path / "flagged")] == [(), ("opennsfw",), ()]
    assert [round(each.scores["opennsfw"], 1) for each in kept(tmp_path / "flagged")][1] == 0.7


def test_pairs_that_agree_best_stay_with_the_caption_that_fits(tmp_path: Path) -> None:
    pairs = [good(number) for number in range(4)]
    pairs[0] = pair(soft(0), "A tax form on a wooden desk", "A dog near the old harbour")
    folder = written(tmp_path / "in", pairs)
    result = filter_shards(folder, tmp_path / "out", FilterSettings(keep_top=0.5))
    assert result.removed == {"low-agreement": 2}
    model = load()
    wanted = {}
    for each in pairs:
        image = Image.open(io.BytesIO(each.picture.content))
        cosines = model.similarity([image], [words.text for words in each.captions])[0]
        wanted[each.picture.sha256] = (float(cosines.max()), each.captions[int(cosines.argmax())].text)
    best = sorted(wanted.values(), reverse=True)[:2]
    found = kept(tmp_path / "out")
    assert sorted(each.captions[0].text for each in found) == sorted(text for _, text in best)
    assert result.least_agreement == pytest.approx(best[1][0], abs=5e-3)
    for each in found:
        assert each.scores["agreement"] == pytest.approx(wanted[each.picture.sha256][0], abs=5e-3)
    strict = FilterSettings(agreement=best[0][0] + 0.02)
    assert filter_shards(folder, tmp_path / "none", strict).kept == 0


def test_mirrored_copies_are_found_by_vector(tmp_path: Path) -> None:
    mirrored = pair(soft(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "A dog that looks to the left")
    folder = written(tmp_path / "in", [good(0), mirrored, good(1)])
    assert filter_shards(folder, tmp_path / "hash", FilterSettings()).kept == 3
    result = filter_shards(folder, tmp_path / "out", FilterSettings(by_vector=True))
    assert result.removed == {"near-duplicate": 1}


def test_concepts_are_scored_by_their_cosine(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [good(0), good(1)])
    pictures = [Image.open(io.BytesIO(good(number).picture.content)) for number in (0, 1)]
    cosines = load().similarity(pictures, ["a photo of a wave"])[:, 0]
    concept = Concept("a photo of a wave", float(cosines.mean()))
    result = filter_shards(folder, tmp_path / "out", FilterSettings(concepts=(concept,)))
    assert result.removed == {"unsafe": 1}
    (left,) = kept(tmp_path / "out")
    assert left.scores["concept:a photo of a wave"] == pytest.approx(cosines.min(), abs=5e-3)


def test_concepts_are_texts_with_cosines() -> None:
    assert Concept.parsed("a = b=0.25") == ("a = b", 0.25)
    for wrong in ("blood", "=0.2", "blood=much", "blood=2"):
        with pytest.raises(ArgumentError, match="no concept"):
            Concept.parsed(wrong)


@pytest.mark.usefixtures("red_is_unsafe")
@pytest.mark.parametrize("flags_unsafe", [False, True])
def test_the_report_shows_unsafe_pictures_as_a_few_blurred_colours(flags_unsafe: bool, tmp_path: Path) -> None:
    unsafe = pair(red(1), "A red cat near the harbour, call 030 1234567")
    pairs = [good(0), unsafe, pair(red(1).resize((96, 72)), "A small red <b>cat</b>"), good(0)]
    settings = FilterSettings(classifiers={"opennsfw": 0.6}, flags_unsafe=flags_unsafe, disabled=("personal-data",))
    filter_shards(written(tmp_path / "in", pairs), tmp_path / "out", settings)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "030 1234567" not in page
    assert "<b>" not in page
    shown = [
        (is_blurred, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"), float))
        for content, is_blurred in re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="(blurred)?"', page)
    ]
    assert [is_blurred for is_blurred, _ in shown].count("blurred") == 2
    assert ("Flagged pairs" in page) is flags_unsafe
    steps = {bool(is_blurred): np.abs(np.diff(pixels, 2, axis=1)).mean() for is_blurred, pixels in shown}
    assert steps[True] < steps[False] / 3
