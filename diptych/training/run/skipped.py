"""skipped.jsonl: every training sample and shard that could not be used, one JSON object per line: its `key`, the
`reason` in two or three words, and the full `message`."""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

from diptych.data.loading.decoding import BadSample
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import open_for_append

FILE = "skipped.jsonl"
MAX_LOGGED = 10  # on the terminal; all are in the file


class SkippedLog:
    """Records a loader's unusable samples during the run: the first ones by `log`, all in the file."""

    def __init__(self, folder: Path, bad: Mapping[str, BadSample], log: Callable[[str], None]):
        """`bad` grows at its end. Its present entries were recorded before the run was resumed."""
        self._path, self._bad, self._log, self._recorded = folder / FILE, bad, log, len(bad)

    def update(self) -> None:
        """Record new entries."""
        if len(self._bad) == self._recorded:
            return
        for bad in islice(self._bad.values(), self._recorded, MAX_LOGGED):
            self._log(f"skipped {bad.message}")
        if self._recorded <= MAX_LOGGED < len(self._bad):
            self._log(f"more samples are skipped; {self._path} lists them all")
        self._write(islice(self._bad.items(), self._recorded, None), overwrite=not self._recorded)
        self._recorded = len(self._bad)

    def finish(self) -> None:
        """Rewrite all entries: a kill may have left an incomplete line, and other processes have other entries."""
        if self._bad:
            self._write(self._bad.items(), overwrite=True)

    def _write(self, items: Iterable[tuple[str, BadSample]], *, overwrite: bool) -> None:
        lines = (json.dumps({"key": key, **bad._asdict()}, ensure_ascii=False) + "\n" for key, bad in items)
        with contextlib.suppress(OSError):  # on a full disk the run continues; its last lines have all reasons
            if overwrite:
                atomic_write_text(self._path, "".join(lines))
                return
            with open_for_append(self._path) as file:
                file.writelines(lines)
