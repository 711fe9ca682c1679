"""Escaping of text for people: characters that a terminal acts on, or that deceive the eye, are shown as escapes.

`escape_control_characters` is the one function that does this. `EscapingStream` applies it to all text written to it,
including the warnings, logs and tracebacks of other libraries. The program writes its own colours and pictures to the
`unwrapped` stream, around text that is escaped already."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

# Control characters (escape sequences begin with one, also 8-bit sequences), line and paragraph separators, and
# bidirectional controls ("gpj.exe" looks like "exe.jpg"); also bytes that are not text (kept by Python as surrogates),
# if they are control characters in older encodings.
CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\udc80-\udc9f"
# Invisible characters: Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties, interlinear and musical format
# characters, tags, and surrogates. Joiners and variation selectors are below.
_UNSEEN = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2060-\u206f\u3164\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff\ud800-\udfff"
)
# Joiners shape Arabic, Indic and other scripts, and join emoji; variation selectors choose the glyph of the character
# before them. Elsewhere they only make one name look like another.
_JOINED = r"\u0590-\u115e\u1161-\u1dff\u2190-\u2bff\u3000-\ufdff\ufe0f\U00010000-\U0001ffff"
_VARIED = r"#*0-9\u00a9\u00ae\u203c\u2049\u2100-\ufdff\U00010000-\U0001ffff"
_IDEOGRAPHS = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Combining marks. No language has this many on one letter, and more would cover the adjacent lines.
_MARKS = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_HIDDEN = (
    rf"[{CONTROLS}{_UNSEEN}]|(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])"
    rf"|(?<![{_VARIED}])[\ufe00-\ufe0f]|(?<![{_IDEOGRAPHS}])[\U000e0100-\U000e01ef]"
    rf"|(?<={_MARKS * 6}){_MARKS}"
)
# Surrogates that are not bytes of a name: no encoding can write them.
_LONE_SURROGATES = r"\ud800-\udc7f\udd00-\udfff"
_PATTERNS = {
    (lines, terminal): rf"(?!\n)(?:{found})" if lines else found
    for lines in (True, False)
    for terminal, found in ((True, _HIDDEN), (False, f"[{CONTROLS}{_LONE_SURROGATES}]"))
}
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape_control_characters(text: str, *, lines: bool = False, terminal: bool = True) -> str:
    """The text with escapes such as \\x1b, \\n or \\u200b for characters that a terminal acts on or does not show. With
    `lines`, line ends stay. For a pipe or file (`terminal` false), invisible characters stay too."""
    if text.isascii() and text.isprintable():
        return text
    return pattern(lines=lines, terminal=terminal).sub(_escape, text)


def pattern(*, lines: bool = False, terminal: bool = True) -> re.Pattern[str]:
    """Matches each character that `escape_control_characters` escapes. (`re` caches compiled patterns.)"""
    return re.compile(_PATTERNS[lines, terminal])


def _escape(found: re.Match[str]) -> str:
    letter = found[0]
    code = ord(letter)
    if named := _NAMED.get(letter):
        return named
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


class EscapingStream(io.TextIOBase):
    """A stream to a terminal that can write only lines of text."""

    def __init__(self, stream: Any):
        """Text goes to `stream` escaped; other methods, such as `fileno`, are those of `stream`."""
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text escaped; returns its length."""
        if not isinstance(text, str):
            raise TypeError(f"write() expects a str, not {type(text).__name__}")
        start = "\r" if text.startswith("\r") else ""  # progress bars of other libraries begin so, to rewrite the line
        self.stream.write(start + escape_control_characters(text[len(start) :], lines=True))
        return len(text)

    def flush(self) -> None:
        """Flush the stream below."""
        self.stream.flush()

    def fileno(self) -> int:
        """That of the stream below."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """That of the stream below."""
        return self.stream.isatty()

    def writable(self) -> bool:
        """True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream below."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """That of the stream below."""
        return self.stream.errors


def unwrapped(stream: Any) -> Any:
    """The innermost stream, which escapes nothing: for our own sequences around escaped text."""
    while True:
        below = stream.stream if isinstance(stream, EscapingStream) else getattr(stream, "rich_proxied_file", None)
        if below is None:
            return stream
        stream = below


def escape_streams() -> None:
    """Escape from now on all text that this process writes to a terminal on stdout or stderr."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream.isatty() and not isinstance(stream, EscapingStream):
            setattr(sys, name, EscapingStream(stream))
