"""diptych search"""

import click

from diptych.cli import FAILED, NOTHING
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    print_json,
    progress,
    report_failures,
    say,
    say_cut,
    truncate_option,
    write_input_sheet,
    write_picture,
)
from diptych.engines import EngineName


class _Search(click.Command):
    """Says what to do where a sentence came without its quotes, and its second word was taken for the folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            of_folder = isinstance(error, click.BadParameter) and error.param and error.param.name == "folder"
            if not of_folder and not error.message.startswith("Got unexpected extra"):
                raise
            hint = 'Put a sentence of several words in quotes: diptych search "a red star" photos/'
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None


@click.command("search", cls=_Search)
@click.argument("text")
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=1), help="How many pictures to print.")
@click.option("--paths", is_flag=True, help="Print paths alone, one a line.")
@click.option(
    "--sheet", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures found as one picture."
)
@click.option("--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write them as the model sees them.")
@truncate_option
@model_options
def command(
    text: str, folder: str, limit: int, paths: bool, sheet: str | None, show_input: str | None, truncate: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Find the pictures under FOLDER (by default the current one) that fit the sentence TEXT best.

    \b
    diptych search "two dogs running across a frosty field" ~/Pictures --sheet found.png
    """
    from diptych.index.search import search_folder

    if not text.strip():
        raise click.UsageError("TEXT is empty; say in a word or more what to look for.")
    embedder = open_model(model, device, activation, engine)
    with progress("looking at pictures") as advance:
        found = search_folder(embedder, folder, text, limit=limit, truncate=truncate, progress=advance)
    if truncate:
        say_cut(embedder, [text])
    code = report_failures(found.failures)
    if not found.searched and not found.failures:
        say(f"no pictures in {folder}; wanted JPEG, PNG, WebP, GIF, BMP or TIFF files there or below.")
        code = NOTHING
    elif not found.searched:
        code = FAILED
    if as_json:
        hits = [{"path": str(hit.path), "score": hit.score} for hit in found.hits]
        print_json({"query": text, "searched": found.searched, "hits": hits, "failures": failures_json(found.failures)})
    else:
        for hit in found.hits:
            click.echo(str(hit.path) if paths else f"{hit.score:6.3f}  {hit.path}")
    if sheet and found.hits:
        from diptych.plots import contact_sheet, file_name, thumbnail

        tiles = [(thumbnail(hit.path), f"{hit.score:.3f} {file_name(hit.path)}") for hit in found.hits]
        write_picture(sheet, contact_sheet(tiles).save)
    if show_input and found.hits:
        write_input_sheet(show_input, embedder, [hit.path for hit in found.hits])
    return code
