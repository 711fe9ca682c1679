"""Fingerprints of models stay the same from version to version, so that their indexes stay valid."""

from pathlib import Path

import diptych

HF_CLIP = Path(__file__).parents[1] / "golden" / "hf_clip"


def test_fields_that_were_added_later_change_no_fingerprint() -> None:
    assert diptych.load(HF_CLIP, engine="openvino").fingerprint == "fbe14ecb997d1d7fa92127deadc6eb60"
