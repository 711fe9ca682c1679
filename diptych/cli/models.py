"""diptych models"""

import click

from diptych.cli.options import json_option, print_json, print_status
from diptych.cli.terminal import print_result


@click.command("models")
@json_option
def command(as_json: bool) -> None:
    """List the architectures that can be trained or read, with their sizes.

    \b
    diptych models --json
    """
    from diptych.training.architectures import architectures

    rows = {name: architecture._asdict() for name, architecture in architectures().items()}
    if as_json:
        print_json(rows)
        return
    print_status(f"{'architecture':24}{'parameters':>10}  {'picture':>7}  {'vector':>16}")
    for name, row in rows.items():
        size = f"{row['parameters'] / 1e6:9.1f}M  {row['image_size_px']:4} px  {row['dimensions']:5} dimensions"
        print_result(f"{name:24}{size}", fold=False)
