"""diptych collect"""

from __future__ import annotations

import importlib

import click

# Subcommand -> description. The module diptych.cli.collect_NAME has a click command `command`.
SUBCOMMANDS: dict[str, str] = {
    "crawl": "collect pictures with the words near them from web pages",
    "list": "download the pictures of a table of addresses and captions",
    "filter": "keep the pairs of shards that are worth training on",
    "common-crawl": "find pictures with captions in archives of the web",
    "datasheet": "write what a collection contains, and how it came about",
    "forget": "remove from a collection what someone asks to have removed",
}


class _Subcommands(click.Group):
    """Lists the subcommands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        return importlib.import_module(f"diptych.cli.collect_{cmd_name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group("collect", cls=_Subcommands)
def command() -> None:
    """Collect pictures with captions, as WebDataset shards to train on. Each command accepts --json; --help lists its
    options.

    \b
    diptych collect list pairs.parquet pairs/
    """
