"""diptych index SHARDS --into INDEX"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.exit_codes import FAILED, OK, PARTLY
from diptych.cli.interruption import interrupt_on_sigterm
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    print_json,
    print_status,
    report_failures,
    stages,
)
from diptych.cli.terminal import print_result
from diptych.display.counting import counted
from diptych.engines import EngineName

if TYPE_CHECKING:
    from diptych.index.bulk.ray_cluster import Workers
    from diptych.index.bulk.sharded_job import ShardedResult

Command = TypeVar("Command", bound=Callable[..., Any])
RAY = "ray"


def cluster_options(command: Command) -> Command:
    """--cluster, --workers, --cpus, --gpus, and the columns of Parquet files."""
    for option in (
        click.option("--caption-column", metavar="NAME", help="The column of captions in Parquet files."),
        click.option("--image-column", metavar="NAME", help="The column of pictures in Parquet files."),
        click.option(
            "--gpus",
            metavar="NUMBER",
            type=click.FloatRange(min=0),
            help="GPUs of each worker; by default 1 if the cluster has any. Parts, such as 0.5, share one.",
        ),
        click.option(
            "--cpus", metavar="CORES", type=click.IntRange(min=1), help="Cores of each worker; by default up to 8."
        ),
        click.option(
            "--workers",
            metavar="NUMBER",
            type=click.IntRange(min=1),
            help="How many workers embed; by default as many as the cluster has room for.",
        ),
        click.option(
            "--cluster",
            metavar="ADDRESS",
            help="The Ray cluster that embeds: HOST:PORT, ray://HOST:PORT, auto, or local for this machine, which is "
            "what --engine ray alone means.",
        ),
    ):
        command = option(command)
    return command


@click.command("index")
@click.argument("source", metavar="SHARDS")
@click.option(
    "--into",
    metavar="INDEX",
    required=True,
    help="The index that gets the pictures: a folder for it, or an address (postgresql://..., milvus://...).",
)
@click.option(
    "--records",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Where it is noted which shards are complete; by default in the user's cache.",
)
@cluster_options
@partial(model_options, engines=("openvino", "pytorch", RAY))
def command(
    source: str, into: str, records: str | None, cluster: str | None, workers: int | None, cpus: int | None,
    gpus: float | None, image_column: str | None, caption_column: str | None,
    model: str | None, engine: str | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Embed the pictures of SHARDS, and their captions, into an index: WebDataset tars or Parquet files in a folder, by
    a pattern, or at http(s)://, s3://, gs:// or az://.

    With --engine ray or --cluster a Ray cluster embeds, and this process stores what comes. The same command continues
    an interrupted run: complete shards are not read again, and nothing is stored twice.

    \b
    diptych index shards/ --into library/
    diptych index 's3://bucket/set/{0000..4095}.tar' --into postgresql://host/media --engine ray
    diptych index s3://bucket/set/ --into milvus://host:19530/media --cluster ray://head:10001 --gpus 1
    diptych search "two dogs" library/
    """
    from diptych.index.bulk.shards import index_shards

    options = {"cluster": cluster, "workers": workers, "cpus": cpus, "gpus": gpus}
    settings = embedding_settings(model, engine, device, activation, **options)
    columns: dict[str, Any] = {"image_column": image_column, "caption_column": caption_column}
    with interrupt_on_sigterm(), stages("embedding shards", "building the search structure") as (advance, on_build):
        done = index_shards(
            source, into, records=records, progress=advance, on_build=on_build, **settings, **columns
        )  # fmt: skip
    return report_sharded(done, into, as_json)


def embedding_settings(
    model: str | None, engine: str | None, device: str | None, activation: str | None, **options: Any
) -> dict[str, Any]:
    """The open model, and what a cluster is told, as arguments of `index_shards` and `embed_shards`. Raises UsageError
    for sizes of workers without a cluster."""
    cluster, workers = cluster_of(engine, **options)
    own: EngineName | None = None if engine == RAY else engine  # type: ignore[assignment]
    # The model of this process is asked for its names alone where others embed: it needs none of their devices
    opened = open_model(model, None if cluster else device, activation, None if cluster else own)
    settings: dict[str, Any] = {"model": opened, "activation": activation, "cluster": cluster, "workers": workers}
    return {**settings, "device": device, "engine": own}


def cluster_of(engine: str | None, **options: Any) -> tuple[str | None, Workers]:
    """The address of the cluster, None for this process, and its workers."""
    from diptych.index.bulk.ray_cluster import LOCAL, Workers

    cluster = options["cluster"] or (LOCAL if engine == RAY else None)
    sizes = {f"--{name}": options[name] for name in ("workers", "cpus", "gpus") if options[name] is not None}
    if sizes and cluster is None:
        raise click.UsageError(f"{next(iter(sizes))} is for a cluster; add --engine ray or --cluster ADDRESS.")
    return cluster, Workers(options["workers"], options["cpus"], options["gpus"])


def report_sharded(done: ShardedResult, into: str, as_json: bool) -> int:
    """Print what was embedded; return the exit code."""
    from diptych.data.samples import spell_counts

    if done.skipped:
        print_status(f"left out {spell_counts(done.skipped)}")
    code = max(report_failures(done.failures), PARTLY if done.lost else OK)
    if done.lost:
        shards = counted(len(done.lost), "shard is", "shards are")
        print_status(f"{shards} not complete; the same command tries again:")
        report_failures(done.lost)
    if as_json:
        counts = {"rows": done.rows, "texts": done.texts, "shards": done.shards, "found": done.found}
        lists = {"failures": failures_json(done.failures), "lost": failures_json(done.lost)}
        print_json({"into": shown_address(into), **counts, "skipped": done.skipped, **lists})
    else:
        print_result(shown_address(into), fold=False)
    before = f", {done.found:,} of them from an earlier run" if done.found else ""
    rows, texts = counted(done.rows, "picture"), counted(done.texts, "text")
    print_status(f"{rows} and {texts} of {counted(done.shards, 'shard')}{before}")
    return code if done.shards else FAILED


def shown_address(into: str) -> str:
    """The address of an index without its password, or a folder."""
    from diptych.index.stores.uri import StoreURI, is_store_uri

    return str(StoreURI.parse(into)) if is_store_uri(into) else into
