"""diptych index copy"""

from __future__ import annotations

from functools import partial

import click

from diptych.cli.exit_codes import OK
from diptych.cli.options import model_options, open_model, print_json, print_status, progress
from diptych.cli.terminal import print_result
from diptych.cli.trusting import trust_option
from diptych.display.counting import counted
from diptych.engines import EngineName


@click.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="How long to wait for a server.",
)
@trust_option
@model_options
def command(
    source: str, target: str, timeout_s: float, trust: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Copy an index, each a folder or an address: postgresql://HOST/DATABASE#NAME, milvus://HOST:19530/NAME, or
    milvus:///FOLDER/FILE.db.

    What is in TO already is not copied again, so that an interrupted copy goes on and a later one brings TO up to date;
    what FROM has no more is removed. Both are compared at the end. Pictures stay where they are.

    \b
    diptych index copy ~/Pictures postgresql://localhost/media#photos
    diptych search "two dogs" postgresql://localhost/media#photos
    """
    from diptych.index.copying import copy_index

    opener = partial(open_model, engine=engine, device=device, activation=activation)
    with progress("copying and comparing") as advance, progress("building the search index") as built:
        result = copy_index(
            source, target, model=model, open_model=opener, trust=trust, timeout_s=timeout_s, progress=advance,
            on_build=built,
        )  # fmt: skip
    if as_json:
        print_json(result._asdict())
    else:
        there = f", {result.already:,} were there" if result.already else ""
        gone = f", {result.removed:,} removed" if result.removed else ""
        print_result(f"{counted(result.copied, 'item')} copied{there}{gone}; both have {result.items:,}")
        print_status(f"checksum {result.checksum}")
    return OK
