"""The environment variable that turns bfloat16 off."""

import os

from diptych.errors import ArgumentError

SWITCH = "DIPTYCH_BFLOAT16"
_VALUES = {"": True, "1": True, "on": True, "0": False, "off": False}


def allows_bfloat16() -> bool:
    """Whether bfloat16 may be used, on devices that have it: unless DIPTYCH_BFLOAT16=0 in the environment. Raises
    ArgumentError if the variable is neither 0 nor 1."""
    word = os.environ.get(SWITCH, "")
    try:
        return _VALUES[word.strip().lower()]
    except KeyError:
        raise ArgumentError(f"{SWITCH}={word!r} is not known; wanted 0 (compute without bfloat16) or 1.") from None
