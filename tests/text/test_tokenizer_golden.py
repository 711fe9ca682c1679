"""OpenAI's vocabulary, where its tokenizer.json is at hand: the ids that Hugging Face's tokenizers gave.

The file comes with every CLIP folder on the hub and is not shipped here. Name it in DIPTYCH_OPENAI_TOKENIZER, or put it
beside the checkout as shared/tokenizer/tokenizer.json.
"""

import json
import os
from pathlib import Path

import pytest

from diptych.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
PLACE = Path(os.environ.get("DIPTYCH_OPENAI_TOKENIZER", ROOT.parent / "shared" / "tokenizer" / "tokenizer.json"))
CASES = json.loads((ROOT / "tests" / "golden" / "tokens.json").read_text(encoding="utf-8"))["cases"]
PLAIN = [case for case in CASES if "<|" not in case["text"]]
MARKED = [case for case in CASES if "<|" in case["text"]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    if not PLACE.is_file():
        pytest.skip(f"OpenAI's tokenizer.json is not at {PLACE}")
    return Tokenizer.open(PLACE, context=10**6)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["text"][:24])
def test_ids_are_hugging_faces(tokenizer: Tokenizer, case: dict) -> None:
    assert tokenizer([case["text"]]).ids[0].tolist() == case["huggingface"]


def test_ids_do_not_depend_on_the_batch(tokenizer: Tokenizer) -> None:
    tokens = tokenizer([case["text"] for case in PLAIN])
    for ids, mask, case in zip(tokens.ids, tokens.mask, PLAIN, strict=True):
        assert ids[mask].tolist() == case["huggingface"]


@pytest.mark.parametrize("case", MARKED, ids=lambda case: case["text"][:24])
def test_special_tokens_in_text_stay_text(tokenizer: Tokenizer, case: dict) -> None:
    """The reference takes them for control; here start and end stand once each, at the ends."""
    ids = tokenizer([case["text"]]).ids[0].tolist()
    assert (ids[0], ids[-1]) == (49406, 49407)
    assert not {49406, 49407} & set(ids[1:-1])


def test_truncation_to_77_keeps_the_end(tokenizer: Tokenizer) -> None:
    long = next(case for case in PLAIN if len(case["huggingface"]) > 77)
    cut = Tokenizer.open(PLACE, context=77)([long["text"]], truncate=True)
    assert cut.truncated == 1
    assert cut.ids[0].tolist() == [*long["huggingface"][:76], 49407]
    assert cut.ids[0].tolist() == long["openai"]
