"""The terms of a query on a command line: from arguments, files, stdin and the clipboard."""

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

OPTIONS = ("texts", "images", "minus", "minus_images", "clipboard")  # parameters that add a term
STDIN = "-"
_CLIPBOARD_S = 5.0
# Programs that print the clipboard as a picture, and as text. The first that is installed and prints anything is used.
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


class CommandTerm(NamedTuple):
    """A term on the command line: its option ("text" for the argument TEXT) and the option's value."""

    option: str
    value: Any


def in_order(text: str | None, order: Sequence[str], values: Mapping[str, Sequence[Any]]) -> list[CommandTerm]:
    """The terms in the order of the command line, TEXT first. `order` names an option each time it is given."""
    remaining = {option: iter(values[option]) for option in OPTIONS}
    first = [] if text is None else [CommandTerm("text", text)]
    return first + [CommandTerm(option, next(remaining[option])) for option in order if option in OPTIONS]


def query_of(command_terms: Sequence[CommandTerm], weights: str | None) -> Query:
    """The query. Raises UsageError if there are no terms, or not as many weights as terms."""
    from diptych.index.search.query import Query

    if sum(term.value == STDIN for term in command_terms if isinstance(term.value, str)) > 1:
        raise click.UsageError("- (stdin) is given twice; stdin can only be read once.")
    terms = [term for command_term in command_terms for term in _terms(command_term)]
    if not terms:
        raise click.UsageError("nothing to look for. Pass TEXT, --text, --image FILE or --clipboard.")
    factors = _weights(weights, len(terms))
    return Query(tuple(term._replace(weight=term.weight * factor) for term, factor in zip(terms, factors, strict=True)))


def _terms(term: CommandTerm) -> list[Term]:
    """The terms of one option: several if stdin has several lines."""
    from diptych.index.search.query import Term

    sign = -1.0 if term.option.startswith("minus") else 1.0
    if term.option == "clipboard":
        content = clipboard()
        return [Term("text" if isinstance(content, str) else "picture", content, sign)]
    if term.option in ("images", "minus_images"):
        return [Term("picture", sys.stdin.buffer.read() if term.value == STDIN else _picture_source(term.value), sign)]
    if term.value != STDIN:
        return [Term("text", _not_blank(term.value), sign)]
    content = sys.stdin.buffer.read()
    try:
        lines = [line for line in map(str.strip, content.decode("utf-8-sig").splitlines()) if line]
    except UnicodeDecodeError:  # the bytes of a picture
        return [Term("picture", content, sign)]
    if not lines:
        raise click.UsageError("stdin is empty; wanted lines of text, or a picture.")
    return [Term("text", line, sign) for line in lines]


def _picture_source(source: str) -> str:
    """A path or a URL. A missing file is reported before a folder is indexed in vain."""
    if "://" not in source and not os.path.isfile(source):
        raise click.UsageError(f"{source!r} is not a file; --image and --minus-image take a path, a URL or -.")
    return source


def _not_blank(text: str) -> str:
    if not text.strip():
        raise click.UsageError("TEXT is empty; describe in a word or more what to look for.")
    return text


def _weights(weights: str | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    try:
        numbers = [float(part) for part in weights.split(",")]
    except ValueError:
        raise click.UsageError(f"--weights is {weights!r}; wanted numbers separated by commas: 1,0.5.") from None
    if len(numbers) != count:
        raise click.UsageError(
            f"--weights has {len(numbers)} numbers for {count} terms; wanted one per term, in order."
        )
    if not all(0 < number < float("inf") for number in numbers):
        raise click.UsageError(f"--weights is {weights}; wanted numbers above 0 (--minus makes a term negative).")
    return numbers


def clipboard() -> Any:
    """The content of the clipboard: a picture (bytes or a path), else a text. Raises ClickException with a remedy."""
    if picture := _grabbed_picture() or _output_of(_PICTURE_TOOLS):
        return picture
    if text := _output_of(_TEXT_TOOLS).decode("utf-8", "replace").strip():
        return text
    tools = sorted({tool[0] for tool in (*_PICTURE_TOOLS, *_TEXT_TOOLS) if shutil.which(tool[0])})
    if tools:
        raise click.ClickException(f"the clipboard has neither a picture nor text, according to {', '.join(tools)}.")
    raise click.ClickException(
        "no program to read the clipboard is installed. Install wl-clipboard (Wayland) or xclip (X11), or save the "
        "picture and pass --image FILE."
    )


def _output_of(tools: Sequence[tuple[str, ...]]) -> bytes:
    """The output of the first of these programs that succeeds."""
    for tool in tools:
        if shutil.which(tool[0]):
            try:
                done = subprocess.run(tool, capture_output=True, timeout=_CLIPBOARD_S, stdin=subprocess.DEVNULL)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if done.returncode == 0 and done.stdout:
                return done.stdout
    return b""


def _grabbed_picture() -> Any:
    """The clipboard's picture on Windows and macOS, where Pillow can read it."""
    if sys.platform not in ("win32", "darwin"):
        return None
    from PIL import Image, ImageGrab

    grabbed = ImageGrab.grabclipboard()
    if isinstance(grabbed, Image.Image):
        file = io.BytesIO()
        grabbed.convert("RGB").save(file, "PNG")
        return file.getvalue()
    return grabbed[0] if grabbed else None  # a copied file: its path
