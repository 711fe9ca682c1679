"""What is done to texts before they become ids, beside what open_clip 3.3 and transformers 5.23 do to 200 odd strings
(tests/golden/texts: make.py says how that was made)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import CleaningError
from diptych.text.cleaning import OPENAI, SIMPLE, TextPreprocessing, checked, cleaned
from diptych.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "texts"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
STRINGS = EXPECTED["strings"]
READINGS = {
    "clip/open_clip": OPENAI,
    "clip/open_clip/canonicalize": TextPreprocessing(("canonicalize", SIMPLE)),
    "clip/transformers/CLIPTokenizer": TextPreprocessing(),
    "t5/open_clip/canonicalize": TextPreprocessing(("canonicalize",)),
    "t5/open_clip/whitespace": TextPreprocessing(("whitespace",)),
    "t5/open_clip/lower": TextPreprocessing(("lower",)),
    "t5/transformers/SiglipTokenizer": TextPreprocessing(("SiglipTokenizer",)),
    "t5/transformers/T5Tokenizer": TextPreprocessing(),
    "gemma/open_clip/canonicalize": TextPreprocessing(("canonicalize",)),
    "gemma/open_clip/whitespace": TextPreprocessing(("whitespace",)),
    "gemma/transformers/GemmaTokenizer": TextPreprocessing(),
    "gemma/transformers/Siglip2Tokenizer": TextPreprocessing(("Siglip2Tokenizer",)),
}
PADS = {"t5": 1, "gemma": 0}  # SigLIP pads with its end token


def opened(source: str, text_preprocessing: TextPreprocessing) -> Tokenizer:
    vocabulary = source.partition("/")[0]
    text = (GOLDEN / vocabulary / "tokenizer.json").read_text(encoding="utf-8")
    pads = {"context": 77} if vocabulary == "clip" else {"context": 64, "pad_id": PADS[vocabulary]}
    return Tokenizer.from_json(text, fill_context=True, text_preprocessing=text_preprocessing, **pads)


def rows(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Padded ids with one of the padding, as the golden ones are."""
    found = tokenizer(texts, truncate=True).ids.tolist()
    for row in found:
        while len(row) > 1 and row[-1] == row[-2]:
            row.pop()
    return found


def test_there_are_200_strings_of_every_source() -> None:
    assert len(set(STRINGS)) == 200
    assert EXPECTED["ids"].keys() == READINGS.keys()


@pytest.mark.parametrize("name", EXPECTED["cleaned"])
def test_texts_are_cleaned_as_open_clip_cleans_them(name: str) -> None:
    for text, wanted in zip(STRINGS, EXPECTED["cleaned"][name], strict=True):
        assert cleaned(text, [name]) == wanted


@pytest.mark.parametrize("source", READINGS)
def test_ids_are_those_of_the_source(source: str) -> None:
    found = rows(opened(source, READINGS[source]), STRINGS)
    if source == "clip/transformers/CLIPTokenizer":  # which pads with the end token, of which a causal tower sees none
        found = [row[:-1] if row[-1] == 0 else row for row in found]
        wanted = [row[:-1] if row[-2:] == [row[-1]] * 2 else row for row in EXPECTED["ids"][source]]
        assert found == wanted
    else:
        assert found == EXPECTED["ids"][source]


@pytest.mark.parametrize("source", [name for name in READINGS if not name.startswith("t5/")])
def test_marks_that_are_typed_stay_text(source: str) -> None:
    """For the peers they steer: nobody here can end a caption by typing its end. (To a unigram vocabulary its marks are
    words like others; there SigLIP's cleaning takes their brackets away.)"""
    tokenizer = opened(source, READINGS[source])
    marks = {"clip": (1398, 1399), "gemma": (1, 2)}[source.partition("/")[0]]
    tokens = tokenizer(EXPECTED["marked"], truncate=True)
    for row, mask in zip(tokens.ids, tokens.mask, strict=True):
        assert not set(row[mask][1:-1].tolist()) & set(marks)


def test_a_tokenizer_keeps_its_own_file() -> None:
    """Though it splits words as the original does, what is saved is what came."""
    text = (GOLDEN / "clip" / "tokenizer.json").read_text(encoding="utf-8")
    plain = Tokenizer.from_json(text)
    assert Tokenizer.from_json(text, text_preprocessing=OPENAI).to_json() == plain.to_json()
    assert json.loads(plain.to_json()) == json.loads(text)


def test_padding_before_the_text() -> None:
    tokenizer = opened("gemma", TextPreprocessing(pad_left=True))
    tokens = tokenizer(["a dog", "a dog on a house"])
    for row, mask in zip(tokens.ids, tokens.mask, strict=True):
        assert row[-1] == 1  # <eos>
        assert mask.tolist() == sorted(mask.tolist())
        assert not row[~mask].any()


@given(st.text(alphabet=st.characters(max_codepoint=126), max_size=60))
def test_what_is_left_to_no_library_is_what_it_would_do(text: str) -> None:
    """ASCII without entities is not shown to ftfy, whose import takes time."""
    import html

    import ftfy

    wanted = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert cleaned(text, ["whitespace"]) == " ".join(wanted.split())


def test_plain_texts_import_nothing() -> None:
    code = (
        "import sys; from diptych.text.cleaning import cleaned;"
        "cleaned('A dog, & a cat!', ['lower']); assert 'ftfy' not in sys.modules;"
        "cleaned('caf\\u00e9', ['lower']); assert 'ftfy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("names", [["lower", "shout"], "lower", [1], None])
def test_an_unknown_way_to_clean_is_named(names: object) -> None:
    with pytest.raises(CleaningError, match="Choose from: lower, whitespace, canonicalize"):
        checked(names)
