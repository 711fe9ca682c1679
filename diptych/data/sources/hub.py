"""Hugging Face datasets, downloaded or streamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.column_names import Columns, describe_columns
from diptych.data.confinement import AllowedFolders, all_outside
from diptych.data.samples import MAX_SIDECAR_BYTES, Sample, Source, Stream
from diptych.data.tables.columns import choose_columns
from diptych.data.tables.spooled import SpooledSamples, TableRow, captions_in_cells, picture_bytes
from diptych.data.tables.table_source import row_of
from diptych.errors import DataError, FileError, JSONError
from diptych.text.encoding import decoded
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import open_file

WHOLE, STREAMED = "hf://", "hf-stream://"
_CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
USAGE = "hf://OWNER/NAME, hf://OWNER/NAME:SPLIT or hf://OWNER/NAME/CONFIG:SPLIT"


class HubSource:
    """A dataset on this machine."""

    def __init__(self, rows: Any, columns: Columns, name: str, allowed: AllowedFolders):
        self._rows, self._columns, self._name, self._allowed = rows, columns, name, allowed
        self._texts = rows.select_columns(columns[1])
        self.form = f"Hugging Face dataset with columns {describe_columns(columns)}"
        self.skipped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        with self._damage(index):
            row = row_of(self._rows[index], self._columns, self.key(index))
        return Sample(picture_bytes(row, None, self._allowed), captions_in_cells(row), row.key)

    def captions(self, index: int) -> tuple[str, ...]:
        with self._damage(index):
            cells = list(self._texts[index].values())
        return captions_in_cells(TableRow(self.key(index), None, cells))

    @contextmanager
    def _damage(self, index: int) -> Iterator[None]:
        """Raises DataError for every error of `datasets` and its file formats."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            message = f"{self.key(index)} cannot be read ({type(error).__name__}: {error!s:.300})."
            raise DataError(message, "damaged row") from error

    def key(self, index: int) -> str:
        return f"row {index} of {self._name}"


def open_hub(
    spec: str, image_column: str | None, caption_column: str | None, *, allow_outside: bool = False
) -> Source | Stream:
    """`hf://OWNER/NAME:SPLIT` is downloaded into the cache of `datasets`, `hf-stream://OWNER/NAME:SPLIT` is fetched
    shard by shard; the default split is "train". OWNER/NAME may also be a folder of data files or
    of `save_to_disk`. Pictures that rows give as paths must be in the caches of `datasets` or in that folder, unless
    `allow_outside` is set."""
    streaming = spec.startswith(STREAMED)
    name, config, split = _parsed(spec.removeprefix(STREAMED).removeprefix(WHOLE))
    _datasets(name)
    allowed = AllowedFolders([*caches(), *[name] * Path(name).is_dir()], allow_outside=allow_outside)
    rows = _loaded(name, config, split, streaming, allowed)
    names = list(rows.column_names or next(iter(rows)))
    columns = choose_columns(names, image_column, caption_column, spec)
    rows = _undecoded(rows, columns[0]).select_columns([columns[0], *columns[1]])
    if not streaming:
        return HubSource(rows, columns, name, allowed)
    count = rows.num_shards
    form = f"Hugging Face stream of {count} shards, with columns {columns[0]} and {', '.join(columns[1])}"
    shards = [f"shard {number} of {count} of {name}" for number in range(count)]
    known = rows.info.splits[split].num_examples if rows.info.splits and split in rows.info.splits else None
    return Stream(shards, partial(_fetch, rows=rows, columns=columns, form=form, allowed=allowed), form, known)


def caches() -> list[str]:
    """The cache folders of `datasets` and the hub."""
    from datasets import config
    from huggingface_hub import constants

    return [str(config.HF_DATASETS_CACHE), constants.HF_HUB_CACHE]


def _fetch(shard: str, folder: Path, rows: Any, columns: Columns, form: str, allowed: AllowedFolders) -> SpooledSamples:
    number = int(shard.split()[1])
    part = rows.shard(num_shards=rows.num_shards, index=number)
    try:
        named = (row_of(record, columns, f"row {i} of {shard}") for i, record in enumerate(part))
        return SpooledSamples(folder / "pictures", named, form, allowed=allowed)
    except (OSError, DataError):
        raise
    except Exception as error:  # `datasets` and its formats have no common error
        raise DataError(f"{shard} cannot be read ({type(error).__name__}: {error}).", "damaged shard") from error


