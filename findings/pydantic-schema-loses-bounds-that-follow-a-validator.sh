#!/usr/bin/env bash
# pydantic checks a bound that follows a validator in Annotated, but its JSON schema does not say it.
# pydantic 2.14.4.
# Expected: Annotated[int, BeforeValidator(...)] as a type of one's own, to which each field adds Field(ge=1, le=100),
# is described as "minimum" and "maximum", as it is where Field comes first: both refuse the same values.
# Seen: the schema has "ge" and "le" (likewise "gt", "lt", "multiple_of"), words that JSON Schema does not know, so
# that readers of an OpenAPI document take any number for valid. A pattern is not there at all, and the greatest size
# of a set or a dict is "maxLength", which holds for strings alone. Lengths of strings and lists are right.
# AfterValidator and WrapValidator do the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.4
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, WrapValidator

VALIDATORS = [BeforeValidator(lambda value: value), AfterValidator(lambda value: value)]
VALIDATORS += [WrapValidator(lambda value, handler: handler(value))]
# A type, its bound, a value beyond it, and the bound's name in JSON Schema and as seen.
BOUNDS = [
    (int, {"ge": 1}, 0, "minimum", "ge"),
    (int, {"le": 100}, 101, "maximum", "le"),
    (float, {"gt": 0}, 0.0, "exclusiveMinimum", "gt"),
    (float, {"lt": 1}, 1.0, "exclusiveMaximum", "lt"),
    (int, {"multiple_of": 8}, 9, "multipleOf", "multiple_of"),
    (str, {"pattern": "^[a-z]+$"}, "7", "pattern", None),
    (set[str], {"max_length": 1}, {"cat", "dog"}, "maxItems", "maxLength"),
    (dict[str, int], {"max_length": 1}, {"cat": 1, "dog": 2}, "maxProperties", "maxLength"),
    (str, {"max_length": 2}, "cat", "maxLength", "maxLength"),
    (list[str], {"max_length": 1}, ["cat", "dog"], "maxItems", "maxItems"),
]


def refuses(adapter, value):
    try:
        adapter.validate_python(value)
    except ValidationError:
        return True
    return False


def words(adapter, plain):
    """Returns what the schema says beyond that of the type without a bound."""
    return sorted(adapter.json_schema().keys() - TypeAdapter(plain).json_schema().keys())


as_seen, right = 0, 0
for kind, bound, beyond, name, seen in BOUNDS:
    for validator in VALIDATORS:
        before = TypeAdapter(Annotated[kind, Field(**bound), validator])
        after = TypeAdapter(Annotated[kind, validator, Field(**bound)])
        assert refuses(before, beyond) and refuses(after, beyond), "a bound is not checked"
        assert words(before, kind) == [name], "the schema is otherwise where Field comes first"
        as_seen += words(after, kind) == ([seen] if seen else [])
        right += words(after, kind) == [name]
    print(kind, bound, "Field first:", words(before, kind), "validator first:", words(after, kind))
count = len(BOUNDS) * len(VALIDATORS)
if right == count:
    sys.exit("changed: the schema says every bound")
assert as_seen == count and right == 2 * len(VALIDATORS)
PROGRAM
