"""Options that filter files by date, location, camera, path, size and kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.options import Command
from diptych.cli.wording import message_of
from diptych.errors import FilterError, Setting

if TYPE_CHECKING:
    from diptych.index.filters.filters import Filters

Area = TypeVar("Area")
_NAMES = (
    "since", "until", "file_dates", "camera", "min_width", "min_height", "min_megapixels", "orientation", "kind",
)  # fmt: skip


def filter_options(command: Command) -> Command:
    """--since, --until, --file-dates, --box, --near, --camera, --path, --min-width, --min-height, --min-megapixels,
    --orientation and --kind."""
    for option in (
        click.option("--kind", type=click.Choice(["picture", "video", "text"]), help="Only this kind of file."),
        click.option("--orientation", type=click.Choice(["landscape", "portrait", "square"]), help="Only this shape."),
        click.option(
            "--min-megapixels",
            type=click.FloatRange(min=0),
            metavar="N",
            help="At least N megapixels.",
        ),
        click.option("--min-height", type=click.IntRange(min=1), metavar="PX", help="At least this height."),
        click.option("--min-width", type=click.IntRange(min=1), metavar="PX", help="At least this width."),
        click.option(
            "--path",
            metavar="GLOB",
            help="Only matching paths: '*.jpg', drafts/, 'holidays/**/b*'; patterns as for --exclude.",
        ),
        click.option("--camera", metavar="WORDS", help="Only cameras whose name contains this."),
        click.option("--near", metavar="LAT,LON,KM", help="Only within KM kilometres of a point: 47.37,8.54,5."),
        click.option(
            "--box", metavar="SOUTH,WEST,NORTH,EAST", help="Only inside these edges, in degrees: 47.2,8.4,47.5,8.7."
        ),
        click.option("--file-dates", is_flag=True, help="Date files that record no date by their last change."),
        click.option("--until", metavar="DATE", help="Taken then or earlier; 2024-06 includes all of June."),
        click.option("--since", metavar="DATE", help="Taken then or later: 2024, 2024-05 or 2024-05-31."),
    ):
        command = option(command)
    return command


def filters_of(options: Mapping[str, Any]) -> Filters:
    """The filters that the options set. Raises UsageError."""
    from diptych.index.filters.filters import Filters
    from diptych.index.filters.geography import GeoBox, GeoCircle

    try:
        return Filters(
            box=_numbers("box", options["box"], GeoBox, "SOUTH,WEST,NORTH,EAST in degrees"),
            near=_numbers("near", options["near"], GeoCircle, "LAT,LON,KM: degrees, degrees, kilometres"),
            path=options["path"],
            **{name: options[name] for name in _NAMES},
        )
    except FilterError as error:
        raise click.UsageError(message_of(error)) from error


def _numbers(name: str, text: str | None, make: Callable[..., Area], wanted: str) -> Area | None:
    """An area from comma-separated numbers. Raises FilterError."""
    if text is None:
        return None
    try:
        return make(*(float(number) for number in text.split(",")))
    except (TypeError, ValueError):
        raise FilterError([Setting(name, text), f"; wanted {wanted}."]) from None
