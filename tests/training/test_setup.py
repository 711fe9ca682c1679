"""What a new model takes from its tokenizer."""

from pathlib import Path

import pytest

from diptych.errors import ArgumentError
from diptych.nets.presets import preset
from diptych.text.tokenizer import Tokenizer
from diptych.training.setup import sized

WORDPIECE = Path(__file__).parents[1] / "golden" / "hf_bert" / "tokenizer.json"


def test_a_tokenizer_without_clip_s_marks_makes_no_new_model() -> None:
    with pytest.raises(ArgumentError, match=r"has no <\|endoftext\|>.*Pass that model as init"):
        sized(preset("vit-tiny"), None, Tokenizer.open(WORDPIECE))
