"""diptych convert"""

from typing import Literal

import click

from diptych.cli.options import activation_option, json_option, print_json, say


@click.command("convert")
@click.argument("source")
@click.argument("target")
@click.option(
    "--to",
    "form",
    type=click.Choice(["hf", "open_clip", "openai"]),
    default="hf",
    show_default=True,
    help="Hugging Face's folder, open_clip's folder, or OpenAI's one file.",
)
@activation_option
@json_option
def command(
    source: str, target: str, form: Literal["hf", "open_clip", "openai"], activation: str | None, as_json: bool
) -> None:
    """Write the model SOURCE (a folder, a checkpoint file or a hub id) to TARGET in another format.

    \b
    diptych convert ViT-B-32.pt clip-vit-b-32 --to hf
    """
    from diptych.checkpoint import convert

    written = convert(source, target, to=form, activation=activation)
    if as_json:
        print_json({"source": source, "target": str(written), "format": form})
    else:
        click.echo(str(written))
    say(f"converted {source} to {form}")
