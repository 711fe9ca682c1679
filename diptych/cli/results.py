"""How hits are shown: lines for pipes, rows with small pictures for people, JSON, and opening them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli import previews
from diptych.cli.names import quoted
from diptych.cli.terminal import cells, draw, folded, say, tell, tell_names
from diptych.display.escaping import harmless
from diptych.errors import ImageError
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.index.search.results import Hit

_GAP = "  "
_PLAIN = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))  # Pillow opens these by itself


def plain_lines(hits: Sequence[Hit]) -> None:
    """`score  z  path`, one a line: the form that a pipe may rely on. z is - where the index is too small to tell."""
    for hit in hits:
        tell(f"{hit.score:6.3f}{_GAP}{_z(hit)}{_GAP}{quoted(hit.path)}", fold=False)


def print_paths(hits: Sequence[Hit], *, exact: bool) -> None:
    """Each file once: its bytes with a NUL behind them if `exact`, else on a line of its own."""
    tell_names(dict.fromkeys(str(hit.path) for hit in hits), nul=exact)


def rows(hits: Sequence[Hit], protocol: previews.Protocol) -> None:
    """A table for people: rank, preview, score, z, path, and what is known of when and where."""
    width = shutil.get_terminal_size().columns
    indent = len(str(len(hits))) + 2
    if protocol == "none":
        tell(f"{'':{indent - 2}}{_GAP} score{_GAP}    z{_GAP}path", fold=False)
        for rank, hit in enumerate(hits, start=1):
            about = _about(hit)
            line = f"{rank:{indent - 2}}{_GAP}{hit.score:6.3f}{_GAP}{_z(hit)}{_GAP}{shown(hit)}"
            line += _fitted(f"{_GAP}{about}", width - cells(line)) if about and cells(line) < width - 8 else ""
            for row in folded(line, width, indent=indent + 18).split("\n") if sys.stdout.isatty() else [line]:
                tell(row, fold=False)
        return
    cell_px = previews.cell_size_px()
    for rank, hit in enumerate(hits, start=1):
        room = max(20, width - indent - previews.COLUMNS - 3)
        texts = [shown(hit), f"score {hit.score:.3f}  z {_z(hit).strip()}", _about(hit), _snippet(hit)]
        lines = [_fitted(harmless(text), room) for text in texts if text]
        drawing = _drawing(hit, protocol, cell_px)
        block = previews.beside(drawing, lines, protocol, indent=indent)
        draw(f"{rank:{indent - 2}}\r{block}")  # asked for, whatever stdout is


def _drawing(hit: Hit, protocol: previews.Protocol, cell_px: tuple[int, int]) -> str:
    picture = picture_of(hit)
    return previews.draw(picture, protocol, cell_px=cell_px) if picture else ""


def picture_of(hit: Hit, size_px: int = 320) -> Image | None:
    """A hit's picture, small: of a video the frame that was found. None for a text, and where it can no more be read.
    What the index's own readers alone can open (RAW, HEIC, videos) comes as a square, cut from the middle."""
    from diptych.display.plots import thumbnail

    if hit.kind == "text" or not is_file(hit.path):
        return None
    try:
        if hit.kind == "picture" and hit.path.suffix.lower() in _PLAIN:
            return thumbnail(hit.path, size_px)
        return _read(hit, size_px)
    except (ImageError, OSError):
        return None


def is_file(path: Path) -> bool:
    """Whether a hit's file can be opened: it is there still, and no pipe has come in its place, which would be waited
    for."""
    try:
        open_file(path).close()
    except OSError:
        return False
    return True


def _read(hit: Hit, size_px: int) -> Image:
    from PIL import Image

    from diptych.media.content.photographs import LARGEST_PICTURE, read_photograph
    from diptych.media.content.videos import read_video
    from diptych.media.images import Preprocess

    spec = Preprocess(size_px=size_px)
    with open_file(hit.path) as file:
        if hit.kind == "picture":
            return Image.fromarray(read_photograph(file.read(LARGEST_PICTURE), str(hit.path), spec).pixels)
        frames = read_video(file, str(hit.path), spec).frames
    return Image.fromarray(min(frames, key=lambda frame: abs((frame.at_s or 0) - (hit.at_s or 0))).pixels)


def _z(hit: Hit) -> str:
    return "    -" if hit.z is None else f"{hit.z:5.1f}"


def shown(hit: Hit) -> str:
    """The path, with the time of a video's frame or the line of a text."""
    name = quoted(hit.path)
    if hit.at_s is not None:
        minutes, seconds = divmod(int(hit.at_s), 60)
        return f"{name} at {minutes}:{seconds:02}"
    return f"{name}:{hit.line}" if hit.line is not None else name


def _about(hit: Hit) -> str:
    """When, where and with what it was taken, as far as that is known, and how many copies there are."""
    parts = [hit.taken_at.replace("T", " ")[:16]] if hit.taken_at else []
    if hit.latitude is not None and hit.longitude is not None:
        parts.append(f"{hit.latitude:.4f}, {hit.longitude:.4f}")
    parts += [hit.camera] if hit.camera else []
    parts += [f"{len(hit.copies)} more of it"] if hit.copies else []
    return harmless(" · ".join(parts))


def _snippet(hit: Hit) -> str:
    text = hit.text or hit.caption or ""
    return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)


def _fitted(text: str, room: int) -> str:
    """The text, cut with an ellipsis where it is wider than `room` cells."""
    if cells(text) <= room:
        return text
    while text and cells(text) > room - 1:
        text = text[:-1]
    return text + "…"


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit for --json, without what is not known of it."""
    fields = hit._asdict() | {"path": str(hit.path), "copies": [str(path) for path in hit.copies] or None}
    return {key: value for key, value in fields.items() if value is not None or key == "z"}


def open_files(files: Sequence[Path]) -> None:
    """Open files with the programs that the desktop has for them: pictures, films and texts by their own bytes alone,
    for a name may hide a script. Raises ClickException where there is no desktop."""
    from diptych.media.content.file_kind import opened_as

    for path in files:
        try:
            if opened_as(path) is None:
                say(f"not opened: {path} is no picture, film or text by its bytes")
                continue
        except OSError as error:
            say(f"not opened: {path} ({error.strerror or error})")
            continue
        if sys.platform == "win32":
            os.startfile(os.path.abspath(path))
            continue
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        if not shutil.which(opener):
            raise click.ClickException(f"there is no {opener} here to open {path} with. The results above are whole.")
        # an absolute path is no option, whatever its name begins with
        done = subprocess.run([opener, os.path.abspath(path)], stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            say(f"{opener} could not open {path}: {done.stderr.decode(errors='replace').strip() or done.returncode}")
