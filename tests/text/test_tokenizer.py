"""Token ids: the vocabulary that is trained here, and the rules that hold for any."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diptych.errors import TokenizerError
from diptych.text.tokenizer import END, START, Tokenizer

CAPTIONS = ["a dog runs over the snow .", "Two dogs play in the snow !", "a child's red ball, 3 cats"] * 30


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, vocab_size=600, context=24)


def test_marks_and_end_id(tokenizer: Tokenizer) -> None:
    """The end token has the highest id, which argmax pooling asks for, and is never 2."""
    tokens = tokenizer(["a dog"])
    assert tokenizer.end_id == tokenizer.vocab_size - 1 > 2
    assert tokens.ids[0, 0] == tokenizer.vocab_size - 2
    assert tokens.ids[0, -1] == tokenizer.end_id
    assert tokens.ids.dtype == np.int64
    assert tokens.mask.all()


def test_vocab_size_is_kept() -> None:
    words = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
    assert Tokenizer.train(words * 3, vocab_size=700).vocab_size == 700
    with pytest.raises(TokenizerError, match="too small"):
        Tokenizer.train(CAPTIONS, vocab_size=300)


def test_training_is_the_same_in_every_process() -> None:
    """On words whose merges are all equally frequent, where only the order of ids can break ties."""
    script = (
        "from diptych.text.tokenizer import Tokenizer; import hashlib;"
        "words = [a + b + c for a in 'bdfgklmnprst' for b in 'aeiou' for c in 'bdfgklmnprst'];"
        "print(hashlib.md5(Tokenizer.train(words * 2, vocab_size=900).to_json().encode()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(4)
    ]
    assert len({run.stdout for run in runs}) == 1


def test_merges_are_learnt(tokenizer: Tokenizer) -> None:
    assert tokenizer(["snow"]).ids.shape[1] == 3
    assert tokenizer(["qzxw"]).ids.shape[1] > 4


def test_padding_to_the_longest_and_to_the_context(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(["snow", "a dog runs"])
    assert tokens.ids.shape[1] == 5
    assert tokens.mask.tolist() == [[True, True, True, False, False], [True] * 5]
    assert not tokens.ids[0, 3:].any()
    full = Tokenizer.from_json(tokenizer.to_json(), context=24, pad_id=7, fill_context=True)(["snow"])
    assert full.ids.shape == (1, 24)
    assert (full.ids[0, 3:] == 7).all()


def test_truncation_is_asked_for_counted_and_keeps_the_end(tokenizer: Tokenizer) -> None:
    long = "dog " * 5000
    with pytest.raises(TokenizerError, match=r"5002 tokens in text 1.*reads 24.*truncate=True"):
        tokenizer(["a dog", long])
    tokens = tokenizer(["a dog", long], truncate=True)
    assert tokens.truncated == 1
    assert tokens.ids.shape == (2, 24)
    assert tokens.ids[1, -1] == tokenizer.end_id


def test_special_tokens_in_text_stay_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer([f"a {END} dog {START}"], truncate=True).ids[0].tolist()
    assert ids.count(tokenizer.end_id) == 1
    assert ids.count(tokenizer.vocab_size - 2) == 1


def test_empty_text_is_start_and_end(tokenizer: Tokenizer) -> None:
    assert tokenizer([""]).ids.tolist() == [[tokenizer.vocab_size - 2, tokenizer.end_id]]
    assert tokenizer([]).ids.shape == (0, 0)


def test_one_string_is_a_mistake(tokenizer: Tokenizer) -> None:
    with pytest.raises(TypeError, match="list"):
        tokenizer("a dog")


def test_case_and_spaces_do_not_matter(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(["A  Dog\n", "a dog"])
    assert (tokens.ids[0] == tokens.ids[1]).all()


@given(st.text(max_size=200))
@example("!: !!")  # the id of a "!" within a word is that of padding
def test_any_text_survives_in_bytes(text: str) -> None:
    """Byte-level: nothing is unknown, so what is decoded holds every letter that was typed."""
    tokenizer = _wide()
    back = tokenizer.decode(tokenizer([text]).ids[0])
    letters = "".join(tokenizer.normalised(text).split())
    assert "".join(back.split()) == letters


_WIDE: list[Tokenizer] = []


def _wide() -> Tokenizer:
    if not _WIDE:
        _WIDE.append(Tokenizer.train(CAPTIONS, vocab_size=600, context=2000))
    return _WIDE[0]


def test_round_trip_through_json(tokenizer: Tokenizer, tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    again = Tokenizer.open(path, context=24)
    assert (again(CAPTIONS).ids == tokenizer(CAPTIONS).ids).all()


def test_transformers_reads_it_alike(tokenizer: Tokenizer, tmp_path) -> None:
    from transformers import PreTrainedTokenizerFast

    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path))
    assert theirs(CAPTIONS[0])["input_ids"] == tokenizer(CAPTIONS[:1]).ids[0].tolist()


def test_a_file_that_is_none_says_so(tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_text("<html>", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        Tokenizer.open(tmp_path / "tokenizer.json")
