"""JSON that came from a stranger: read under limits on its bytes, its depth and its numbers."""

from __future__ import annotations

import json
import re
from typing import Any

from diptych.errors import JSONError

MAX_BYTES, MAX_DEPTH = 64 << 20, 64
MAX_VALUES = 30_000_000  # of one text; with its keys each takes some hundred bytes
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.S)  # to the text's end where it is not closed
_BRACKETS = str.maketrans("[]{}", "()()")
_OTHER = re.compile(r"[^()]+")


def parse_json(text: str | bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """What a JSON text says. NaN and the infinities, which JSON has not and Python writes, are None.

    JSONError where it is no JSON, is longer than `max_bytes` (characters, of a string), nested deeper than MAX_DEPTH,
    holds more than MAX_VALUES values, or a whole number of more digits than Python reads (4,300, as it is set).
    """
    if len(text) > max_bytes:
        raise JSONError(f"it has {len(text):,} bytes; at most {max_bytes:,} are read")
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        _check(text)
        return json.loads(text, parse_constant=lambda name: None)
    except RecursionError:  # an older limit than ours, from deep within a program
        raise JSONError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except MemoryError:
        raise JSONError("it takes more memory than there is") from None
    except JSONError:
        raise
    except ValueError as error:  # a number's, too; how to raise that limit is Python's advice and none of ours
        raise JSONError(str(error).partition("; use sys.")[0]) from error


def _check(text: str) -> None:
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > MAX_VALUES:
        raise JSONError(f"it holds more than {MAX_VALUES:,} values")
    if opened > MAX_DEPTH and _is_deep(text):
        raise JSONError(f"it is nested deeper than {MAX_DEPTH} levels")


def _is_deep(text: str) -> bool:
    """Whether pairs of brackets are left when the innermost have been taken away MAX_DEPTH times."""
    left = _OTHER.sub("", _STRING.sub("", text).translate(_BRACKETS))
    for _ in range(MAX_DEPTH):
        if "()" not in left:
            break
        left = left.replace("()", "")
    return "()" in left or left.count("(") > MAX_DEPTH
