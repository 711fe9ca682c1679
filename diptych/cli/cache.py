"""diptych doctor --cache"""

from __future__ import annotations

import click

from diptych.cli.exit_codes import FAILED, OK
from diptych.cli.options import print_json, say
from diptych.cli.terminal import tell


def show_cache(empty: bool, as_json: bool) -> int:
    """Print what is kept for the user; with `empty` remove it first, and say how much went."""
    from diptych.storage import user_cache

    try:
        freed, trouble = user_cache.empty() if empty else (0, [])
        kept = user_cache.kept()
    except RuntimeError as error:
        raise click.ClickException(f"you have no place for a cache, so nothing is kept in one. {error}") from error
    if as_json:
        rows = [each._asdict() | {"folder": str(each.folder)} for each in kept]
        print_json({"cache": rows, "freed": freed, "not_removed": trouble})
    else:
        for each in kept:
            tell(f"{_megabytes(each.size):>9}  {each.files:>5,} files  {each.folder}", fold=False)
            tell(f"{'':9}  {each.purpose}", fold=False)
    for path in trouble:
        say(f"not removed: {path}")
    if empty:
        say(f"{_megabytes(freed)} went")
    elif any(each.files for each in kept):
        say("--empty removes it. Models from the hub are huggingface_hub's to keep: hf cache ls")
    return FAILED if trouble else OK


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
