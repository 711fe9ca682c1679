"""The options that say which files may be found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.options import Command
from diptych.cli.wording import message_of
from diptych.errors import FilterError, Setting

if TYPE_CHECKING:
    from diptych.index.search.filters import Filters

_NAMES = (
    "since", "until", "file_dates", "camera", "min_width", "min_height", "min_megapixels", "orientation", "kind",
)  # fmt: skip


def filter_options(command: Command) -> Command:
    """--since, --until, --file-dates, --place, --camera, --path, --min-width, --min-height, --min-megapixels,
    --orientation and --kind."""
    for option in (
        click.option("--kind", type=click.Choice(["picture", "video", "text"]), help="Only this kind of file."),
        click.option("--orientation", type=click.Choice(["landscape", "portrait", "square"]), help="Only this shape."),
        click.option("--min-megapixels", type=click.FloatRange(min=0), metavar="N", help="At least so many."),
        click.option("--min-height", type=click.IntRange(min=1), metavar="PX", help="At least so high."),
        click.option("--min-width", type=click.IntRange(min=1), metavar="PX", help="At least so wide."),
        click.option(
            "--path", metavar="GLOB", help="Only such paths: '*.jpg', drafts/, 'holidays/**/b*'; as --exclude."
        ),
        click.option("--camera", metavar="WORDS", help="Only cameras with this in their name."),
        click.option("--place", "box", metavar="S,W,N,E", help="Only from this box of degrees: 47.2,8.4,47.5,8.7."),
        click.option(
            "--file-dates", is_flag=True, help="What does not say when it was taken goes by the file's last change."
        ),
        click.option("--until", metavar="DATE", help="Taken at the latest then; 2024-06 ends with June."),
        click.option("--since", metavar="DATE", help="Taken at the earliest then: 2024, 2024-05 or 2024-05-31."),
    ):
        command = option(command)
    return command


def filters_of(options: Mapping[str, Any]) -> Filters:
    """What the options ask for. Raises UsageError."""
    from diptych.index.search.filters import Box, Filters

    try:
        place = None
        if options["box"] is not None:
            try:
                place = Box(*(float(edge) for edge in options["box"].split(",")))
            except (TypeError, ValueError):
                raise FilterError(
                    [Setting("place", options["box"]), "; wanted four numbers: south,west,north,east."]
                ) from None
        return Filters(place=place, path=options["path"], **{name: options[name] for name in _NAMES})
    except FilterError as error:
        raise click.UsageError(message_of(error)) from error
