"""diptych difference"""

from __future__ import annotations

import click

from diptych.cli.exit_codes import OK
from diptych.cli.options import listed, model_options, open_model, print_json, print_status, truncate_option
from diptych.cli.terminal import print_result
from diptych.engines import EngineName


@click.command("difference")
@click.argument("first")
@click.argument("second")
@click.option("--words", metavar="A,B,...", help="Words to choose from, separated by commas.")
@click.option("--words-file", type=click.Path(exists=True, dir_okay=False), help="Words, one per line.")
@click.option("--template", default="a photo of a {}.", show_default=True, help="Prompt with {} for the word.")
@click.option(
    "--top", default=5, show_default=True, type=click.IntRange(min=1), help="Words to print for each direction."
)
@truncate_option
@model_options
def command(
    first: str, second: str, words: str | None, words_file: str | None, template: str, top: int, truncate: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Print the words that best describe the things that appeared and disappeared from FIRST to SECOND (pictures or
    URLs).

    \b
    diptych difference before.jpg after.jpg --words hat,cup,cat,boat
    """
    names = _words(words, words_file)
    embedder = open_model(model, device, activation, engine)
    result = embedder.difference(first, second, names, templates=[template], truncate=truncate)
    best = dict(zip(("came", "went"), result.top(top), strict=True))
    if as_json:
        print_json({"first": first, "second": second, "cosine": result.cosine, **best})
    else:
        for direction, shares in best.items():
            print_result(f"{direction}  " + "  ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    if result.is_same:
        print_status(f"the two pictures are nearly the same (cosine {result.cosine:.4f}): the words above mean little")
    return OK


def _words(words: str | None, words_file: str | None) -> list[str]:
    names = listed(words, words_file, "words")
    if len(names) < 2:
        raise click.UsageError(
            "expected two words or more. Pass --words hat,cup or --words-file FILE with one per line."
        )
    return names
