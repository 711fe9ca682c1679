"""The options that filter files, and the filters that they set."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from diptych.cli.filters import filter_options, filters_of
from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle


def run(*arguments: str) -> tuple[Filters | None, str]:
    """The filters of a command line, and its error."""
    filters = list[Filters]()

    @click.command("search")
    @filter_options
    def command(**options: Any) -> None:
        filters.append(filters_of(options))

    result = CliRunner().invoke(command, arguments)
    return next(iter(filters), None), result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), Filters()),
        (("--box", "47.2,8.4,47.5,8.7"), Filters(box=GeoBox(47.2, 8.4, 47.5, 8.7))),
        (("--box=-20, 170, -10, -170",), Filters(box=GeoBox(-20, 170, -10, -170))),
        (("--near", "47.37,8.54,5"), Filters(near=GeoCircle(47.37, 8.54, 5))),
        (("--near", "-17.7,-178,0.5"), Filters(near=GeoCircle(-17.7, -178, 0.5))),
        (("--since", "2024", "--path", "*.jpg", "--kind", "picture"), Filters("2024", path="*.jpg", kind="picture")),
    ],
)
def test_options_set_filters(arguments: tuple[str, ...], expected: Filters) -> None:
    assert run(*arguments) == (expected, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--near", "47,8"), "--near 47,8; wanted LAT,LON,KM: degrees, degrees, kilometres"),
        (("--near", "here"), "--near here; wanted LAT,LON,KM"),
        (("--near", "95,8,1"), "--near has latitude 95; wanted degrees between -90 and 90"),
        (("--near", "47,8,-1"), "--near has a radius of -1 km; wanted more than 0"),
        (("--box", "1,2,3"), "--box 1,2,3; wanted SOUTH,WEST,NORTH,EAST in degrees"),
        (("--box", "5,1,4,2"), "--box has south 5 and north 4; wanted -90 <= south <= north <= 90"),
    ],
)
def test_options_that_no_file_can_match(arguments: tuple[str, ...], message: str) -> None:
    filters, error = run(*arguments)
    assert filters is None
    assert message in error
