"""Untrusted JSON, parsed under limits on its bytes, depth, values and numbers."""

from __future__ import annotations

import json
import re
from typing import Any

from diptych.errors import JSONError

MAX_BYTES, MAX_DEPTH = 64 << 20, 64
MAX_VALUES = 30_000_000  # of one text; each takes some hundred bytes with its key
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.S)  # to the end of the text if it is not closed
_BRACKETS = str.maketrans("[]{}", "()()")
_OTHER = re.compile(r"[^()]+")


def parse_json(text: str | bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON text. NaN and the infinities, which Python writes but JSON lacks, become None.

    Raises JSONError if it is not JSON, is longer than `max_bytes` (characters of a string), is nested deeper than
    MAX_DEPTH, or has more than MAX_VALUES values or an integer of more digits than Python reads (4,300 by default).
    """
    if len(text) > max_bytes:
        raise JSONError(f"it has {len(text):,} bytes; at most {max_bytes:,} are read")
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        _check(text)
        return json.loads(text, parse_constant=lambda name: None)
    except RecursionError:  # Python's limit, if the caller's stack is deep
        raise JSONError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except MemoryError:
        raise JSONError("it needs more memory than there is") from None
    except JSONError:
        raise
    except ValueError as error:  # also for a long integer; Python's advice to raise that limit is cut off
        raise JSONError(str(error).partition("; use sys.")[0]) from error


def _check(text: str) -> None:
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > MAX_VALUES:
        raise JSONError(f"it has more than {MAX_VALUES:,} values")
    if opened > MAX_DEPTH and _is_deep(text):
        raise JSONError(f"it is nested deeper than {MAX_DEPTH} levels")


def _is_deep(text: str) -> bool:
    """Whether brackets remain after the innermost pairs have been removed MAX_DEPTH times."""
    left = _OTHER.sub("", _STRING.sub("", text).translate(_BRACKETS))
    for _ in range(MAX_DEPTH):
        if "()" not in left:
            break
        left = left.replace("()", "")
    return "()" in left or left.count("(") > MAX_DEPTH
