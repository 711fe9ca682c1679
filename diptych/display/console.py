"""rich's console without markup, and with control characters escaped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.file_proxy import FileProxy
from rich.segment import Segment

from diptych.display.escaping import EscapingStream, escape_control_characters, unwrapped


class TextConsole(Console):
    """A console that shows text literally: square brackets, colons and links are not markup, and control characters are
    escaped as the last step before colours are added. Escape text for columns earlier, so that the columns fit."""

    def __init__(self, **options: Any):
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    @property
    def file(self) -> IO[str]:
        """The stream below an EscapingStream, because the text is escaped already and the colours must not be."""
        return unwrapped(self._file or (sys.stderr if self.stderr else sys.stdout))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of escaped text, and the console's own control codes."""
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control
                else segment._replace(
                    text=escape_control_characters(segment.text, lines=True, terminal=self.is_terminal)
                )
            )


@contextmanager
def redirected_streams() -> Iterator[None]:
    """Show the output of other libraries above a live display, escaped, because rich would interpret its escape
    sequences. Enter this within the live display."""
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:
        for stream, redirect in zip(before, (redirect_stdout, redirect_stderr), strict=True):
            if isinstance(stream, FileProxy):
                stack.enter_context(redirect(EscapingStream(stream)))
        yield
