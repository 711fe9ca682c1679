"""Whatever a stranger's file says, a terminal gets text: by one function, at one place, however it gets there."""

import ast
import contextlib
import io
import logging
import sys
import unicodedata
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from terminals import Terminal, is_strange, strange

import diptych
from diptych.__main__ import main
from diptych.display.console import TextConsole
from diptych.display.escaping import EscapingStream, escape_control_characters, escape_streams, unwrapped
from diptych.errors import ImageError
from diptych.media.images import open_image

PACKAGE = Path(diptych.__file__).parent
TEXTS = st.text(st.characters())  # all of Unicode, halves of characters too


@pytest.mark.parametrize(
    "text",
    [
        "a b.png", "it's\\$`d`", "犬é.png", "naïve", "👩\u200d👩\u200d👧", "❤\ufe0f", "1\ufe0f\u20e3",
        "🏳\ufe0f\u200d🌈", "می\u200cخواهم", "क्\u200dष", "葛\U000e0100", "e\u0301", "שלום",
    ],
)  # fmt: skip
def test_text_stays_as_it_is(text: str) -> None:
    assert escape_control_characters(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("\x9b2J\x85\x7f\0\x07", r"\x9b2J\x85\x7f\x00\x07"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("pay\u200bpal\ufeff\u00ad", r"pay\u200bpal\ufeff\xad"),
        ("pay\u200dpal a\ufe0f", r"pay\u200dpal a\ufe0f"),
        ("x\U000e0041\U000e007f", r"x\U000e0041\U000e007f"),
        ("caf\udce9 \ud800", r"caf\udce9 \ud800"),
        ("z" + 7 * "\u0335" + "\u0489\u20dd", "z" + 6 * "\u0335" + r"\u0335" + "\u0489\u20dd"),
        ("\u3164\u2063", r"\u3164\u2063"),
    ],
)
def test_what_does_something_or_is_not_seen_is_an_escape(text: str, shown: str) -> None:
    assert escape_control_characters(text) == shown
    assert escape_control_characters(shown) == shown


@given(TEXTS)
def test_nothing_in_a_text_does_anything(text: str) -> None:
    said = escape_control_characters(text)
    assert not [letter for letter in said if is_strange(letter)]
    assert escape_control_characters(said) == said
    assert escape_control_characters(text, lines=True).split("\n") == [
        escape_control_characters(line) for line in text.split("\n")
    ]
    piped = escape_control_characters(text, terminal=False)
    assert not {unicodedata.category(letter) for letter in piped} & {"Cc", "Zl", "Zp"}
    piped.encode("utf-8", "surrogateescape")  # how a pipe takes the bytes of a name


def test_a_pipe_gets_the_bytes_of_a_name_and_no_halves_of_characters() -> None:
    assert escape_control_characters("caf\udce9 \ud800 \udfff", terminal=False) == "caf\udce9 \\ud800 \\udfff"


def test_what_other_libraries_write_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings, logs and tracebacks; a pipe gets what it got before."""
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", pipe)
    escape_streams()
    escape_streams()  # a second time is none
    logging.StreamHandler().emit(logging.makeLogRecord({"msg": "\x1b]0;title\x07"}))
    sys.excepthook(ValueError, ValueError("name\x1b[2J\r"), None)
    assert isinstance(sys.stderr, EscapingStream)
    assert sys.stdout is pipe
    said = terminal.getvalue()
    assert said.startswith("\\x1b]0;title\\x07\n")
    assert said.endswith("ValueError: name\\x1b[2J\\r\n")
    assert unwrapped(sys.stderr) is terminal
    with pytest.raises(TypeError, match="expects a str"):
        sys.stderr.write(b"\x1b[2J")  # type: ignore[arg-type]


@given(TEXTS)
def test_rich_shows_text_alone(text: str) -> None:
    file = io.StringIO()
    TextConsole(file=file, force_terminal=True, color_system=None, width=10_000).print(text + "[red]:smile:[link=a]b")
    said = file.getvalue()
    assert "[red]:smile:[link=a]b" in said
    assert not strange(said)


# --- the one place

WRITERS = {  # what writes to a terminal, and the modules that may call it
    "print": set(),
    "click.echo": set(),
    "click.secho": set(),
    "click.prompt": set(),
    "click.confirm": set(),
    "click.pause": set(),
    "click.clear": set(),
    "click.progressbar": set(),
    "click.echo_via_pager": set(),
    "click.edit": set(),
    "input": set(),
    "os.write": {"cli/interruption.py"},  # two words of ours, as the process ends whatever holds its streams
    "Console": set(),
    "TextConsole": {"cli/terminal.py", "cli/compare.py", "training/diagnostics/monitor.py"},
    "rich.print": set(),
    "track": set(),
    "tqdm": set(),
    "warnings.warn": {
        "errors.py",
        "deprecation.py",
        "nets/clip.py",
    },  # of the library; what shows it on a terminal is a stream that escapes
    "warnings.showwarning": set(),
    "traceback.print_exc": set(),
    "traceback.print_exception": set(),
    "logging.basicConfig": set(),
    "logging.StreamHandler": set(),
    "faulthandler.enable": set(),
    "RichHandler": set(),
}
# Where streams are handled; elsewhere they are only asked what they are.
STREAMS = {"cli/terminal.py", "display/escaping.py", "display/console.py", "__main__.py", "cli/__init__.py"}
ASKED = {"isatty", "encoding", "fileno"}


@pytest.fixture(scope="module")
def package() -> dict[str, ast.Module]:
    """Every module, by its path."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def _named(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_named(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _writes(call: ast.Call) -> bool:
    """Whether it calls one of WRITERS; `os.write` to a file of one's own is none."""
    name = _named(call.func)
    return name in WRITERS and (name != "os.write" or ast.unparse(call.args[0]) in ("1", "2"))


