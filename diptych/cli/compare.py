"""diptych compare"""

import os
from pathlib import Path

import click

from diptych.cli import FAILED, NOTHING
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    pictures_in,
    print_json,
    progress,
    report_failures,
    say,
    truncate_option,
    write_input_sheet,
)

METRICS = ("cosine", "dot", "euclidean")


@click.command("compare")
@click.argument("images")
@click.argument("texts")
@click.option("--image", "more_images", multiple=True, help="One more picture or folder; may be repeated.")
@click.option("--text", "more_texts", multiple=True, help="One more sentence; may be repeated.")
@click.option("--metric", type=click.Choice([*METRICS, "all"]), default="cosine", show_default=True, help="What to print and draw.")  # fmt: skip
@click.option("--plot", metavar="PNG", type=click.Path(dir_okay=False), help="Write the matrix as a heat map.")
@click.option("--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures as the model sees them.")
@truncate_option
@model_options
def command(
    images: str, texts: str, more_images: tuple[str, ...], more_texts: tuple[str, ...], metric: str,
    plot: str | None, show_input: str | None, truncate: bool,
    model: str | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Score IMAGES (a picture, a folder or a URL) against TEXTS (a sentence, or a text file with one a line).

    \b
    diptych compare photos/ captions.txt --plot matrix.png
    diptych compare cat.jpg "a cat" --text "a dog" --metric all
    """
    from diptych.comparison import compare

    sentences = [*_sentences(texts), *more_texts]
    paths = pictures_in((images, *more_images))
    embedder = open_model(model, device, activation)
    if not paths:
        say(f"no pictures in {images}.")
        return NOTHING
    with progress("looking at pictures") as advance:
        seen = embedder.embed_readable(paths, progress=advance)
    code = report_failures(seen.failures)
    if not seen.keys:
        return FAILED
    matrices = compare(seen.vectors, embedder.embed_texts(sentences, truncate=truncate))._asdict()
    names = [str(path) for path in seen.keys]
    chosen = METRICS if metric == "all" else (metric,)
    if as_json:
        values = {name: matrix.tolist() for name, matrix in matrices.items()}
        print_json({"pictures": names, "texts": sentences, **values, "failures": failures_json(seen.failures)})
    else:
        for name in chosen:
            _print_table(name, matrices[name], names, sentences)
    if plot:
        from diptych.plots import similarity_figure, thumbnail

        pictures = [thumbnail(path) for path in seen.keys]
        similarity_figure({name: matrices[name] for name in chosen}, pictures, sentences).savefig(plot)
        say(f"wrote {plot}")
    if show_input:
        write_input_sheet(show_input, embedder, seen.keys)
    return code


def _sentences(texts: str) -> list[str]:
    """The lines of a text file, or the sentence itself."""
    if not os.path.isfile(texts):
        return [texts]
    lines = [line.strip() for line in Path(texts).read_text(encoding="utf-8", errors="replace").splitlines()]
    sentences = [line for line in lines if line]
    if not sentences:
        raise click.ClickException(f"{texts} holds no sentence; wanted one a line.")
    return sentences


def _print_table(metric: str, matrix, names: list[str], sentences: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=metric, title_justify="left")
    table.add_column("", overflow="fold")
    for sentence in sentences:
        table.add_column(sentence, justify="right")
    best = matrix.argmin(axis=1) if metric == "euclidean" else matrix.argmax(axis=1)
    for name, row, top in zip(names, matrix, best, strict=True):
        cells = [f"[bold]{value:.3f}[/bold]" if j == top else f"{value:.3f}" for j, value in enumerate(row)]
        table.add_row(Path(name).name, *cells)
    Console().print(table)