def _parsed(rest: str) -> tuple[str, str | None, str]:
    """OWNER/NAME/CONFIG:SPLIT -> (name, config, split)."""
    name, colon, split = rest.rpartition(":")
    name, split = (name, split) if colon else (rest, "train")
    parts = name.split("/")
    if not name or not split:
        raise DataError(f"{WHOLE}{rest} does not name a dataset; wanted {USAGE}.")
    if Path(name).is_dir() or len(parts) < 3:
        return name, None, split
    return "/".join(parts[:2]), "/".join(parts[2:]), split


def load_saved(folder: Path, allowed: AllowedFolders) -> Any:
    """One split in a folder of `save_to_disk` of `datasets`. Raises DataError if it is damaged or refers to files
    outside of `allowed`, FileError if one of its files is not a regular file."""
    datasets = _datasets(str(folder))
    content = _read_json(folder / "state.json", allowed)
    _read_json(folder / "dataset_info.json", allowed)
    listed = content.get("_data_files")
    names = [each.get("filename") for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict)]
    paths = [folder / str(name) for name in names]
    if outside := allowed.split_outside(paths)[1]:
        raise all_outside(folder, [os.path.relpath(path, folder) for path in outside], "files")
    for path in paths:
        open_file(path).close()  # raises for a pipe or device, which `datasets` would open
    try:
        return datasets.load_from_disk(os.fspath(folder))
    except Exception as error:  # `datasets` and its formats have no common error
        raise DataError(f"{folder} cannot be read ({type(error).__name__}: {error!s:.300}).", "damaged set") from error


def _read_json(path: Path, allowed: AllowedFolders) -> dict[str, Any]:
    try:
        content = parse_json(allowed.read(path, MAX_SIDECAR_BYTES))
    except JSONError as error:
        raise DataError(f"{path} is damaged ({error}).", "damaged set") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: it is not a JSON object.", "damaged set")
    return content


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{name} needs the library datasets; pip install "diptych[datasets]".') from error
    return datasets


def _loaded(name: str, config: str | None, split: str, streaming: bool, allowed: AllowedFolders) -> Any:
    datasets = _datasets(name)
    try:
        if (Path(name) / "state.json").exists():
            rows = load_saved(Path(name), allowed)
            return rows.to_iterable_dataset(num_shards=min(64, len(rows))) if streaming else rows
        if Path(name).is_dir():
            _check_cards(Path(name), allowed)
            _check_files(Path(name), datasets.load_dataset_builder(name, config).config.data_files, allowed)
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except (DataError, FileError):
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise DataError(f"{name}: {error}. Wanted {USAGE}.") from error


def _check_cards(folder: Path, allowed: AllowedFolders) -> None:
    """Checks the files that list a folder's data files. Raises DataError if they contain addresses, which `datasets`
    would fetch at once, and FileError if they are outside or not regular files."""
    for name in (name for name in _CARDS if os.path.lexists(folder / name)):
        text = decoded(allowed.read(folder / name, MAX_SIDECAR_BYTES))
        head = text if name.endswith(".yaml") else text.partition("---")[2].partition("\n---")[0]
        if not allowed.allow_outside and not name.endswith(".json") and (to := _address_in(head, folder / name)):
            raise all_outside(folder, [to], "files")


def _address_in(text: str, path: Path) -> str | None:
    """The first address among the data files in a card's YAML."""
    import yaml

    try:
        content = yaml.safe_load(text)
    except Exception as error:  # such as RecursionError for deep nesting
        raise DataError(f"{path} cannot be read ({type(error).__name__}).", "damaged set") from error
    waiting = [content.get("configs")] if isinstance(content, dict) else []
    seen: set[int] = set()  # YAML aliases may repeat a part, even in itself
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and ("://" in each or "::" in each):
            return each
        if isinstance(each, dict | list) and id(each) not in seen:
            seen.add(id(each))
            waiting += each.values() if isinstance(each, dict) else each
    return None


def _check_files(folder: Path, files: Any, allowed: AllowedFolders) -> None:
    """Raises DataError if data files that `datasets` found are outside, FileError if one is not a regular file."""
    paths = [str(path) for split in (files or {}).values() for path in split]
    if outside := [
        path for path in paths if not allowed.allow_outside and ("://" in path or not allowed.contains(path))
    ]:
        raise all_outside(folder, outside, "files")
    for path in (path for path in paths if "://" not in path):
        open_file(path).close()


def _undecoded(rows: Any, image_column: str) -> Any:
    """The rows with pictures as a file's bytes: the loader decodes them at the size that it needs."""
    import datasets

    kind = (rows.features or {}).get(image_column)
    return rows.cast_column(image_column, datasets.Image(decode=False)) if isinstance(kind, datasets.Image) else rows
