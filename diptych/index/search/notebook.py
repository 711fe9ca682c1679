"""What was found, as a page that a notebook shows."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.display.pages import page
from diptych.display.plots import thumbnail
from diptych.media.images import ImageError
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    from diptych.index.search.search import Found, Hit


def found_html(found: Found) -> str:
    """A card for each hit: its picture where Pillow can read it, rank, score, z and name. Pictures are in the page
    itself: nothing is fetched."""
    cards = [_card(rank, hit) for rank, hit in enumerate(found.hits, start=1)]
    return page(Path(__file__).with_name("found.html.jinja"), cards=cards, searched=f"{found.searched:,}")


def _card(rank: int, hit: Hit) -> dict[str, object]:
    z = "" if hit.z is None else f", z {hit.z:.1f}"
    score, words = f"{hit.score:.3f}{z}", hit.text or hit.path.name
    return {"rank": rank, "score": score, "words": words, "picture": _picture(hit)}


def _picture(hit: Hit) -> str:
    """A JPEG in base64; nothing where there is none to show."""
    if hit.kind != "picture":
        return ""
    file = BytesIO()
    try:
        open_file(hit.path).close()  # no pipe has come in its place, which would be waited for
        thumbnail(hit.path).convert("RGB").save(file, "JPEG", quality=80)
    except (ImageError, OSError):
        return ""
    return base64.b64encode(file.getvalue()).decode()
