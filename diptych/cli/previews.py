"""Small pictures in a terminal: Kitty's graphics protocol, iTerm2's inline images, sixels, or coloured half blocks.

Each encoder returns the characters that draw a picture at the cursor; `beside` adds lines of text to its right.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from diptych.cli.terminal import draw as draw_now

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = Literal["kitty", "iterm2", "sixel", "blocks", "none"]
COLUMNS, ROWS = 20, 6  # the size of a preview, in cells
CELL_PX = (8, 16)  # width and height of a cell, if the terminal does not report them
SIXEL_COLOURS = 64
_KITTY_CHUNK = 4096  # characters of base64 in one escape sequence, the most that the protocol allows
_ANSWER_LIMIT_S = 0.25  # for a terminal to answer
_ESC, _ST = "\x1b", "\x1b\\"


# --- which protocol


def choose(requested: str = "auto", *, environment: Mapping[str, str] | None = None) -> Protocol:
    """The protocol to draw with: `requested`, or for "auto" the best that the terminal of stdout is known to support.

    Inside tmux or screen only their own abilities count: sixels if tmux reports them, otherwise half blocks.
    """
    if requested != "auto":
        return requested  # type: ignore[return-value]
    environment = os.environ if environment is None else environment
    if not sys.stdout.isatty() or environment.get("TERM", "dumb") == "dumb":
        return "none"
    if not _is_multiplexed(environment) and (known := _known(environment)):
        return known
    if sys.stdin.isatty() and _reports_sixel():
        return "sixel"
    return "blocks" if _has_colours(environment) else "none"


def _is_multiplexed(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("TMUX") or environment.get("STY")) or environment.get("TERM", "").startswith(
        ("tmux", "screen")
    )


def _known(environment: Mapping[str, str]) -> Protocol | None:
    """The protocol of a terminal that sets an environment variable. VS Code is not among them: it draws pictures only
    after a change of its settings."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    if "WEZTERM_PANE" in environment:
        return "iterm2"
    if "KONSOLE_VERSION" in environment and environment["KONSOLE_VERSION"] >= "220400":
        return "sixel"
    return "sixel" if term.startswith("foot") or term == "mlterm" else None


def _has_colours(environment: Mapping[str, str]) -> bool:
    """Whether the terminal has 24-bit colours, and the user wants colours (no-color.org)."""
    if environment.get("NO_COLOR"):
        return False
    named = environment.get("COLORTERM", "") in ("truecolor", "24bit") or "direct" in environment.get("TERM", "")
    return named or "WT_SESSION" in environment or environment.get("TERM_PROGRAM") in ("iTerm.app", "vscode")


def _reports_sixel() -> bool:
    """Query the terminal's primary device attributes; 4 among them is sixel graphics."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return False
    descriptor = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        return False
    try:
        tty.setcbreak(descriptor)
        draw_now(f"{_ESC}[c")
        answer = _answer(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    return sixel_in(answer)


def _answer(descriptor: int) -> bytes:
    """The terminal's answer up to its final "c", or until the time limit."""
    import select
    import time

    answer, deadline = b"", time.monotonic() + _ANSWER_LIMIT_S
    while not answer.endswith(b"c") and len(answer) < 256:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0 or not select.select([descriptor], [], [], remaining_s)[0]:
            break
        answer += os.read(descriptor, 64)
    return answer


def sixel_in(answer: bytes) -> bool:
    """Whether an answer such as ESC [ ? 62 ; 4 ; 22 c includes sixels."""
    return answer.startswith(b"\x1b[?") and answer.endswith(b"c") and b"4" in answer[3:-1].split(b";")[1:]


# --- encoders


