"""Tables of pictures that were found, with their captions: what `diptych collect list` downloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from diptych.collect.pairs import Found, Words

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 5000  # of a group, which is in memory


class FoundTable:
    """Writes a Parquet table: `url`, `captions` (the best first) with their `origins`, `page_url`, `language`,
    `licence`, `time`, and the `archive` that it was found in. Use as a context manager."""

    def __init__(self, path: Path, archive: str):
        import pyarrow.parquet as pq

        self._archive, self._waiting, self.rows = archive, list[dict[str, Any]](), 0
        self._schema = _schema()
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, found: Found) -> None:
        """Write a row."""
        self._waiting.append({
            "url": found.picture_url,
            "captions": [_text(words.text) for words in found.words],
            "origins": [words.origin for words in found.words],
            "page_url": found.page_url,
            "language": _text(found.language),
            "licence": _text(found.licence),
            "time": round(found.time_s * 1000) if found.time_s else None,
            "archive": self._archive,
        })  # fmt: skip
        self.rows += 1
        if len(self._waiting) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting.clear()

    def __enter__(self) -> FoundTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()


def read_found(path: Path) -> Iterator[Found]:
    """The rows of a table that FoundTable wrote."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(_ROWS):
            for row in batch.to_pylist():
                words = tuple(Words(*each) for each in zip(row["captions"], row["origins"], strict=True))
                time_s = row["time"].timestamp() if row["time"] else 0.0
                yield Found(
                    row["url"], words, row["page_url"], row["language"], row["licence"], time_s,
                    {"archive": row["archive"]},
                )  # fmt: skip


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    return pa.schema([
        ("url", text), ("captions", texts), ("origins", texts), ("page_url", text), ("language", text),
        ("licence", text), ("time", pa.timestamp("ms", tz="UTC")), ("archive", text),
    ])  # fmt: skip


def _text(text: str) -> str:
    """Without unpaired surrogates, which Parquet refuses."""
    return text.encode("utf-8", "replace").decode()
