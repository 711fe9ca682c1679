"""The facts of a catalog, which hold for the whole index: of what kind each is, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from diptych.errors import ArgumentError
from diptych.media.path_patterns import Patterns
from diptych.untrusted.json import parse_json

REQUIRED = frozenset(("format", "fingerprint", "model", "dim", "generation", "change.picture", "change.text"))
MAX_DIM = 8192  # numbers of a vector: several times what any model makes
MAX_TEXT_LENGTH = 2**20  # characters of a text


class Rules(NamedTuple):
    """What of a folder is left out, and whether hidden files and what links lead out to are taken in;
    `diptych.media.scan.scan` tells all."""

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_links: bool = False

    @classmethod
    def of(cls, facts: Mapping[str, object], *, is_trusted: bool = True) -> Rules:
        """The rules in facts that are `valid_facts`. Only an index that `is_trusted` may have links followed out of the
        folder."""
        follow_links = is_trusted and facts.get("follow_links") == "yes"
        exclude = facts.get("exclude")
        return cls(patterns(exclude if isinstance(exclude, str) else None), facts.get("hidden") == "yes", follow_links)


class GivenRules(NamedTuple):
    """Rules as given; None stands for the rule that the last update stored."""

    exclude: tuple[str, ...] | None = None
    hidden: bool | None = None
    follow_links: bool | None = None

    def over(self, stored: Rules) -> Rules:
        """These rules, and the stored ones where none is given."""
        given = {name: rule for name, rule in self._asdict().items() if rule is not None}
        rules = stored._replace(**given)
        return rules._replace(exclude=tuple(filter(str.strip, rules.exclude)))


def first_invalid(facts: Mapping[str, Any], *, read: bool = False) -> str:
    """The first of these facts that is not of its kind, in words; "" where all are. What is inside of lists and tables
    is looked at where they are `read`."""
    for key, value in facts.items():
        if not _is_valid(key, value) or (read and key in _PARSERS and not _parses(key, value)):
            return f"its {key} is {_describe_value(value)}"
    return ""


def valid_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are of their kind."""
    return {key: value for key, value in facts.items() if not first_invalid({key: value}, read=True)}


def patterns(text: str | None) -> tuple[str, ...]:
    """The list of what is left out, from its fact. Raises ValueError where it is none, or one of them no pattern."""
    found = parse_json(text or "[]")
    if not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        raise ArgumentError("it is no list of patterns")
    Patterns(found)
    return tuple(found)


def counts(text: str | None) -> dict[str, int]:
    """How much was left out by reason, from its fact. Raises ValueError where it is none."""
    found = parse_json(text or "{}")
    if not (isinstance(found, dict) and all(isinstance(count, int) for count in found.values())):
        raise ArgumentError("it is no table of counts")
    return found


def _is_valid(key: str, value: object) -> bool:
    return key in _KINDS and _KINDS[key](value)


def _describe_value(value: object) -> str:
    """A value in a few words, which may be of any size."""
    if isinstance(value, str | bytes):
        what = "a text" if isinstance(value, str) else "a blob"
        return f"{what} of {len(value):,}" if len(value) > 40 else repr(value)
    return "nothing" if value is None else str(value)


def _is_integer(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and least <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH and "\0" not in value


def _parses(key: str, value: Any) -> bool:
    try:
        _PARSERS[key](value)
    except ValueError:
        return False
    return True


_TEXTS = (
    "fingerprint", "model", "version", "packages", "picture_bytes", "updated_at", "root", "hidden", "follow_links",
    "change.picture", "change.text", "cached.picture", "cached.text", "exclude", "skipped",
)  # fmt: skip
_KINDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    "format": _is_integer(1, 2**31),
    "generation": _is_integer(0, 2**62),
    "dim": _is_integer(1, MAX_DIM),
}
KNOWN_KEYS = tuple(_KINDS)
_PARSERS: dict[str, Callable[[str], object]] = {"exclude": patterns, "skipped": counts}