def draw(image: Image, protocol: Protocol, *, cell_px: tuple[int, int] = CELL_PX) -> str:
    """The characters that draw a picture within COLUMNS x ROWS cells: several lines for half blocks, otherwise one."""
    small = image.convert("RGB")
    if protocol == "blocks":  # a half block is about as high as wide
        small.thumbnail((COLUMNS, 2 * ROWS))
        return half_blocks(np.asarray(small))
    width, height = COLUMNS * cell_px[0], ROWS * cell_px[1]
    if protocol == "sixel":
        small.thumbnail((width, height // 6 * 6))
        return sixel(small)
    small.thumbnail((2 * width, 2 * height))  # the terminal scales it; screens with two pixels per point are common
    columns, rows = _cells(small.size, cell_px)
    return (kitty if protocol == "kitty" else iterm2)(_png(small), columns=columns, rows=rows)


def _cells(size_px: tuple[int, int], cell_px: tuple[int, int]) -> tuple[int, int]:
    """The largest area of whole cells with about the picture's aspect ratio: columns, rows."""
    width, height = size_px[0] / cell_px[0], size_px[1] / cell_px[1]
    scale = min(COLUMNS / width, ROWS / height)
    return max(1, min(COLUMNS, round(width * scale))), max(1, min(ROWS, round(height * scale)))


def _png(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def kitty(png: bytes, *, columns: int, rows: int) -> str:
    """Kitty's graphics protocol: base64 in chunks, shown at once (a=T), no answers (q=2), the cursor stays (C=1)."""
    data = base64.b64encode(png).decode()
    chunks = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    first = f"a=T,f=100,q=2,C=1,c={columns},r={rows},"
    return "".join(
        f"{_ESC}_G{first if index == 0 else 'q=2,'}m={int(index < len(chunks) - 1)};{chunk}{_ST}"
        for index, chunk in enumerate(chunks)
    )


def iterm2(png: bytes, *, columns: int, rows: int) -> str:
    """iTerm2's inline images, which WezTerm, mintty and others support too."""
    keys = f"inline=1;size={len(png)};width={columns};height={rows};preserveAspectRatio=1"
    return f"{_ESC}]1337;File={keys}:{base64.b64encode(png).decode()}\x07"


def sixel(image: Image, *, colours: int = SIXEL_COLOURS) -> str:
    """Sixels (DEC, VT330/VT340 programmer reference, chapter 14): bands of six rows, one pass for each colour."""
    import PIL.Image

    flat = image.quantize(colours, dither=PIL.Image.Dither.NONE)
    indices = np.asarray(flat)
    palette = np.asarray(flat.getpalette(), np.int64).reshape(-1, 3)
    used = np.unique(indices)
    registers = "".join(
        "#{};2;{};{};{}".format(colour, *np.rint(palette[colour] / 2.55).astype(int)) for colour in used
    )
    bands = [_band(indices[top : top + 6]) for top in range(0, len(indices), 6)]
    width, height = image.size
    return f'{_ESC}P0;1q"1;1;{width};{height}{registers}{"-".join(bands)}{_ST}'


def _band(rows: np.ndarray) -> str:
    """Up to six rows: each colour's pixels as characters, then back to the start for the next colour."""
    weights = 1 << np.arange(len(rows))  # the top pixel is the lowest bit
    passes = []
    for colour in np.unique(rows):
        bits = ((rows == colour) * weights[:, None]).sum(axis=0)
        passes.append(f"#{colour}{_run_lengths(bits)}")
    return "$".join(passes)


def _run_lengths(bits: np.ndarray) -> str:
    starts = np.flatnonzero(np.diff(bits, prepend=-1))
    lengths = np.diff(starts, append=len(bits))
    return "".join(
        f"!{length}{chr(63 + bits[start])}" if length > 3 else chr(63 + bits[start]) * length
        for start, length in zip(starts, lengths, strict=True)
    )


def half_blocks(pixels: np.ndarray) -> str:
    """(h, w, 3) uint8 as lines of ▀: the foreground has the upper pixel's colour, the background the lower one's."""
    lines = []
    for top in range(0, len(pixels), 2):
        upper, lower = pixels[top], pixels[top + 1] if top + 1 < len(pixels) else None
        cells = []
        for column, (r, g, b) in enumerate(upper):
            background = "49" if lower is None else "48;2;{};{};{}".format(*lower[column])
            cells.append(f"{_ESC}[38;2;{r};{g};{b};{background}m▀")
        lines.append("".join(cells) + f"{_ESC}[0m")
    return "\n".join(lines)


# --- layout


def beside(drawing: str, lines: Sequence[str], protocol: Protocol, *, indent: int = 0) -> str:
    """A drawing with lines of text to its right, ROWS lines in all.

    Empty lines are printed first, so that nothing scrolls while the cursor jumps back to the start of the text:
    terminals differ in where the cursor is after a picture.
    """
    texts = [*lines[:ROWS], *[""] * (ROWS - len(lines))]
    if protocol == "blocks":
        blocks = drawing.split("\n") if drawing else []
        blocks += [""] * (ROWS - len(blocks))
        rows = [
            f"{_ESC}[{indent + 1}G{cells}{_ESC}[{indent + COLUMNS + 3}G{text}"
            for cells, text in zip(blocks, texts, strict=True)
        ]
        return "\n".join(rows) + "\n"
    space = "\n" * ROWS + f"{_ESC}[{ROWS}A"
    picture = f"{_ESC}7{_ESC}[{indent + 1}G{drawing}{_ESC}8" if drawing else ""
    return space + picture + "".join(f"{_ESC}[{indent + COLUMNS + 3}G{text}\n" for text in texts)


def cell_size_px() -> tuple[int, int]:
    """A cell's width and height in pixels, as the terminal of stdout reports them; otherwise CELL_PX."""
    try:
        import fcntl
        import struct
        import termios

        rows, columns, width, height = struct.unpack(
            "4H", fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        )
    except (ImportError, OSError, ValueError):
        return CELL_PX
    return (width // columns, height // rows) if rows and columns and width and height else CELL_PX
