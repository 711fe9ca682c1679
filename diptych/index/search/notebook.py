"""What was found, as a page that a notebook shows."""

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
    """One hit as it is shown: its file, its score and z, the file's kind, and the text that was found, if any."""

    path: Path
    score: float
    z: float | None
    kind: str
    text: str | None


def result_html(cards: Iterable[Card], searched: int) -> str:
    """A card for each hit: its picture where Pillow can read it, rank, score, z and name. Pictures are in the page
    itself: nothing is fetched."""
    shown = [_shown(rank, card) for rank, card in enumerate(cards, start=1)]
    return page(Path(__file__).with_name("found.html.jinja"), cards=shown, searched=f"{searched:,}")


def _shown(rank: int, card: Card) -> dict[str, object]:
    z = "" if card.z is None else f", z {card.z:.1f}"
    score, words = f"{card.score:.3f}{z}", card.text or card.path.name
    return {"rank": rank, "score": score, "words": words, "picture": _picture(card)}


def _picture(card: Card) -> str:
    """A JPEG in base64; nothing where there is none to show."""
    if card.kind != "picture":
        return ""
    file = BytesIO()
    try:
        open_file(card.path).close()  # no pipe has come in its place, which would be waited for
        thumbnail(card.path).convert("RGB").save(file, "JPEG", quality=80)
    except (ImageError, OSError):
        return ""
    return base64.b64encode(file.getvalue()).decode()
