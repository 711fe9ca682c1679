"""A search result as HTML for notebooks."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from diptych.display.pages import page
from diptych.display.plots import thumbnail
from diptych.errors import ImageError
from diptych.untrusted.regular_files import open_file


class Card(NamedTuple):
    """A hit for display: its file, score and z, the file's kind, and its text, if any."""

    path: Path
    score: float
    z: float | None
    kind: str
    text: str | None


def result_html(cards: Iterable[Card], searched: int) -> str:
    """A card per hit: its picture if Pillow can read it, rank, score, z and name. Pictures are embedded, so nothing is
    fetched."""
    fields = [_card_fields(rank, card) for rank, card in enumerate(cards, start=1)]
    return page(Path(__file__).with_name("found.html.jinja"), cards=fields, searched=f"{searched:,}")


def _card_fields(rank: int, card: Card) -> dict[str, object]:
    z = "" if card.z is None else f", z {card.z:.1f}"
    score, words = f"{card.score:.3f}{z}", card.text or card.path.name
    return {"rank": rank, "score": score, "words": words, "picture": _picture(card)}


def _picture(card: Card) -> str:
    """A JPEG in base64; "" if there is none to show."""
    if card.kind != "picture":
        return ""
    file = BytesIO()
    try:
        open_file(card.path).close()  # raises for a FIFO, which would block
        thumbnail(card.path).convert("RGB").save(file, "JPEG", quality=80)
    except (ImageError, OSError):
        return ""
    return base64.b64encode(file.getvalue()).decode()
