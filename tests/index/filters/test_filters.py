"""Filters, applied to a real catalog."""

import pytest
from search_fixtures import Searched, TableModel, noise

from diptych.errors import FilterError
from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle

FILES = {
    "holidays/beach.jpg": {"taken_at": "2024-05-31T23:59:59", "latitude": 47.4, "longitude": 8.5, "camera": "Canon R6"},
    "holidays/2023/[1]/fiji.jpg": {"taken_at": "2023-12-31T00:00:00", "latitude": -17.0, "longitude": 179.5},
    "samoa.png": {"taken_at": "2024-06-01T00:00:00", "latitude": -13.8, "longitude": -171.8, "camera": "NIKON D90"},
    "holidays.jpg": {"taken_at": "2024"},
    "plain/caf\udce9.jpg": {},
}
SIZES = {"holidays/beach.jpg": (4000, 3000), "samoa.png": (600, 800), "holidays.jpg": (500, 500)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    index = Searched(tmp_path_factory.mktemp("filtered"), TableModel())
    for path, details in FILES.items():
        width, height = SIZES.get(path, (None, None))
        index.put(path, noise(1), width=width, height=height, **details)
    index.put("clip.mp4", noise(1), kind="video")
    return index


def passed(index: Searched, filters: Filters) -> set[str]:
    condition, parameters = filters.condition()
    return {item.path for item in index.catalog.items(index.catalog.matching(condition, parameters))}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), {*FILES, "clip.mp4"}),
        (Filters(since="2024-05"), {"holidays/beach.jpg", "samoa.png"}),
        (Filters(until="2024-05"), {"holidays/beach.jpg", "holidays/2023/[1]/fiji.jpg", "holidays.jpg"}),
        (Filters(since="2024-05-31", until="2024-05-31"), {"holidays/beach.jpg"}),
        (Filters(since="2024-06-01T00:00", until="2024-06-01T00"), {"samoa.png"}),
        (Filters(since="2023", until="2023"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(box=GeoBox(47, 8, 48, 9)), {"holidays/beach.jpg"}),
        (Filters(box=GeoBox(-20, 170, -10, -170)), {"holidays/2023/[1]/fiji.jpg", "samoa.png"}),
        (Filters(box=GeoBox(-20, -180, -10, 180)), {"holidays/2023/[1]/fiji.jpg", "samoa.png"}),
        (Filters(near=GeoCircle(47.4, 8.6, 7.6)), {"holidays/beach.jpg"}),
        (Filters(near=GeoCircle(47.4, 8.6, 7.5)), set()),
        (Filters(near=GeoCircle(-17, -180, 60)), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(near=GeoCircle(-15, 180, 1000)), {"holidays/2023/[1]/fiji.jpg", "samoa.png"}),
        (Filters(near=GeoCircle(90, 0, 4738)), {"holidays/beach.jpg"}),
        (Filters(near=GeoCircle(90, 0, 4736)), set()),
        (Filters(near=GeoCircle(0, 0, 30_000)), {"holidays/beach.jpg", "holidays/2023/[1]/fiji.jpg", "samoa.png"}),
        (Filters(near=GeoCircle(-15, 180, 1000), box=GeoBox(-16, -180, 0, 180)), {"samoa.png"}),
        (Filters(camera="canon"), {"holidays/beach.jpg"}),
        (Filters(camera="%"), set()),
        (Filters(path="holidays/**"), {"holidays/beach.jpg", "holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="2023/"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="2023"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="/2023"), set()),
        (Filters(path="*.JPG"), {path for path in FILES if path.endswith(".jpg")}),
        (Filters(path="**/*/**/[[]?]/**/*"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(subfolder="holidays"), {"holidays/beach.jpg", "holidays/2023/[1]/fiji.jpg"}),
        (Filters(subfolder="holidays", path="/*.jpg"), {"holidays/beach.jpg"}),
        (Filters(subfolder="holidays/2023", path="[[]1]/*"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="holidays/"), {"holidays/beach.jpg", "holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="holidays/*"), {"holidays/beach.jpg"}),
        (Filters(path="*.jpg"), {path for path in FILES if path.endswith(".jpg")}),
        (Filters(path="./*/*.jpg"), {"holidays/beach.jpg", "plain/caf\udce9.jpg"}),
        (Filters(path="**/[[]1]/**/f*.jpg"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="holidays/**/*j?.jpg"), {"holidays/2023/[1]/fiji.jpg"}),
        (Filters(path="[!h]*.p*"), {"samoa.png"}),
        (Filters(path="caf\udce9.jpg"), {"plain/caf\udce9.jpg"}),
        (Filters(path="'; DROP TABLE files; --"), set()),
        (Filters(min_width=600), {"holidays/beach.jpg", "samoa.png"}),
        (Filters(min_height=801), {"holidays/beach.jpg"}),
        (Filters(min_megapixels=12), {"holidays/beach.jpg"}),
        (Filters(orientation="landscape"), {"holidays/beach.jpg"}),
        (Filters(orientation="portrait"), {"samoa.png"}),
        (Filters(orientation="square"), {"holidays.jpg"}),
        (Filters(kind="video"), {"clip.mp4"}),
        (Filters(since="2024", orientation="portrait", camera="nikon"), {"samoa.png"}),
    ],
    ids=lambda value: repr(value)[8:60] if isinstance(value, Filters) else "",
)
def test_files_that_pass(index: Searched, filters: Filters, expected: set[str]) -> None:
    assert passed(index, filters) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"since": "May"}, "since='May' is not a date"),
        ({"until": "2024-02-30"}, "until='2024-02-30' is not a date"),
        ({"since": "2024-13"}, "is not a date"),
        ({"since": "2024-06", "until": "2024-05"}, "no date passes"),
        ({"box": GeoBox(1, 0, 0, 1)}, "south 1 and north 0"),
        ({"box": GeoBox(0, 181, 1, 0)}, "between -180 and 180"),
        ({"box": GeoBox(0, float("nan"), 1, 0)}, "four numbers"),
        ({"near": GeoCircle(91, 0, 1)}, "near has latitude 91; wanted degrees between -90 and 90"),
        ({"near": GeoCircle(0, -181, 1)}, "near has longitude -181; wanted degrees between -180 and 180"),
        ({"near": GeoCircle(0, 0, 0)}, "near has a radius of 0 km; wanted more than 0"),
        ({"near": GeoCircle(0, 0, float("inf"))}, "latitude and longitude in degrees, radius in kilometres"),
        ({"near": (1, 2)}, "wanted three numbers"),
        ({"orientation": "tall"}, "wanted one of landscape, portrait, square"),
        ({"min_megapixels": float("nan")}, "min_megapixels=nan; wanted 0 or more"),
        ({"path": "[z-a]*"}, r"path: '\[z-a\]\*' is no pattern"),
        ({"kind": "sound"}, "wanted one of picture, video, text"),
    ],
)
def test_filters_that_nothing_can_pass(arguments: dict, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        Filters(**arguments)


def test_until_a_month_that_since_is_in() -> None:
    assert Filters(since="2024-05-20", until="2024-05")
    assert not Filters()


def test_the_names_of_an_earlier_version() -> None:
    box = GeoBox(47, 8, 48, 9)
    with pytest.warns(DeprecationWarning, match=r"Filters.*place=.* is now box="):
        filters = Filters(place=box)  # type: ignore[call-arg]
    assert filters == Filters(box=box)
    with pytest.warns(DeprecationWarning, match="place is now box"):
        assert filters.place == box
    with pytest.warns(DeprecationWarning, match="under is now subfolder"):
        assert Filters(subfolder="a").under == "a"
