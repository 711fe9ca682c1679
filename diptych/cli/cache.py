"""diptych doctor --cache"""

from __future__ import annotations

import click

from diptych.cli.exit_codes import FAILED, OK
from diptych.cli.options import print_json, print_status
from diptych.cli.terminal import print_result


def show_cache(clear: bool, as_json: bool) -> int:
    """Print the folders of the user's cache and their sizes. With `clear` delete their files first."""
    from diptych.storage.user import cache

    try:
        freed, not_removed = cache.empty() if clear else (0, [])
        entries = cache.kept()
    except RuntimeError as error:
        raise click.ClickException(f"this user has no cache folder, so nothing is cached. {error}") from error
    if as_json:
        rows = [entry._asdict() | {"folder": str(entry.folder)} for entry in entries]
        print_json({"cache": rows, "freed": freed, "not_removed": not_removed})
    else:
        for entry in entries:
            print_result(f"{_megabytes(entry.size):>9}  {entry.files:>5,} files  {entry.folder}", fold=False)
            print_result(f"{'':9}  {entry.purpose}", fold=False)
    for path in not_removed:
        print_status(f"not removed: {path}")
    if clear:
        print_status(f"deleted {_megabytes(freed)}")
    elif any(entry.files for entry in entries):
        print_status("--clear deletes these files. huggingface_hub keeps models from the hub: hf cache ls")
    return FAILED if not_removed else OK


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
