"""diptych index duplicates"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import NOTHING
from diptych.cli.names import quoted
from diptych.cli.options import failures_json, json_option, print_json, progress, report_failures, report_refused, say
from diptych.cli.terminal import tell, write_paths
from diptych.cli.trusting import opened, trust_option

if TYPE_CHECKING:
    from diptych.index.search.near_duplicates import Copy


@click.command("duplicates")
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--threshold", type=float, help="The cosine from which two pictures count as one; by default 0.94.")
@click.option("--index", "place", metavar="DIR", help="Where the index is; by default in FOLDER/.diptych.")
@click.option(
    "--update/--no-update", default=None, help="Look for new and changed files first; by default up to 10,000 files."
)
@click.option(
    "--paths", is_flag=True, help="Print all of each group but the one to keep, one a line, odd names quoted."
)
@click.option("-0", "nul", is_flag=True, help="The same as they are, with a NUL after each: for xargs -0.")
@trust_option
@json_option
def command(
    folder: str, threshold: float | None, place: str | None, update: bool | None, paths: bool, nul: bool, trust: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Group the pictures in the index of FOLDER that are nearly the same: copies, other sizes, other compressions.

    Each group begins with the one to keep: that of most pixels, then of most bytes. Nothing is removed.

    \b
    diptych index duplicates ~/Pictures
    diptych index duplicates ~/Pictures --threshold 0.98 --json
    """
    from diptych.cli.auto_update import update_if_needed
    from diptych.index.search.near_duplicates import THRESHOLD, find_duplicates

    with opened(folder, opens_model=update is not False, index=place, trust=trust) as index:
        failures, before = update_if_needed(index, folder, update)
        with progress("comparing") as advance:
            found = find_duplicates(index, threshold=THRESHOLD if threshold is None else threshold, progress=advance)
        report_refused(index.catalog.refused.values())
    code = report_failures(failures, before)
    if as_json:
        groups = [[copy._asdict() | {"path": str(copy.path)} for copy in group] for group in found.groups]
        print_json({"searched": found.searched, "groups": groups, "failures": failures_json(failures)})
    elif paths or nul:
        write_paths((copy.path for group in found.groups for copy in group[1:]), nul=nul)
    else:
        for at, group in enumerate(found.groups):
            for line in [""] * bool(at) + _told(group):
                tell(line, fold=False)
    copies = sum(len(group) - 1 for group in found.groups)
    say(f"{len(found.groups):,} groups with {copies:,} copies among {found.searched:,} pictures")
    return code if found.groups else NOTHING


def _told(group: list[Copy]) -> list[str]:
    """A group, the one to keep first."""

    def line(copy: Copy) -> str:
        shape = f"{copy.width} x {copy.height}" if copy.width else ""
        return f"{copy.cosine:5.3f}  {shape:>13}  {copy.size:>12,}  {quoted(copy.path)}"

    return list(map(line, group))
