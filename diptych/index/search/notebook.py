"""A search result as HTML for notebooks."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diptych.display.counting import counted
from diptych.display.pages import page
from diptych.errors import ImageError
from diptych.media.content.thumbnails import as_jpeg, thumbnail_of
from diptych.untrusted.regular_files import open_file

SHOWN = 60  # a notebook's file holds the pictures
_SIZE_PX = 320  # the longer side of a thumbnail, as on the page


class Card(NamedTuple):
    """A hit for display: its file, score and z, the file's kind, the time of a film's frame, and its text, if any."""

    path: Path
    score: float
    z: float | None
    kind: str
    at_s: float | None
    text: str | None


def result_html(cards: Sequence[Card], searched: int) -> str:
    """A card for each of the first SHOWN hits: the thumbnail that the page of `diptych serve` has, rank, score, z and
    name. Pictures are embedded, so nothing is fetched."""
    fields = [_card_fields(rank, card) for rank, card in enumerate(cards[:SHOWN], start=1)]
    more = f"{len(cards) - SHOWN:,}" if len(cards) > SHOWN else ""
    template = Path(__file__).with_name("found.html.jinja")
    return page(template, cards=fields, more=more, searched=counted(searched, "item"))


def _card_fields(rank: int, card: Card) -> dict[str, object]:
    moment = "" if card.at_s is None else f" at {int(card.at_s) // 60}:{int(card.at_s) % 60:02}"
    return {
        "rank": rank, "score": f"{card.score:.3f}", "z": "" if card.z is None else f"z {card.z:.1f}",
        "text": card.text or "", "name": f"{card.path.name}{moment}", "path": str(card.path), "picture": _picture(card),
    }  # fmt: skip


def _picture(card: Card) -> str:
    """A JPEG in base64; "" if there is none to show."""
    if card.kind == "text":
        return ""
    try:
        with open_file(card.path) as file:  # raises for a FIFO, which would block
            image, _ = thumbnail_of(file, card.path.name, _SIZE_PX, card.at_s)
        return base64.b64encode(as_jpeg(image)).decode()
    except (ImageError, OSError):
        return ""
