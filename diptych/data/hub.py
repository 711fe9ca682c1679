"""Hugging Face datasets, whole or streamed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.columns import Columns, choose_columns, spell_columns
from diptych.data.confinement import Confined
from diptych.data.samples import DataError, Sample, Source, Stream
from diptych.data.tables import row_of
from diptych.data.unpacked import Row, Unpacked, captions_in_cells, picture_bytes

WHOLE, STREAMED = "hf://", "hf-stream://"
USAGE = "hf://OWNER/NAME, hf://OWNER/NAME:SPLIT or hf://OWNER/NAME/CONFIG:SPLIT"


class HubSource:
    """A dataset whose rows lie on this machine."""

    def __init__(self, rows: Any, columns: Columns, name: str, confined: Confined):
        self._rows, self._columns, self._name, self._confined = rows, columns, name, confined
        self._texts = rows.select_columns(columns[1])
        self.form = f"Hugging Face dataset with columns {spell_columns(columns)}"
        self.skipped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        with self._damage(index):
            row = row_of(self._rows[index], self._columns, self.key(index))
        return Sample(picture_bytes(row, None, self._confined), captions_in_cells(row), row.key)

    def captions(self, index: int) -> tuple[str, ...]:
        with self._damage(index):
            cells = list(self._texts[index].values())
        return captions_in_cells(Row(self.key(index), None, cells))

    @contextmanager
    def _damage(self, index: int) -> Iterator[None]:
        """DataError for whatever `datasets` and the formats under it raise at a row."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            said = f"{self.key(index)} cannot be read ({type(error).__name__}: {error!s:.300})."
            raise DataError(said, "damaged row") from error

    def key(self, index: int) -> str:
        return f"row {index} of {self._name}"


def open_hub(
    spec: str, image_column: str | None, caption_column: str | None, *, allow_outside: bool = False
) -> Source | Stream:
    """`hf://OWNER/NAME:SPLIT` is fetched whole into the cache of `datasets`, `hf-stream://` shard by shard as it is
    read; the split is "train" where none is named. A folder in place of OWNER/NAME holds data files, or what
    `save_to_disk` left. Pictures that rows give by their path lie in the caches of `datasets`, or in that folder; with
    `allow_outside` anywhere."""
    streaming = spec.startswith(STREAMED)
    name, config, split = _parsed(spec.removeprefix(STREAMED).removeprefix(WHOLE))
    rows = _loaded(name, config, split, streaming)
    names = list(rows.column_names or next(iter(rows)))
    columns = choose_columns(names, image_column, caption_column, spec)
    rows = _undecoded(rows, columns[0]).select_columns([columns[0], *columns[1]])
    confined = Confined([*caches(), *[name] * Path(name).is_dir()], allow_outside=allow_outside)
    if not streaming:
        return HubSource(rows, columns, name, confined)
    count = rows.num_shards
    form = f"Hugging Face stream of {count} shards, with columns {columns[0]} and {', '.join(columns[1])}"
    shards = [f"shard {number} of {count} of {name}" for number in range(count)]
    known = rows.info.splits[split].num_examples if rows.info.splits and split in rows.info.splits else None
    return Stream(shards, partial(_fetch, rows=rows, columns=columns, form=form, confined=confined), form, known)


def caches() -> list[str]:
    """Where `datasets` and the hub keep files."""
    from datasets import config
    from huggingface_hub import constants

    return [str(config.HF_DATASETS_CACHE), constants.HF_HUB_CACHE]


def _fetch(shard: str, folder: Path, rows: Any, columns: Columns, form: str, confined: Confined) -> Unpacked:
    number = int(shard.split()[1])
    part = rows.shard(num_shards=rows.num_shards, index=number)
    try:
        named = (row_of(record, columns, f"row {i} of {shard}") for i, record in enumerate(part))
        return Unpacked(folder / "pictures", named, form, confined=confined)
    except (OSError, DataError):
        raise
    except Exception as error:  # whatever `datasets` and the formats under it raise at damaged or distant files
        raise DataError(f"{shard} cannot be read ({type(error).__name__}: {error}).", "damaged shard") from error


def _parsed(rest: str) -> tuple[str, str | None, str]:
    """OWNER/NAME/CONFIG:SPLIT -> (name, config, split)."""
    name, colon, split = rest.rpartition(":")
    name, split = (name, split) if colon else (rest, "train")
    parts = name.split("/")
    if not name or not split:
        raise DataError(f"{WHOLE}{rest} names no dataset; wanted {USAGE}.")
    if Path(name).is_dir() or len(parts) < 3:
        return name, None, split
    return "/".join(parts[:2]), "/".join(parts[2:]), split


def _loaded(name: str, config: str | None, split: str, streaming: bool) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{name} is read by datasets; pip install "diptych[datasets]".') from error
    try:
        if (Path(name) / "state.json").exists():  # what save_to_disk leaves of one split
            rows: Any = datasets.load_from_disk(name)
            return rows.to_iterable_dataset(num_shards=min(64, len(rows))) if streaming else rows
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"{name}: {error}. Wanted {USAGE}.") from error


def _undecoded(rows: Any, image_column: str) -> Any:
    """With the picture as a file's bytes: the loader decodes it, at the size that it needs."""
    import datasets

    kind = (rows.features or {}).get(image_column)
    return rows.cast_column(image_column, datasets.Image(decode=False)) if isinstance(kind, datasets.Image) else rows
