"""Shows hits: lines for pipes, rows with small pictures for people, JSON; and opens their files."""

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
from diptych.cli.terminal import cells, draw, folded, print_result, print_status, write_paths
from diptych.display.escaping import escape_control_characters
from diptych.errors import ImageError
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.index.search.results import Hit

_GAP = "  "
_PLAIN = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))  # Pillow opens these


def plain_lines(hits: Sequence[Hit]) -> None:
    """One line `score  z  path` per hit: a stable format for pipes. z is - if the index is too small to estimate it."""
    for hit in hits:
        print_result(f"{hit.score:6.3f}{_GAP}{_z(hit)}{_GAP}{quoted(hit.path)}", fold=False)


def print_paths(hits: Sequence[Hit], *, exact: bool) -> None:
    """Each file once: the bytes of its name and a NUL if `exact`, else one name per line."""
    write_paths(dict.fromkeys(str(hit.path) for hit in hits), nul=exact)


def rows(hits: Sequence[Hit], protocol: previews.Protocol) -> None:
    """A table for people: rank, preview, score, z, path, date, coordinates and camera."""
    width = shutil.get_terminal_size().columns
    indent = len(str(len(hits))) + 2
    if protocol == "none":
        print_result(f"{'':{indent - 2}}{_GAP} score{_GAP}    z{_GAP}path", fold=False)
        for rank, hit in enumerate(hits, start=1):
            details = _details_line(hit)
            line = f"{rank:{indent - 2}}{_GAP}{hit.score:6.3f}{_GAP}{_z(hit)}{_GAP}{display_name(hit)}"
            line += _truncated(f"{_GAP}{details}", width - cells(line)) if details and cells(line) < width - 8 else ""
            for row in folded(line, width, indent=indent + 18).split("\n") if sys.stdout.isatty() else [line]:
                print_result(row, fold=False)
        return
    cell_px = previews.cell_size_px()
    for rank, hit in enumerate(hits, start=1):
        room = max(20, width - indent - previews.COLUMNS - 3)
        texts = [display_name(hit), f"score {hit.score:.3f}  z {_z(hit).strip()}", _details_line(hit), _snippet(hit)]
        lines = [_truncated(escape_control_characters(text), room) for text in texts if text]
        drawing = _drawing(hit, protocol, cell_px)
        block = previews.beside(drawing, lines, protocol, indent=indent)
        draw(f"{rank:{indent - 2}}\r{block}")  # also if stdout is no terminal: --previews requested it


def _drawing(hit: Hit, protocol: previews.Protocol, cell_px: tuple[int, int]) -> str:
    picture = picture_of(hit)
    return previews.draw(picture, protocol, cell_px=cell_px) if picture else ""


def picture_of(hit: Hit, size_px: int = 320) -> Image | None:
    """A small copy of a hit's picture, or of a video's frame. None for a text, or if the file cannot be read any more.
    Formats that only the index's readers open (RAW, HEIC, videos) give a square from the middle."""
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
    """Whether a hit's file can still be opened. A pipe that replaced it cannot: it would block."""
    try:
        open_file(path).close()
    except OSError:
        return False
    return True


def _read(hit: Hit, size_px: int) -> Image:
    from PIL import Image

    from diptych.media.content.photographs import LARGEST_PICTURE, read_photograph
    from diptych.media.content.videos import read_video
    from diptych.media.preprocessing import Preprocess

    spec = Preprocess(size_px=size_px)
    with open_file(hit.path) as file:
        if hit.kind == "picture":
            return Image.fromarray(read_photograph(file.read(LARGEST_PICTURE), str(hit.path), spec).pixels)
        frames = read_video(file, str(hit.path), spec).frames
    return Image.fromarray(min(frames, key=lambda frame: abs((frame.at_s or 0) - (hit.at_s or 0))).pixels)


def _z(hit: Hit) -> str:
    return "    -" if hit.z is None else f"{hit.z:5.1f}"


def display_name(hit: Hit) -> str:
    """The path, with the time of a video's frame or the line of a text file."""
    name = quoted(hit.path)
    if hit.at_s is not None:
        minutes, seconds = divmod(int(hit.at_s), 60)
        return f"{name} at {minutes}:{seconds:02}"
    return f"{name}:{hit.line}" if hit.line is not None else name


def _details_line(hit: Hit) -> str:
    """The known details of a hit: date, coordinates, camera, number of copies."""
    parts = [hit.taken_at.replace("T", " ")[:16]] if hit.taken_at else []
    if hit.latitude is not None and hit.longitude is not None:
        parts.append(f"{hit.latitude:.4f}, {hit.longitude:.4f}")
    parts += [hit.camera] if hit.camera else []
    parts += [f"+{len(hit.copies)} {'copy' if len(hit.copies) == 1 else 'copies'}"] if hit.copies else []
    return escape_control_characters(" · ".join(parts))


def _snippet(hit: Hit) -> str:
    text = hit.text or hit.caption or ""
    return "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)


def _truncated(text: str, width: int) -> str:
    """The text, shortened with an ellipsis if it is wider than `width` cells."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…"


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit for --json, without unknown fields."""
    fields = hit._asdict() | {"path": str(hit.path), "copies": [str(path) for path in hit.copies] or None}
    return {key: value for key, value in fields.items() if value is not None or key == "z"}


def open_files(files: Sequence[Path]) -> None:
    """Open files with the desktop's programs: only pictures, videos and texts, judged by their bytes because a name may
    hide a script. Raises ClickException if there is no desktop."""
    from diptych.media.scanning.file_kind import detected_kind

    for path in files:
        try:
            if detected_kind(path) is None:
                print_status(f"not opened: by its bytes {path} is not a picture, video or text")
                continue
        except OSError as error:
            print_status(f"not opened: {path} ({error.strerror or error})")
            continue
        if sys.platform == "win32":
            os.startfile(os.path.abspath(path))
            continue
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        if not shutil.which(opener):
            raise click.ClickException(f"{opener} is not installed; {path} was not opened. The results are above.")
        # an absolute path cannot be mistaken for an option
        done = subprocess.run([opener, os.path.abspath(path)], stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            print_status(
                f"{opener} could not open {path}: {done.stderr.decode(errors='replace').strip() or done.returncode}"
            )
