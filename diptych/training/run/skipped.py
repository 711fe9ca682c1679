"""skipped.jsonl: every training sample, and every shard, that could not be used, one JSON object a line: its `key`, the
`reason` in two or three words, and a `message` for people."""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

from diptych.data.loading.decoding import Bad
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import open_for_append

FILE = "skipped.jsonl"
SAID = 10  # by name on the terminal; the others are in the file


class SkippedNames:
    """Names what a loader has met, as it meets it: the first ones by `say`, all in the file."""

    def __init__(self, folder: Path, bad: Mapping[str, Bad], say: Callable[[str], None]):
        """`bad` grows at its end; what is in it already was named by the run that goes on."""
        self._path, self._bad, self._say, self._named = folder / FILE, bad, say, len(bad)

    def name(self) -> None:
        """Those that are new."""
        if len(self._bad) == self._named:
            return
        for bad in islice(self._bad.values(), self._named, SAID):
            self._say(f"skipped {bad.message}")
        if self._named <= SAID < len(self._bad):
            self._say(f"more samples are skipped; {self._path} names them all")
        self._write(islice(self._bad.items(), self._named, None), anew=not self._named)
        self._named = len(self._bad)

    def finish(self) -> None:
        """All of them once more: a kill may have torn the last line, and other processes have met others."""
        if self._bad:
            self._write(self._bad.items(), anew=True)

    def _write(self, items: Iterable[tuple[str, Bad]], *, anew: bool) -> None:
        lines = (json.dumps({"key": key, **bad._asdict()}, ensure_ascii=False) + "\n" for key, bad in items)
        with contextlib.suppress(OSError):  # on a full disk the run goes on; the end of it names every reason
            if anew:
                atomic_write_text(self._path, "".join(lines))
                return
            with open_for_append(self._path) as file:
                file.writelines(lines)
