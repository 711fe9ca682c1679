"""diptych index duplicates"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import NOTHING
from diptych.cli.names import quoted
from diptych.cli.options import (
    failures_json,
    json_option,
    print_json,
    print_status,
    report_failures,
    report_refused,
    stages,
)
from diptych.cli.terminal import print_result, write_paths
from diptych.cli.trusting import opened, trust_option
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.index.search.near_duplicates import Copy


@click.command("duplicates")
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--threshold",
    type=float,
    help="The cosine from which on two pictures are compared by their pixels; by default 0.85.",
)
@click.option("--index", "index_dir", metavar="DIR", help="The index directory; by default FOLDER/.diptych.")
@click.option(
    "--update/--no-update",
    default=None,
    help="Update the index first; by default if the folder has up to 10,000 files.",
)
@click.option(
    "--paths",
    is_flag=True,
    help="Print the paths to remove of each group, one per line, quoted if necessary.",
)
@click.option("-0", "nul", is_flag=True, help="Print these paths unquoted, each followed by NUL: for xargs -0.")
@trust_option
@json_option
def command(
    folder: str, threshold: float | None, index_dir: str | None, update: bool | None, paths: bool, nul: bool,
    trust: bool, as_json: bool,
) -> int:  # fmt: skip
    """Group nearly identical pictures in the index of FOLDER: copies, other sizes, other compressions, cropped edges,
    marks, mirrored ones, shots of one moment.

    Vectors propose them and the pixels decide, in small grey versions that are kept for the next time. Each group
    begins with the one to keep: the one with the most pixels, then the most bytes. Nothing is removed.

    \b
    diptych index duplicates ~/Pictures
    diptych index duplicates ~/Pictures --threshold 0.98 --json
    """
    from diptych.cli.auto_update import update_if_needed
    from diptych.index.search.near_duplicates import THRESHOLD, VECTORS_ALONE, find_duplicates

    with opened(folder, opens_model=update is not False, index=index_dir, trust=trust) as index:
        failures, known_count = update_if_needed(index, folder, update)
        with stages("comparing", "looking at the pixels") as (advance, on_read):
            found = find_duplicates(
                index, threshold=THRESHOLD if threshold is None else threshold, progress=advance, on_read=on_read
            )
        report_refused(index.catalog.refused.values())
    code = report_failures(failures, known_count)
    if as_json:
        groups = [[copy._asdict() | {"path": str(copy.path)} for copy in group] for group in found.groups]
        print_json(
            {"searched": found.searched, "unread": found.unread, "groups": groups, "failures": failures_json(failures)}
        )
    elif paths or nul:
        write_paths((copy.path for group in found.groups for copy in group[1:]), nul=nul)
    else:
        for number, group in enumerate(found.groups):
            for line in [""] * bool(number) + _lines(group):
                print_result(line, fold=False)
    copies = sum(len(group) - 1 for group in found.groups)
    many = counted(copies, "copy", "copies")
    print_status(f"{counted(len(found.groups), 'group')} with {many} among {counted(found.searched, 'picture')}")
    if found.unread:
        pictures = counted(found.unread, "picture near another", "pictures near others")
        print_status(f"{pictures} could not be read: vectors alone decide, from a cosine of {VECTORS_ALONE}")
    return code if found.groups else NOTHING


def _lines(group: list[Copy]) -> list[str]:
    """A line for each picture of a group, the one to keep first."""

    def line(copy: Copy) -> str:
        shape = f"{copy.width} x {copy.height}" if copy.width else ""
        return f"{copy.cosine:5.3f}  {shape:>13}  {copy.size:>12,}  {quoted(copy.path)}"

    return list(map(line, group))
