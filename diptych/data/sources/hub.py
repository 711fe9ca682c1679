"""Hugging Face datasets, whole or streamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.confinement import Confined, all_outside
from diptych.data.samples import MAX_SIDECAR_BYTES, Sample, Source, Stream
from diptych.data.tables.columns import Columns, choose_columns, spell_columns
from diptych.data.tables.table_source import row_of
from diptych.data.tables.unpacked import Row, Unpacked, captions_in_cells, picture_bytes
from diptych.errors import DataError, FileError, JSONError
from diptych.text.encoding import decoded
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import open_file

WHOLE, STREAMED = "hf://", "hf-stream://"
_CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
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
    _datasets(name)
    confined = Confined([*caches(), *[name] * Path(name).is_dir()], allow_outside=allow_outside)
    rows = _loaded(name, config, split, streaming, confined)
    names = list(rows.column_names or next(iter(rows)))
    columns = choose_columns(names, image_column, caption_column, spec)
    rows = _undecoded(rows, columns[0]).select_columns([columns[0], *columns[1]])
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


def load_saved(folder: Path, confined: Confined) -> Any:
    """What `save_to_disk` of `datasets` left of one split. DataError where it is damaged, or names files outside of
    what `confined` holds; FileError where one is no plain file."""
    datasets = _datasets(str(folder))
    said = _read_json(folder / "state.json", confined)
    _read_json(folder / "dataset_info.json", confined)
    listed = said.get("_data_files")
    names = [each.get("filename") for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict)]
    paths = [folder / str(name) for name in names]
    if outside := confined.parted(paths)[1]:
        raise all_outside(folder, [os.path.relpath(path, folder) for path in outside], "files")
    for path in paths:
        open_file(path).close()  # no pipe and no device: it opens what it finds
    try:
        return datasets.load_from_disk(os.fspath(folder))
    except Exception as error:  # whatever it and the formats under it raise at damaged files
        raise DataError(f"{folder} cannot be read ({type(error).__name__}: {error!s:.300}).", "damaged set") from error


def _read_json(path: Path, confined: Confined) -> dict[str, Any]:
    try:
        said = parse_json(confined.read(path, MAX_SIDECAR_BYTES))
    except JSONError as error:
        raise DataError(f"{path} is damaged ({error}).", "damaged set") from error
    if not isinstance(said, dict):
        raise DataError(f"{path} is damaged: it holds no object.", "damaged set")
    return said


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{name} is read by datasets; pip install "diptych[datasets]".') from error
    return datasets


def _loaded(name: str, config: str | None, split: str, streaming: bool, confined: Confined) -> Any:
    datasets = _datasets(name)
    try:
        if (Path(name) / "state.json").exists():
            rows = load_saved(Path(name), confined)
            return rows.to_iterable_dataset(num_shards=min(64, len(rows))) if streaming else rows
        if Path(name).is_dir():
            _check_cards(Path(name), confined)
            _check_files(Path(name), datasets.load_dataset_builder(name, config).config.data_files, confined)
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except (DataError, FileError):
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise DataError(f"{name}: {error}. Wanted {USAGE}.") from error


def _check_cards(folder: Path, confined: Confined) -> None:
    """Look at the files of a folder that say which its data files are. DataError where they name addresses, of which
    `datasets` would ask at once; FileError where they lie outside or are no files."""
    for name in (name for name in _CARDS if os.path.lexists(folder / name)):
        text = decoded(confined.read(folder / name, MAX_SIDECAR_BYTES))
        head = text if name.endswith(".yaml") else text.partition("---")[2].partition("\n---")[0]
        if not confined.allow_outside and not name.endswith(".json") and (to := _address_in(head, folder / name)):
            raise all_outside(folder, [to], "files")


def _address_in(text: str, path: Path) -> str | None:
    """The first address among the data files that a card's YAML names."""
    import yaml

    try:
        said = yaml.safe_load(text)
    except Exception as error:  # its parser calls itself for what lies in each other
        raise DataError(f"{path} cannot be read ({type(error).__name__}).", "damaged set") from error
    waiting = [said.get("configs")] if isinstance(said, dict) else []
    seen: set[int] = set()  # a part may be named in many places, and in itself
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and ("://" in each or "::" in each):
            return each
        if isinstance(each, dict | list) and id(each) not in seen:
            seen.add(id(each))
            waiting += each.values() if isinstance(each, dict) else each
    return None


def _check_files(folder: Path, files: Any, confined: Confined) -> None:
    """DataError where data files, as `datasets` has found them, lie outside; FileError where one is no plain file."""
    paths = [str(path) for split in (files or {}).values() for path in split]
    if outside := [
        path for path in paths if not confined.allow_outside and ("://" in path or not confined.holds(path))
    ]:
        raise all_outside(folder, outside, "files")
    for path in (path for path in paths if "://" not in path):
        open_file(path).close()


def _undecoded(rows: Any, image_column: str) -> Any:
    """With the picture as a file's bytes: the loader decodes it, at the size that it needs."""
    import datasets

    kind = (rows.features or {}).get(image_column)
    return rows.cast_column(image_column, datasets.Image(decode=False)) if isinstance(kind, datasets.Image) else rows
