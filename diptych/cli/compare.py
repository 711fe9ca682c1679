"""diptych compare"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import FAILED, NOTHING
from diptych.cli.names import quoted
from diptych.cli.options import (
    failures_json,
    follow_links_option,
    lines_of,
    model_options,
    open_model,
    print_json,
    print_status,
    progress,
    report_failures,
    report_links,
    report_truncated,
    truncate_option,
    write_input_sheet,
    write_picture,
)
from diptych.display.escaping import escape_control_characters
from diptych.engines import EngineName

if TYPE_CHECKING:
    import numpy as np

METRICS = ("cosine", "dot", "euclidean")
CELL_WIDTH, LONG_WORD, LONG_NAME = 6, 12, 40  # a value like -0.123 has 6 characters


@click.command("compare")
@click.argument("images")
@click.argument("texts")
@click.option("--image", "more_images", multiple=True, help="One more picture or folder; may be repeated.")
@click.option("--text", "more_texts", multiple=True, help="One more sentence; may be repeated.")
@click.option(
    "--metric",
    type=click.Choice([*METRICS, "all"]),
    default="cosine",
    show_default=True,
    help="The measure to print and draw. The vectors have length 1, so dot equals cosine.",
)
@click.option("--plot", metavar="PNG", type=click.Path(dir_okay=False), help="Write the matrix as a heat map.")
@click.option(
    "--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures as the model sees them."
)
@follow_links_option
@truncate_option
@model_options
def command(
    images: str, texts: str, more_images: tuple[str, ...], more_texts: tuple[str, ...], metric: str,
    plot: str | None, show_input: str | None, follow_links: bool, truncate: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Score IMAGES (a picture, a folder or a URL) against TEXTS (a sentence, or a text file with one per line).

    Pictures and sentences that cannot be read are left out and named.

    \b
    diptych compare photos/ captions.txt --plot matrix.png
    diptych compare cat.jpg "a cat" --text "a dog" --metric all
    """
    from diptych.extras import require

    if plot:
        require("drawing the matrix", "matplotlib")
    sentences = [*_sentences(texts), *more_texts]
    sources = (images, *more_images)
    embedder = open_model(model, device, activation, engine)
    with progress("embedding pictures") as advance:
        found = embedder.compare_files(
            sources, sentences, truncate=truncate, follow_links=follow_links, progress=advance
        )
    report_links(found.links)
    failures = {**{f"text {at}": failure for at, failure in found.text_failures.items()}, **found.picture_failures}
    code = report_failures(failures)
    matrices, names = found.measures._asdict(), [str(picture) for picture in found.pictures]
    chosen = {name: matrices[name] for name in (METRICS if metric == "all" else (metric,))}
    if as_json:
        values = {name: matrix.tolist() for name, matrix in matrices.items()}
        print_json({"pictures": names, "texts": found.texts, **values, "failures": failures_json(failures)})
    if not names and not found.picture_failures:
        print_status(f"no pictures in {', '.join(sources)}.")
        return NOTHING
    if not names or not found.texts:
        return FAILED
    if truncate:
        report_truncated(embedder, found.texts)
    if not as_json:
        _print_tables(chosen, names, found.texts)
    if plot:
        _write_plot(plot, chosen, found.pictures, found.texts)
    if show_input:
        write_input_sheet(show_input, embedder, found.pictures)
    return code


def _sentences(texts: str) -> list[str]:
    """The lines of a text file, or the sentence itself."""
    if os.path.isdir(texts):
        raise click.UsageError(f"TEXTS is the folder {texts}; expected a sentence or a text file after IMAGES.")
    if os.path.isfile(texts):
        if sentences := lines_of(texts):
            return sentences
        raise click.ClickException(f"{texts} contains no sentence; expected one per line.")
    if texts.endswith(".txt") and not any(map(str.isspace, texts)):
        raise click.UsageError(f"there is no text file {texts}; check the path.")
    return [texts]


def _print_tables(matrices: Mapping[str, "np.ndarray"], names: Sequence[str], sentences: Sequence[str]) -> None:
    from diptych.display.console import TextConsole

    console = TextConsole()
    if len({os.path.dirname(name) for name in names}) == 1:
        names = [Path(name).name for name in names]
    names = [escape_control_characters(quoted(name), terminal=console.is_terminal) for name in names]
    for metric, matrix in matrices.items():
        table = _table(metric, matrix, names, sentences, console.width)
        least = 1 + sum(3 + (column.width or column.min_width or 0) for column in table.columns)
        # The table may be wider than the terminal so that no value is cut off; a print is no wider than its console.
        TextConsole(width=max(console.width, least)).print(table, crop=False, no_wrap=True)


def _widths(names: Sequence[str], sentences: Sequence[str], width: int) -> tuple[int, int]:
    """The width of the names' column and the minimum width of a sentence's column. No name or word is broken if `width`
    allows it; if `width` is too small for the values, the table is wider."""
    from rich.cells import cell_len

    room = width - 1 - 3 * (len(sentences) + 1)  # between lines and the spaces beside them
    longest_name = max(map(cell_len, names))
    longest_word = max(cell_len(word) for sentence in sentences for word in sentence.split())
    fits = longest_name <= room - CELL_WIDTH * len(sentences)
    name = longest_name if fits else min(longest_name, max(LONG_NAME, room // 2))
    share = (room - name) // len(sentences)
    return name, max(CELL_WIDTH, min(longest_word, share if share >= CELL_WIDTH else LONG_WORD))


def _table(metric: str, matrix: "np.ndarray", names: Sequence[str], sentences: Sequence[str], width: int):
    """The table. Names and sentences are `Text`, in which rich parses no markup."""
    from rich.table import Table
    from rich.text import Text

    from diptych.display.plots import shortened

    sentences = [escape_control_characters(shortened(sentence), terminal=sys.stdout.isatty()) for sentence in sentences]
    name_width, sentence_width = _widths(names, sentences, width)
    table = Table(title=metric, title_justify="left")
    table.add_column("", overflow="fold", width=name_width)
    for sentence in sentences:
        table.add_column(Text(sentence, overflow="fold"), justify="right", min_width=sentence_width)
    best = matrix.argmin(axis=1) if metric == "euclidean" else matrix.argmax(axis=1)
    for name, row, top in zip(names, matrix, best, strict=True):
        table.add_row(Text(name), *(Text(f"{value:.3f}", "bold" if j == top else "") for j, value in enumerate(row)))
    return table


def _write_plot(path: str, matrices: Mapping[str, "np.ndarray"], pictures: Sequence, sentences: Sequence[str]) -> None:
    from diptych.display.plots import file_name, thumbnail
    from diptych.display.similarity_plot import MOST, similarity_figure

    names = [file_name(picture) for picture in pictures]
    small = [thumbnail(picture) for picture in pictures] if max(len(pictures), len(sentences)) <= MOST else []
    write_picture(path, similarity_figure(matrices, small, sentences, names=names).savefig)
