"""What a command line asks for: the terms of a query, from words, files, stdin and the clipboard."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from diptych.index.search.query import Query, Term

OPTIONS = ("texts", "images", "minus", "minus_images", "clipboard")  # those that add a term, by parameter name
STDIN = "-"
_CLIPBOARD_S = 5.0
# What prints the clipboard as a picture, and as text; the first that is installed and has something is taken.
_PICTURE_TOOLS = (
    ("wl-paste", "--no-newline", "--type", "image/png"),
    ("xclip", "-selection", "clipboard", "-target", "image/png", "-out"),
    ("pngpaste", "-"),
)
_TEXT_TOOLS = (
    ("wl-paste", "--no-newline", "--type", "text"),
    ("xclip", "-selection", "clipboard", "-out"),
    ("pbpaste",),
    ("powershell.exe", "-NoProfile", "-Command", "Get-Clipboard"),
)


class Asked(NamedTuple):
    """One term as it came: by which option ("text" for the words in front), and with what value."""

    option: str
    value: Any


def in_order(text: str | None, order: Sequence[str], values: Mapping[str, Sequence[Any]]) -> list[Asked]:
    """The terms as they stand on the command line, TEXT first. `order` names an option for each time it came."""
    left = {option: iter(values[option]) for option in OPTIONS}
    asked = [] if text is None else [Asked("text", text)]
    return asked + [Asked(option, next(left[option])) for option in order if option in OPTIONS]


def query_of(asked: Sequence[Asked], weights: str | None) -> Query:
    """The query. Raises UsageError where there are no terms, or not as many weights as terms."""
    from diptych.index.search.query import Query

    if sum(one.value == STDIN for one in asked if isinstance(one.value, str)) > 1:
        raise click.UsageError("- (stdin) came twice; it can be read once.")
    terms = [term for one in asked for term in _terms(one)]
    if not terms:
        raise click.UsageError("nothing to look for. Pass TEXT, --text, --image FILE or --clipboard.")
    sizes = _weights(weights, len(terms))
    return Query(tuple(term._replace(weight=term.weight * size) for term, size in zip(terms, sizes, strict=True)))


def _terms(asked: Asked) -> list[Term]:
    """The terms of one option: more than one where stdin brings several lines."""
    from diptych.index.search.query import Term

    sign = -1.0 if asked.option.startswith("minus") else 1.0
    if asked.option == "clipboard":
        found = clipboard()
        return [Term("text" if isinstance(found, str) else "picture", found, sign)]
    if asked.option in ("images", "minus_images"):
        return [Term("picture", sys.stdin.buffer.read() if asked.value == STDIN else _place(asked.value), sign)]
    if asked.value != STDIN:
        return [Term("text", _words(asked.value), sign)]
    content = sys.stdin.buffer.read()
    try:
        lines = [line for line in map(str.strip, content.decode("utf-8-sig").splitlines()) if line]
    except UnicodeDecodeError:  # a picture's bytes
        return [Term("picture", content, sign)]
    if not lines:
        raise click.UsageError("stdin is empty; wanted a line of text or more, or a picture.")
    return [Term("text", line, sign) for line in lines]


def _place(place: str) -> str:
    """A file or a URL; a file that is missing is told before a folder is indexed for it."""
    if "://" not in place and not os.path.isfile(place):
        raise click.UsageError(f"{place!r} is no file; --image and --minus-image take a picture's path, a URL or -.")
    return place


def _words(text: str) -> str:
    if not text.strip():
        raise click.UsageError("TEXT is empty; say in a word or more what to look for.")
    return text


def _weights(weights: str | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    try:
        numbers = [float(part) for part in weights.split(",")]
    except ValueError:
        raise click.UsageError(f"--weights is {weights!r}; wanted numbers with commas between: 1,0.5.") from None
    if len(numbers) != count:
        raise click.UsageError(f"--weights has {len(numbers)} numbers for {count} terms; wanted one each, in order.")
    if not all(0 < number < float("inf") for number in numbers):
        raise click.UsageError(f"--weights is {weights}; wanted numbers above 0 (--minus turns away from a term).")
    return numbers


def clipboard() -> Any:
    """What the clipboard holds: a picture (bytes or a PIL image), else a text. Raises ClickException with a remedy."""
    if picture := _picture_grabbed() or _printed(_PICTURE_TOOLS):
        return picture
    if text := _printed(_TEXT_TOOLS).decode("utf-8", "replace").strip():
        return text
    tools = sorted({tool[0] for tool in (*_PICTURE_TOOLS, *_TEXT_TOOLS) if shutil.which(tool[0])})
    if tools:
        raise click.ClickException(f"the clipboard holds neither a picture nor text (asked {', '.join(tools)}).")
    raise click.ClickException(
        "there is nothing here to read the clipboard with. Install wl-clipboard (Wayland) or xclip (X11), or save the "
        "picture and pass --image FILE."
    )


def _printed(tools: Sequence[tuple[str, ...]]) -> bytes:
    """What the first of these programs that succeeds prints."""
    for tool in tools:
        if shutil.which(tool[0]):
            try:
                done = subprocess.run(tool, capture_output=True, timeout=_CLIPBOARD_S, stdin=subprocess.DEVNULL)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if done.returncode == 0 and done.stdout:
                return done.stdout
    return b""


def _picture_grabbed() -> Any:
    """The clipboard's picture on Windows and macOS, where Pillow reads it itself."""
    if sys.platform not in ("win32", "darwin"):
        return None
    from PIL import Image, ImageGrab

    grabbed = ImageGrab.grabclipboard()
    if isinstance(grabbed, Image.Image):
        file = io.BytesIO()
        grabbed.convert("RGB").save(file, "PNG")
        return file.getvalue()
    return grabbed[0] if grabbed else None  # a copied file comes as its path
