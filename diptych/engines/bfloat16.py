"""Whether bfloat16 is chosen where a processor has it."""

import os

from diptych.errors import ArgumentError

SWITCH = "DIPTYCH_BFLOAT16"
_WORDS = {"": True, "1": True, "on": True, "0": False, "off": False}


def allows_bfloat16() -> bool:
    """Whether a device's bfloat16 may be used: it may, unless the environment says DIPTYCH_BFLOAT16=0. Then a machine
    that has it computes as one that has not. ArgumentError where the variable is neither 0 nor 1."""
    word = os.environ.get(SWITCH, "")
    try:
        return _WORDS[word.strip().lower()]
    except KeyError:
        raise ArgumentError(f"{SWITCH}={word!r} is not known; wanted 0 (compute without bfloat16) or 1.") from None
