"""Pictures in a terminal: what is written is read back as a terminal would read it."""

import base64
import io
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from diptych.cli import previews


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A few large patches of colour."""
    patches = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)


def read_kitty(text: str) -> tuple[dict[str, str], Image.Image]:
    """The keys of the first sequence and the picture; every sequence keeps the protocol's rules."""
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in sequences) == text
    keys = [dict(pair.split("=") for pair in found.split(",")) for found, _ in sequences]
    assert [found["m"] for found in keys] == ["1"] * (len(keys) - 1) + ["0"]
    assert all(len(data) <= 4096 for _, data in sequences)
    assert all(len(data) % 4 == 0 for _, data in sequences)
    return keys[0], Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in sequences))))


def read_sixel(text: str) -> np.ndarray:
    """(h, w, 3) uint8; a pixel that no colour was given to fails."""
    body = re.fullmatch(r"\x1bP[\d;]*q(.*)\x1b\\", text, re.S)[1]  # type: ignore[index]
    width, height = map(int, re.match(r'"1;1;(\d+);(\d+)', body).groups())  # type: ignore[union-attr]
    pixels, palette = np.full((height + 6, width, 3), -1), {}
    colour, left, top = 0, 0, 0
    for token in re.finditer(r'"[\d;]+|#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([?-~])|([$-])', body):
        register, red, green, blue, times, repeated, single, move = token.groups()
        if register and red:
            palette[int(register)] = np.rint([float(red) * 2.55, float(green) * 2.55, float(blue) * 2.55])
        elif register:
            colour = int(register)
        elif move:
            left, top = 0, top + 6 * (move == "-")
        elif times or single:
            bits = ord(repeated or single) - 63
            for _ in range(int(times or 1)):
                for bit in range(6):
                    if bits >> bit & 1:
                        pixels[top + bit, left] = palette[colour]
                left += 1
            assert left <= width
    assert (pixels[:height] >= 0).all()
    assert (pixels[height:] == -1).all()
    return pixels[:height].astype(np.uint8)


def read_half_blocks(text: str) -> np.ndarray:
    """(2 * lines, w, 3); -1 where the ground is the terminal's own."""
    rows = []
    for line in text.split("\n"):
        assert line.endswith("\x1b[0m")
        cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);(?:48;2;(\d+);(\d+);(\d+)|49)m▀", line)
        rows.append([[int(value) for value in cell[:3]] for cell in cells])
        rows.append([[int(value) if value else -1 for value in cell[3:]] for cell in cells])
    return np.array(rows)


def test_kitty_holds_the_picture_in_chunks() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    keys, decoded = read_kitty(previews.draw(noise, "kitty"))
    assert (keys["a"], keys["f"], keys["C"], keys["q"]) == ("T", "100", "1", "2")
    assert (int(keys["c"]), int(keys["r"])) == (16, 6)
    assert np.array_equal(np.asarray(decoded), np.asarray(noise))


