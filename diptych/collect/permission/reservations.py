"""Reservations against training on what a page or picture shows: in headers, in meta elements, and in a file for the
whole host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from resiliparse.parse.html import HTMLTree

from diptych.collect.permission.agent import PRODUCT
from diptych.errors import JSONError
from diptych.untrusted.json import parse_json

TDM = "tdm-reservation"
TDM_PATH = "/.well-known/tdmrep.json"  # W3C TDM Reservation Protocol, "TDM file on the origin server"
MAX_TDM_BYTES, _MOST_RULES = 1 << 20, 10_000
_MOST_METAS = 100_000
NOFOLLOW = "nofollow"
# X-Robots-Tag and <meta name="robots">. The first two speak of training, the others keep a page or its pictures out of
# every index, hence also out of a set of pairs.
_AGAINST_TRAINING = ("noai", "noimageai")
_REFUSING = (*_AGAINST_TRAINING, "noindex", "noimageindex")
_SHORT = {"none": ("noindex", NOFOLLOW)}
_WITH_VALUE = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
Headers = Mapping[str, str]


def refusal_in_headers(headers: Headers) -> str | None:
    """The reservation in an answer's headers, such as "noai", or None. Values of several headers of one name are joined
    by commas. Names may be in any case."""
    if _values(headers, TDM) and _is_reserved(_values(headers, TDM)):
        return TDM
    return _refusal(_robots_tags(_values(headers, "x-robots-tag")))


def nofollow_in_headers(headers: Headers) -> bool:
    """Whether the links of the page are not to be followed."""
    return NOFOLLOW in _robots_tags(_values(headers, "x-robots-tag"))


def refusal_in_page(page: HTMLTree) -> str | None:
    """The reservation in the meta elements of a page, or None."""
    return refusal_in_metas(list(_metas(page)))


def refusal_in_metas(metas: Sequence[tuple[str, str]]) -> str | None:
    """The reservation in the names (in lower case) and contents of a page's meta elements, or None."""
    if any(name == TDM and _is_reserved(content) for name, content in metas):
        return TDM
    return _refusal(_page_tags(metas))


def nofollow_in_page(page: HTMLTree) -> bool:
    """Whether the page's meta elements ask that its links are not followed."""
    return NOFOLLOW in _page_tags(_metas(page))


class TdmRules:
    """The reservations of /.well-known/tdmrep.json (W3C Community Group, TDM Reservation Protocol)."""

    def __init__(self, rules: Iterable[tuple[str, bool]] = ()):
        """`rules` are pairs of a path's pattern, in which `*` stands for anything and a final `$` for the end, and
        whether the paths are reserved."""
        # The longest pattern decides, as in robots.txt, and among the same the one that reserves.
        self._rules = [
            (_pattern(path), reserved)
            for path, reserved in sorted(rules, key=lambda rule: (-len(rule[0]), not rule[1]))
        ]

    @classmethod
    def parse(cls, body: bytes) -> TdmRules:
        """The rules in a file; none if it is no such file."""
        try:
            found = parse_json(body, max_bytes=MAX_TDM_BYTES)
        except JSONError:
            return cls()
        entries = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
        return cls(
            (location, _is_reserved(str(each.get(TDM, ""))))
            for each in entries[:_MOST_RULES]
            if isinstance(location := each.get("location"), str) and location.startswith("/")
        )

    def refuses(self, path: str) -> bool:
        """Whether a path, with its query, is reserved."""
        return next((reserved for pattern, reserved in self._rules if pattern.match(path)), False)


def _pattern(path: str) -> re.Pattern[str]:
    ends = path.endswith("$")
    parts = [re.escape(part) for part in re.split(r"\*+", path.removesuffix("$"))]
    # Each star takes as little as it can and never gives back: a pattern of many stars costs no more than its text.
    lazy = "".join(f"(?>.*?{part})" for part in parts[1:-1])
    last = f".*{parts[-1]}" if len(parts) > 1 else ""
    return re.compile(parts[0] + lazy + last + (r"\Z" if ends else ""), re.S)


def _is_reserved(value: str) -> bool:
    """Any value but 0 reserves: whoever writes `true` means it."""
    return any(part.strip() not in ("", "0") for part in value.split(","))


def _values(headers: Headers, wanted: str) -> str:
    return ",".join(value for name, value in headers.items() if name.lower() == wanted)


def _robots_tags(value: str) -> set[str]:
    """The directives of X-Robots-Tag that are for everybody or for us. `agent: directive` binds what follows it, up to
    the next agent, to that agent alone; but not a reservation against training, because joined headers do not show
    where one ended."""
    tags, is_ours = set[str](), True
    for part in value.lower().split(","):
        agent, colon, rest = part.partition(":")
        if colon and agent.strip() not in _WITH_VALUE:
            is_ours, part = agent.strip() in (PRODUCT.lower(), "robots", "*"), rest
        tags |= _tags(part) if is_ours else _tags(part) & {*_AGAINST_TRAINING}
    return tags


def _page_tags(metas: Iterable[tuple[str, str]]) -> set[str]:
    ours = ("robots", PRODUCT.lower())
    return {tag for name, content in metas if name in ours for part in content.split(",") for tag in _tags(part)}


def _tags(text: str) -> set[str]:
    words = text.lower().split()
    return {tag for word in words for tag in _SHORT.get(word, (word,))}


def _refusal(tags: set[str]) -> str | None:
    return next((tag for tag in _REFUSING if tag in tags), None)


def _metas(page: HTMLTree) -> Iterator[tuple[str, str]]:
    document = page.document
    # As a slice: the list itself searches the page anew for each item
    for element in document.query_selector_all("meta[name][content]")[:_MOST_METAS] if document else ():
        yield (element.getattr("name") or "").strip().lower(), element.getattr("content") or ""
