"""diptych embed"""

from functools import partial
from typing import Any

import click

from diptych.cli.index_shards import RAY, cluster_of, cluster_options, embedding_settings, report_sharded
from diptych.cli.interruption import interrupt_on_sigterm
from diptych.cli.options import (
    failures_json,
    follow_links_option,
    model_options,
    open_model,
    outside_option,
    print_json,
    print_status,
    progress,
    report_failures,
    report_links,
)
from diptych.cli.terminal import print_result
from diptych.display.counting import counted


@click.command("embed")
@click.argument("source")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--shard-size", default=10_000, show_default=True, type=click.IntRange(min=1), help="Rows per file.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Type of the vectors.",
)
@follow_links_option
@outside_option
@cluster_options
@partial(model_options, engines=("openvino", "pytorch", RAY))
def command(
    source: str, out: str, shard_size: int, dtype: Any, follow_links: bool, allow_outside: bool, cluster: str | None,
    workers: int | None, cpus: int | None, gpus: float | None, image_column: str | None, caption_column: str | None,
    model: str | None, engine: str | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Write the vectors of all pictures of SOURCE (a folder, or pairs as `diptych train` reads them) to the folder OUT:
    npy files, each with a Parquet table of its rows. Vectors of captions go to OUT/texts. The same command continues an
    interrupted run.

    With --engine ray or --cluster, SOURCE is tar shards or Parquet files, here or in object storage; a Ray cluster
    embeds them, and there is one npy file for each.

    \b
    diptych embed ~/Pictures vectors/
    diptych embed s3://bucket/shards/ vectors/ --engine ray
    """
    options = {"cluster": cluster, "workers": workers, "cpus": cpus, "gpus": gpus}
    if cluster_of(engine, **options)[0]:
        from diptych.index.bulk.shards import embed_shards

        settings = embedding_settings(model, engine, device, activation, **options)
        columns: dict[str, Any] = {"image_column": image_column, "caption_column": caption_column}
        with interrupt_on_sigterm(), progress("embedding shards") as advance:
            done = embed_shards(source, out, dtype=dtype, progress=advance, **settings, **columns)
        return report_sharded(done, out, as_json)
    if image_column or caption_column:
        raise click.UsageError("--image-column and --caption-column are for --engine ray.")
    from diptych.data.samples import spell_counts
    from diptych.index.bulk.job import embed_in_bulk

    embedder = open_model(model, device, activation, engine)  # type: ignore[arg-type]
    with progress("embedding") as advance:
        written = embed_in_bulk(
            embedder, source, out, shard_size=shard_size, dtype=dtype, follow_links=follow_links,
            allow_outside=allow_outside, progress=advance,
        )  # fmt: skip
    report_links(written.links)
    if written.skipped:
        print_status(f"left out {spell_counts(written.skipped)}")
    code = report_failures(written.failures)
    if as_json:
        counts = {"rows": written.rows, "texts": written.texts, "shards": written.shards, "found": written.found}
        print_json({"out": out, **counts, "skipped": written.skipped, "failures": failures_json(written.failures)})
    else:
        print_result(out, fold=False)
    before = f", {written.found} of them from an earlier run" if written.found else ""
    rows, texts = counted(written.rows, "picture"), counted(written.texts, "text")
    print_status(f"{rows} and {texts} in {counted(written.shards, 'shard')}{before}")
    return code
