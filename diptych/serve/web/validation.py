"""What is wrong with the fields of a request, in our words: what came, and what was wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.display.counting import counted
from diptych.serve.web.problems import RequestProblem
from diptych.serve.web.schemas import PATTERNS

_MOST_NAMED = 3  # fields at fault
_LONG = 60  # characters of a value
_LARGE = 10**20
_WHOLE, _NUMBER, _OBJECT, _BOOL = "a whole number", "a number", "an object", "true or false"
_WANTED = {  # Pydantic's kind of error -> what was wanted, with the fields of its `ctx`
    "int_parsing": _WHOLE, "int_type": _WHOLE, "int_from_float": _WHOLE,
    "int_parsing_size": f"{_WHOLE} of fewer digits", "float_parsing": _NUMBER, "float_type": _NUMBER,
    "finite_number": "a finite number", "bool_parsing": _BOOL, "bool_type": _BOOL, "string_type": "a text",
    "string_unicode": "a text in Unicode",
    "list_type": "a list", "dict_type": _OBJECT, "model_type": _OBJECT, "model_attributes_type": _OBJECT,
    "literal_error": "{expected}", "greater_than_equal": "{ge:,} or more", "less_than_equal": "{le:,} or less",
    "greater_than": "more than {gt:,}", "less_than": "less than {lt:,}",
    "string_pattern_mismatch": "{pattern}",
    "string_too_short": "a length of {min_length:,} or more", "string_too_long": "a length of {max_length:,} or less",
    "too_short": "a length of {min_length:,} or more", "too_long": "a length of {max_length:,} or less",
}  # fmt: skip
_FORM = re.compile(r"(list|dict|constrained-\w+|str)(\[.*\])?")  # one of the forms of a field, as Pydantic names it


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> RequestProblem:
    """422 for the errors of Pydantic, with the fields at fault as paths: `terms.0.weight`."""
    wanted: dict[str, list[str]] = {}
    came: dict[str, str] = {}
    others: dict[str, str] = {}
    for error in errors:
        where = _path(error["loc"])
        if form := _WANTED.get(error["type"]):
            came[where] = _shown(error["input"])
            wanted.setdefault(where, []).append(_bounded(form, error.get("ctx", {})))
        else:
            others[where] = _other(where, error)
    said = {where: f"{where} is {came[where]}; wanted {' or '.join(dict.fromkeys(wanted[where]))}" for where in wanted}
    all_said = said | others
    # A field of several forms has an error for each: where one lies deeper, that form was meant.
    found = [
        (where, it) for where, it in all_said.items() if not any(each.startswith(f"{where}.") for each in all_said)
    ]
    named = ". ".join(sentence for _, sentence in found[:_MOST_NAMED])
    more = f". And {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return RequestProblem(422, "RequestError", f"{named}{more}.", argument=found[0][0] if found else None)


def _bounded(form: str, bounds: Mapping[str, Any]) -> str:
    if pattern := bounds.get("pattern"):
        return PATTERNS.get(pattern, f"what matches {pattern}")
    return form.format_map(bounds)


def _path(location: Sequence[str | int]) -> str:
    """Where a field is in its body or behind the `?`, without the forms that it may have."""
    parts = [str(part) for part in location[1:]]
    fields = [part for index, part in enumerate(parts) if index == 0 or not _FORM.fullmatch(part)]
    return ".".join(fields)[:80] or "body"


def _other(where: str, error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "extra_forbidden":
        return f"{where!r} is not a field"
    return f"{where}: {str(error['msg']).removeprefix('Value error, ')[:200]}"


def _shown(value: object) -> str:
    """A value in a sentence: a text or a number as it is, of all else what it is."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONG else f"{value[:_LONG]!r}… of {counted(len(value), 'character')}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value) if isinstance(value, float) or abs(value) < _LARGE else "a number beyond all bounds"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
