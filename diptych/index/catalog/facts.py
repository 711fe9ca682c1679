"""The facts of a catalog, which describe the whole index, and their validation: a catalog may come from anyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from diptych.errors import ArgumentError
from diptych.media.scanning.path_patterns import Patterns
from diptych.untrusted.json import parse_json

REQUIRED = frozenset(("format", "fingerprint", "model", "dim", "generation", "change.picture", "change.text"))
MAX_DIM = 8192  # several times the dimension of any model
MAX_TEXT_LENGTH = 2**20  # characters


class ScanRules(NamedTuple):
    """Which files of a folder are excluded, and whether hidden files and links out of the folder are included; see
    `diptych.media.scanning.scan.scan`."""

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_links: bool = False

    @classmethod
    def of(cls, facts: Mapping[str, object], *, is_trusted: bool = True) -> ScanRules:
        """The rules in `valid_facts`. Links out of the folder are followed only if the index `is_trusted`."""
        follow_links = is_trusted and facts.get("follow_links") == "yes"
        exclude = facts.get("exclude")
        return cls(patterns(exclude if isinstance(exclude, str) else None), facts.get("hidden") == "yes", follow_links)


class GivenRules(NamedTuple):
    """Rules as given by the caller; None stands for the rule of the last update."""

    exclude: tuple[str, ...] | None = None
    hidden: bool | None = None
    follow_links: bool | None = None

    def over(self, stored: ScanRules) -> ScanRules:
        """These rules, with the noted ones where none was given."""
        given = {name: rule for name, rule in self._asdict().items() if rule is not None}
        rules = stored._replace(**given)
        return rules._replace(exclude=tuple(filter(str.strip, rules.exclude)))


def first_invalid(facts: Mapping[str, Any], *, read: bool = False) -> str:
    """A description of the first invalid fact; "" if all are valid. The contents of lists and tables are checked if
    they are `read`."""
    for key, value in facts.items():
        if not _is_valid(key, value) or (read and key in _PARSERS and not _parses(key, value)):
            return f"its {key} is {_describe_value(value)}"
    return ""


def valid_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The valid ones of these facts."""
    return {key: value for key, value in facts.items() if not first_invalid({key: value}, read=True)}


def patterns(text: str | None) -> tuple[str, ...]:
    """The exclude patterns in a fact. Raises ValueError if it is not a list of patterns."""
    found = parse_json(text or "[]")
    if not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        raise ArgumentError("it is not a list of patterns")
    Patterns(found)
    return tuple(found)


def paths(text: str | None) -> list[str]:
    """The paths in a fact. Raises ValueError if it is not a list of texts."""
    found = parse_json(text or "[]")
    if not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        raise ArgumentError("it is not a list of paths")
    return found


def counts(text: str | None) -> dict[str, int]:
    """The counts of excluded files, by reason, in a fact. Raises ValueError if it is not such a table."""
    found = parse_json(text or "{}")
    if not (isinstance(found, dict) and all(isinstance(count, int) for count in found.values())):
        raise ArgumentError("it is not a table of counts")
    return found


def _is_valid(key: str, value: object) -> bool:
    return key in _KINDS and _KINDS[key](value)


def _describe_value(value: object) -> str:
    """A value of any size in a few words."""
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
    "fingerprint", "model", "version", "packages", "picture_bytes", "updated_at", "root", "source", "hidden",
    "follow_links",
    "change.picture", "change.text", "cached.picture", "cached.text", "exclude", "skipped",
    "unscanned",
)  # fmt: skip
_KINDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    "format": _is_integer(1, 2**31),
    "generation": _is_integer(0, 2**62),
    "dim": _is_integer(1, MAX_DIM),
}
KNOWN_KEYS = tuple(_KINDS)
_PARSERS: dict[str, Callable[[str], object]] = {"exclude": patterns, "skipped": counts, "unscanned": paths}