def written(tree: ast.AST, module: str) -> list[str]:
    """What in a module writes to a terminal, or may, but where it is allowed to."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        name = _named(node)
        if isinstance(node, ast.Call) and _writes(node) and module not in WRITERS[called := _named(node.func)]:
            found.append(f"{called}, line {node.lineno}")
        if name in ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__") and module not in STREAMS:
            parent = parents[node]
            is_asked = isinstance(parent, ast.Attribute) and parent.attr in ASKED
            is_passed = isinstance(parent, ast.Call) and _named(parent.func) == "unwrapped"
            is_listed = isinstance(parent, ast.Tuple)  # in order to be asked
            if not (is_asked or is_passed or is_listed):
                found.append(f"{name}, line {getattr(node, 'lineno', 0)}")
    return found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("print('a')", "print, line 1"),
        ("click.echo(name)", "click.echo, line 1"),
        ("sys.stderr.write(name)", "sys.stderr, line 1"),
        ("file = sys.stdout", "sys.stdout, line 1"),
        ("os.write(2, name)", "os.write, line 1"),
        ("Console().print(name)", "Console, line 1"),
    ],
)
def test_ways_to_write_are_found(line: str, found: str) -> None:
    assert written(ast.parse(line), "somewhere.py") == [found]


def test_other_programs_say_nothing_themselves(package: dict[str, ast.Module]) -> None:
    """What they write is captured, and said by us; a reader of files writes nowhere once it reads any."""
    starts = {
        (module, *(keyword.arg for keyword in node.keywords))
        for module, tree in package.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _named(node.func) in ("subprocess.run", "subprocess.Popen", "os.system")
    }
    assert len(starts) > 2
    assert {module for module, *given in starts if not {"capture_output", "stderr"} & {*given}} == {
        "media/reading/child_process.py"
    }


def test_the_command_escapes_what_is_written_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("diptych.cli.run", lambda arguments: sys.stderr.write("\x1b[2J") * 0)
    with pytest.raises(SystemExit):
        main()
    assert terminal.getvalue() == r"\x1b[2J"


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_what_decoders_write_has_nothing_of_a_file_in_it(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """They write to the terminal past Python: of a picture whose texts are escape sequences, cut and changed."""
    file = io.BytesIO()
    exif, strange_text = Image.Exif(), "\x1b]0;t\x07\x9b2J"
    for tag in (0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x8298, 0xC62F, 0xFDE8):
        exif[tag] = strange_text
    more = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    Image.effect_noise((40, 40), 90).convert("RGB").save(file, kind, exif=exif, **more)
    content = file.getvalue()
    for at in range(8, len(content), max(1, len(content) // 60)):
        for bad in (content[:at], content[:at] + b"\x1b" * 3 + content[at + 3 :]):
            with contextlib.suppress(ImageError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                open_image(bad)
    assert not strange("".join(capfd.readouterr()))


def test_there_is_one_way_to_a_terminal(package: dict[str, ast.Module]) -> None:
    assert not {module: found for module, tree in package.items() if (found := written(tree, module))}
