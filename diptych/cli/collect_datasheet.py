"""diptych collect datasheet"""

from __future__ import annotations

import os

import click

from diptych.cli.exit_codes import OK
from diptych.cli.names import quoted
from diptych.cli.options import json_option, print_json
from diptych.cli.terminal import print_result
from diptych.display.counting import counted


@click.command("datasheet")
@click.argument("out", type=click.Path(exists=True, file_okay=False))
@json_option
def command(out: str, as_json: bool) -> int:
    """Write OUT/datasheet.md and OUT/datasheet.json: what is in the collection OUT, and how it came about.

    \b
    diptych collect datasheet pairs/
    """
    from diptych.collect.output.datasheet import SHEET, write_datasheet

    facts = write_datasheet(out)
    if as_json:
        print_json(facts)
    else:
        pairs, shards = counted(facts["pairs"], "pair"), counted(facts["shards"], "shard")
        print_result(f"{quoted(os.path.join(out, f'{SHEET}.md'))}: {pairs} in {shards}")
    return OK
