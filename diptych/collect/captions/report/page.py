"""Writes OUT/report.html, one self-contained file, and OUT/report.json: what each rule removed, with examples."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from diptych.collect.captions.report.removed import Removed
from diptych.display.pages import page
from diptych.storage.atomic import atomic_write, atomic_write_text

REPORT, REPORT_JSON = "report.html", "report.json"
_TEMPLATE, _STYLE = "report.html.jinja", "report.css"


class PictureExample(NamedTuple):
    """A small picture, as a data: address, with its caption."""

    address: str
    caption: str
    is_blurred: bool = False


class Part(NamedTuple):
    """A part of the report, such as "Captions": what was removed, what each rule removes, by its name, and pictures
    that it removed. With `is_kept` the rules did not remove what they name, but flagged it."""

    removed: Removed
    descriptions: Mapping[str, str]
    pictures: Mapping[str, Sequence[PictureExample]] = {}
    is_kept: bool = False

    @property
    def verb(self) -> str:
        """What was done to that of which the part tells."""
        return "flagged" if self.is_kept else "removed"

    def to_json(self) -> dict[str, object]:
        """As report.json has it."""
        found = self.removed.to_json(self.descriptions)
        return {**found, "kept": self.removed.seen} if self.is_kept else found


class _Row(NamedTuple):
    name: str
    description: str
    count: int
    share: str
    width: int  # of the bar, in percent of the widest
    examples: list[str]
    pictures: Sequence[PictureExample] = ()


def write_report(out: str | os.PathLike[str], parts: Mapping[str, Part]) -> Path:
    """Write OUT/report.html and OUT/report.json, and return the path of the page. `parts` are by their titles. The same
    counts and examples give the same bytes."""
    from markupsafe import Markup

    folder = Path(out)
    style = Path(__file__).with_name(_STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    images = " img-src data:;" if any(part.pictures for part in parts.values()) else ""
    html = page(
        Path(__file__).with_name(_TEMPLATE),
        style=Markup(style),
        policy=f"default-src 'none';{images} style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        parts=[(title, part.verb, _counts(part), _rows(part), _idle(part)) for title, part in parts.items()],
    )
    with atomic_write(folder / REPORT) as temporary:
        temporary.write_bytes(html.encode("utf-8", "replace"))
    content = {title.lower(): part.to_json() for title, part in parts.items()}
    atomic_write_text(folder / REPORT_JSON, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return folder / REPORT


def _counts(part: Part) -> dict[str, str]:
    seen, gone = part.removed.seen, part.removed.counts.total()
    return {
        "seen": f"{seen:,}", "gone": f"{gone:,}", "kept": f"{seen - gone:,}", "share": _share(seen - gone, seen)
    }  # fmt: skip


def _rows(part: Part) -> list[_Row]:
    """The rules that removed something, the one that removed most first."""
    removed = part.removed
    most = max(removed.counts.values(), default=1)
    return [
        _Row(
            name, part.descriptions.get(name, ""), count, _share(count, removed.seen),
            max(1, round(100 * count / most)), _without_pictures(part, name), part.pictures.get(name, ()),
        )
        for name, count in sorted(removed.counts.items(), key=lambda item: (-item[1], item[0]))
    ]  # fmt: skip


def _without_pictures(part: Part, name: str) -> list[str]:
    """The examples of a rule that do not stand under a picture already."""
    shown = {picture.caption for picture in part.pictures.get(name, ())}
    return [text for text in part.removed.examples(name) if text not in shown]


def _idle(part: Part) -> list[tuple[str, str]]:
    """The rules that removed nothing, with what they remove."""
    return [(name, text) for name, text in part.descriptions.items() if not part.removed.counts[name]]


def _share(count: int, total: int) -> str:
    percent = 100 * count / max(total, 1)
    return f"{percent:.2f} %" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.1f} %"
