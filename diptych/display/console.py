"""rich's console as this package uses it: markup is text, and nothing in a text does anything in the terminal."""

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
    """A console that shows text as it reads: square brackets, colons and links in it are no markup, and its control
    characters are escaped as the last step, before colours are added. What is laid out in columns should be harmless
    before, so that the columns fit."""

    def __init__(self, **options: Any):
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    @property
    def file(self) -> IO[str]:
        """The stream to write to, below one that escapes: what comes here is harmless, and the rest is our own."""
        return unwrapped(self._file or (sys.stderr if self.stderr else sys.stdout))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of harmless text, and the console's own movements of the cursor."""
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
    """What other libraries write while something live stands in the terminal comes out above it: rich, which would
    follow the sequences in that, gets it harmless. To be entered within what is live."""
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:
        for stream, redirect in zip(before, (redirect_stdout, redirect_stderr), strict=True):
            if isinstance(stream, FileProxy):
                stack.enter_context(redirect(EscapingStream(stream)))
        yield
