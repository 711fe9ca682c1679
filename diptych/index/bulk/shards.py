"""Shards of pictures into an index or into files of vectors, for Python and the command line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diptych.errors import IndexDirectoryError
from diptych.extras import require
from diptych.index.bulk.ray_cluster import WorkerModel, Workers, embed_on_ray
from diptych.index.bulk.shard_files import ModelFacts
from diptych.index.bulk.shard_targets import StoreTarget, VectorFiles
from diptych.index.bulk.sharded_job import EmbedShards, ShardedResult, embed_here, embed_sharded
from diptych.index.bulk.sharded_source import ShardedSource, open_sharded
from diptych.index.folder import IndexFolder
from diptych.index.model import source_of
from diptych.index.stores.local import LocalStore
from diptych.index.stores.opening import open_store
from diptych.index.stores.uri import is_store_uri
from diptych.storage.user.cache_folder import cache_folder

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.engines import EngineName
    from diptych.index.stores.store import Progress, Store

_RECORDS = "shards"  # the folder of records in the user's cache


def index_shards(
    source: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    model: Embedder,
    cluster: str | None = None,
    workers: Workers = Workers(),  # noqa: B008
    device: str | None = None,
    engine: EngineName | None = None,
    activation: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    records: str | os.PathLike[str] | None = None,
    progress: Progress = lambda done, total: None,
    on_build: Progress = lambda done, total: None,
) -> ShardedResult:
    """Embed the pictures of tar shards or Parquet files, and their captions, into an index.

    `source` is a folder, a pattern or an address (http(s)://, s3://, gs://, az://, file://); `into` is a folder, which
    need not contain the pictures, or the address of a store. The path of a picture there is SHARD/KEY, and its id is
    the same whenever it is embedded, so that nothing is there twice.

    With `cluster` (an address of Ray, "auto", or "local" for this machine) Ray embeds, with `workers` of this size,
    each of which opens the model by its name, with `device`, `engine` and `activation`; otherwise `model` embeds here.
    The call may be repeated after an interruption: shards that are complete, according to the `records` (a folder; by
    default in the user's cache), are not embedded again. `progress` gets (done, total) shards, `on_build` the steps of
    building the search structures.

    Raises DataError where there are no shards, ClusterError, IndexModelError where the index has another model's
    vectors, IndexBusyError, and IndexDirectoryError where `into` has the index of its own pictures.
    """
    found = open_sharded(source, image_column=image_column, caption_column=caption_column)
    with _opened(into) as store:
        target = StoreTarget(store, records or _records_of(store, found, model), source_of(model))
        embed = _embedding(model, cluster, workers, device, engine, activation)
        return embed_sharded(found, target, embed, _facts(model), progress=progress, on_build=on_build)


def embed_shards(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: Embedder,
    cluster: str | None = None,
    workers: Workers = Workers(),  # noqa: B008
    device: str | None = None,
    engine: EngineName | None = None,
    activation: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    progress: Progress = lambda done, total: None,
) -> ShardedResult:
    """Embed the pictures of shards, and their captions, into the folder `out`, in the form of `embed_in_bulk`: an npy
    file for each shard, named like it, with a Parquet table of its rows. The arguments are those of `index_shards`."""
    require("the table beside the vectors", "pyarrow")
    found = open_sharded(source, image_column=image_column, caption_column=caption_column)
    embed = _embedding(model, cluster, workers, device, engine, activation)
    return embed_sharded(found, VectorFiles(out, dtype), embed, _facts(model), progress=progress)


def _facts(model: Embedder) -> ModelFacts:
    return ModelFacts.of(model)._replace(name=source_of(model))


def _embedding(
    model: Embedder, cluster: str | None, workers: Workers, device: str | None, engine: EngineName | None,
    activation: str | None,
) -> EmbedShards:  # fmt: skip
    if cluster is None:
        return embed_here(model)
    arguments = {"source": source_of(model), "device": device, "engine": engine, "activation": activation}
    return embed_on_ray(WorkerModel(arguments, model.fingerprint), cluster=cluster, workers=workers)


@contextmanager
def _opened(into: str | os.PathLike[str]) -> Iterator[Store]:
    """The store of an index, without the folder's own pictures."""
    if is_store_uri(into):
        store: Store = open_store(os.fspath(into))
    else:
        folder = Path(into)
        folder.mkdir(parents=True, exist_ok=True)
        store = LocalStore(IndexFolder(folder))
        if store.exists and "source" not in store.facts():
            store.close()
            raise IndexDirectoryError(
                f"{folder} has the index of its own pictures; name another folder for those of shards."
            )
    try:
        yield store
    finally:
        store.close()


def _records_of(store: Store, source: ShardedSource, model: Embedder) -> Path:
    """The folder of the records of this job, which differ by the store, the source and the model."""
    job = "\0".join((store.name, source.root, model.fingerprint)).encode("utf-8", "surrogatepass")
    return cache_folder(_RECORDS) / hashlib.blake2b(job, digest_size=12).hexdigest()