def test_iterm2_holds_the_picture() -> None:
    drawn = previews.draw(picture(64, 48), "iterm2")
    keys, data = re.fullmatch(r"\x1b\]1337;File=([^:]*):(.*)\x07", drawn).groups()  # type: ignore[union-attr]
    png = base64.b64decode(data)
    assert f"size={len(png)};" in keys
    assert "inline=1" in keys
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(picture(64, 48)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_sixels_hold_the_picture(width: int, height: int, seed: int) -> None:
    image = picture(width, height, seed)
    decoded = read_sixel(previews.sixel(image)).astype(int)
    assert np.abs(decoded - np.asarray(image)).max() <= 4  # sixel colours are whole percents; quantising adds a little


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_half_blocks_hold_the_pixels(pixels: np.ndarray) -> None:
    decoded = read_half_blocks(previews.half_blocks(pixels))
    assert np.array_equal(decoded[: len(pixels)], pixels)
    assert (decoded[len(pixels) :] == -1).all()


@pytest.mark.parametrize("size", [(4000, 30), (30, 4000), (1, 1), (640, 480)])
@pytest.mark.parametrize("protocol", ["kitty", "iterm2", "sixel", "blocks"])
def test_nothing_is_larger_than_its_room(size: tuple[int, int], protocol: previews.Protocol) -> None:
    drawn = previews.draw(picture(*size), protocol)
    if protocol == "blocks":
        rows, columns, _ = read_half_blocks(drawn).shape
        assert rows <= 2 * previews.ROWS
    elif protocol == "sixel":
        height, width, _ = read_sixel(drawn).shape
        rows, columns = height / previews.CELL_PX[1], width / previews.CELL_PX[0]
    else:
        found = dict(re.findall(r"\b(c|r|width|height)=(\d+)", drawn))
        rows, columns = int(found.get("r") or found["height"]), int(found.get("c") or found["width"])
    assert columns <= previews.COLUMNS
    assert protocol == "blocks" or rows <= previews.ROWS


@pytest.mark.parametrize("protocol", ["kitty", "sixel", "blocks"])
def test_text_stands_beside_a_drawing(protocol: previews.Protocol) -> None:
    """Each block moves the cursor down by exactly its height, and leaves it at the start of a line."""
    drawn = previews.draw(picture(64, 48), protocol)
    block = previews.beside(drawn, ["one", "two"], protocol, indent=3)
    moved = block.count("\n") - sum(int(lines) for lines in re.findall(r"\x1b\[(\d+)A", block))
    assert moved == previews.ROWS
    assert block.endswith("\n")
    assert f"\x1b[{3 + previews.COLUMNS + 3}Gone\n" in block
    assert previews.beside("", ["one"], protocol).count("\n") >= previews.ROWS


TERMINALS = [
    ({"TERM": "xterm-kitty"}, "kitty"),
    ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
    ({"TERM": "xterm-ghostty"}, "kitty"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
    ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
    ({"TERM": "foot"}, "sixel"),
    ({"TERM": "xterm-256color", "KONSOLE_VERSION": "220800"}, "sixel"),
    ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
    ({"TERM": "xterm"}, "none"),
    ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, "none"),
    ({"TERM": "tmux-256color", "TMUX": "x", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, "none"),
]


@pytest.mark.parametrize(("environment", "expected"), TERMINALS)
def test_terminals_are_known(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert previews.choose(environment=environment) == expected
    assert previews.choose("sixel", environment=environment) == "sixel"


def test_a_pipe_gets_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert previews.choose(environment={"TERM": "xterm-kitty"}) == "none"


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        (b"\x1b[?62;4;22c", True),
        (b"\x1b[?4;6c", False),
        (b"\x1b[?62;22c", False),
        (b"\x1b[?64;1;44c", False),
        (b"", False),
    ],
)
def test_the_terminals_answer(answer: bytes, has: bool) -> None:
    assert previews.sixel_in(answer) is has


def test_a_terminal_is_asked_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo terminal that answers; then one that is silent, which costs a moment and no hang."""
    pty, os, sys, termios = (pytest.importorskip(name) for name in ("pty", "os", "sys", "termios"))
    master, slave = pty.openpty()
    try:
        with open(slave, "r+b", buffering=0, closefd=False) as terminal:
            out = io.TextIOWrapper(terminal, write_through=True)
            monkeypatch.setattr(sys, "stdin", out)
            monkeypatch.setattr(sys, "stdout", out)
            before = termios.tcgetattr(slave)
            answering = threading.Thread(target=lambda: os.write(master, os.read(master, 100) and b"\x1b[?62;4c"))
            answering.start()
            assert previews._reports_sixel()
            answering.join()
            assert not previews._reports_sixel()
            assert termios.tcgetattr(slave) == before
            out.detach()
    finally:
        monkeypatch.undo()
        os.close(master)
        os.close(slave)
