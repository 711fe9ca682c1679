"""What differs between two pictures, in words."""

import numpy as np
import pytest

from diptych.cli import OK, USAGE
from diptych.scoring.difference import difference
from tests.conftest import Cli

WORDS = np.eye(3, 4, dtype=np.float32)  # hat, cup, boat


def test_by_hand() -> None:
    """A picture of a cup and one of a hat, in a space whose last axis all pictures share."""
    cup, hat = np.array([0, 0.6, 0, 0.8]), np.array([0.6, 0, 0, 0.8])
    found = difference(cup, hat, WORDS, ("hat", "cup", "boat"), scale=2.0)
    # Less their mean the words are (2, -1, -1) / sqrt 6 and so on; the change is (1, -1, 0, 0) / sqrt 2.
    scores = 2.0 * np.array([3, -3, 0]) / np.sqrt(12)
    expected = np.exp(scores) / np.exp(scores).sum()
    assert found.appeared == pytest.approx(expected)
    assert found.disappeared == pytest.approx(expected[[1, 0, 2]])
    assert found.cosine == pytest.approx(0.64)


def test_the_other_way_round() -> None:
    draw = np.random.default_rng(0).standard_normal((2, 4))
    one, other = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    there, back = (difference(*pair, WORDS, ("a", "b", "c"), scale=5.0) for pair in ((one, other), (other, one)))
    assert there.appeared == pytest.approx(back.disappeared)
    with pytest.raises(ValueError, match="expected two or more to choose from"):
        difference(one, other, WORDS[:1], ("a",), scale=5.0)


def test_command(cli: Cli, pictures, tiny_model, tmp_path) -> None:  # type: ignore[no-untyped-def]
    first, second = pictures / "scene-0.png", pictures / "scene-1.png"
    arguments = ("difference", first, second, "--model", tiny_model)
    said = cli(*arguments, "--words", "hat,cup,cat,boat", "--json")
    assert said.code == OK
    assert set(said.json["came"]) == {"hat", "cup", "cat", "boat"}
    assert sum(said.json["came"].values()) == pytest.approx(1)
    (tmp_path / "words.txt").write_text("hat\ncup\n\nhat\n")
    said = cli(*arguments, "--words-file", tmp_path / "words.txt")
    assert [line.split()[0] for line in said.out.splitlines()] == ["came", "went"]
    assert "nearly the same" in cli("difference", first, first, "--words", "a,b", "--model", tiny_model).err
    assert cli(*arguments, "--words", "hat").code == USAGE
    assert cli(*arguments).code == USAGE
