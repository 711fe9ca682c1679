"""diptych difference"""

from __future__ import annotations

import click

from diptych.cli.exit_codes import OK
from diptych.cli.options import listed, model_options, open_model, print_json, say, truncate_option
from diptych.cli.terminal import tell
from diptych.engines import EngineName

SAME = 0.999  # a cosine from which two pictures are taken for one


@click.command("difference")
@click.argument("first")
@click.argument("second")
@click.option("--words", metavar="A,B,...", help="Words to choose among, separated by commas.")
@click.option("--words-file", type=click.Path(exists=True, dir_okay=False), help="Words, one a line.")
@click.option("--template", default="a photo of a {}.", show_default=True, help="Prompt with {} for the word.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="Words to print each way.")
@truncate_option
@model_options
def command(
    first: str, second: str, words: str | None, words_file: str | None, template: str, top: int, truncate: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say which words best name what came from FIRST to SECOND (pictures or URLs), and what went.

    \b
    diptych difference before.jpg after.jpg --words hat,cup,cat,boat
    """
    from diptych.scoring.difference import difference

    names = _words(words, words_file)
    embedder = open_model(model, device, activation, engine)
    vectors = embedder.embed_labels(names, templates=[template], truncate=truncate)
    one, other = embedder.embed_images([first, second], decode="fast")
    found = difference(one, other, vectors, tuple(names), scale=embedder.scale)
    orders = {"came": (-found.came).argsort()[:top], "went": (-found.went).argsort()[:top]}
    if as_json:
        told = {way: {names[j]: float(getattr(found, way)[j]) for j in order} for way, order in orders.items()}
        print_json({"first": first, "second": second, "cosine": found.cosine, **told})
    else:
        for way, order in orders.items():
            shares = getattr(found, way)
            tell(f"{way}  " + "  ".join(f"{names[j]} {shares[j]:.1%}" for j in order))
    if found.cosine > SAME:
        say(f"the two pictures are nearly the same (cosine {found.cosine:.4f}): the words above mean little")
    return OK


def _words(words: str | None, words_file: str | None) -> list[str]:
    names = listed(words, words_file, "words")
    if len(names) < 2:
        raise click.UsageError("wanted two words or more. Pass --words hat,cup or --words-file FILE with one a line.")
    return names
