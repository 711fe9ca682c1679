"""A list of a hundred thousand pictures, made up between the page and the service; and where its pictures stand."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.serve.page.conftest import Opened
from tests.serve.page.reading import cells

TOTAL = 100_000
SHAPES = ((640, 480), (480, 640), (900, 300), (500, 500))
DOT = bytes.fromhex("47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b")  # a GIF


def made_up(page: Page, asked: list[int] | None = None) -> None:
    """Answer for the service: a list without end, whose pictures have four shapes."""

    def answer(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        offset, limit = (int(query.get(name, ["0"])[0]) for name in ("offset", "limit"))
        if asked is not None:
            asked.append(offset)
        items = [item(number) for number in range(offset, min(TOTAL, offset + limit))]
        route.fulfill(json={"items": items, "total": TOTAL, "next_offset": offset + limit, "cursor": "c_1"})

    page.route(re.compile(r"/v1/items\?"), answer)
    page.route(
        re.compile(r"/v1/items/\d+$"), lambda route: route.fulfill(json=item(int(route.request.url.rpartition("/")[2])))
    )
    page.route(re.compile("/v1/albums"), lambda route: route.fulfill(json={"albums": []}))
    page.route(re.compile("/v1/thumbnails/"), lambda route: route.fulfill(body=DOT, content_type="image/gif"))


def item(number: int) -> dict[str, object]:
    width, height = SHAPES[number % 4]
    rest = dict.fromkeys(
        ("caption", "text", "taken_at", "camera", "latitude", "longitude", "at_s", "duration_s", "original")
    )
    return {
        **rest, "id": number, "kind": "picture", "modality": "picture", "path": "1.jpg", "name": f"{number}.jpg",
        "folder": "", "width": width, "height": height, "size": 1000, "thumbnail": f"/v1/thumbnails/{number}?v=1",
    }  # fmt: skip


def top_item(page: Page) -> int:
    """The first picture below the header."""
    script = """() => [...document.querySelectorAll(".cell[data-id]")]
      .map((cell) => [cell.getBoundingClientRect().top, Number(cell.dataset.id)])
      .filter(([top]) => top > 60).sort(([a], [b]) => a - b)[0][1]"""
    return page.evaluate(script)


def test_only_what_is_near_is_in_the_document(opened: Opened) -> None:
    asked: list[int] = []
    page = opened(before=lambda page: made_up(page, asked))
    expect(page.get_by_role("heading", level=1)).to_have_text("All pictures 100,000")
    assert cells(page).count() < 150
    assert page.evaluate("document.documentElement.scrollHeight") > 1_000_000
    page.locator(".cell[tabindex='0']").focus()
    page.keyboard.press("End")
    expect(page.locator(f".cell[data-id='{TOTAL - 1}']")).to_be_focused()
    assert cells(page).count() < 150
    assert len(asked) < 20  # and not the thousand pages between


def test_the_place_is_kept_on_the_way_back_and_over_a_reload(opened: Opened) -> None:
    page = opened(before=made_up)
    expect(cells(page).first).to_be_visible()
    page.evaluate("scrollTo(0, 500000)")
    expect(page.locator(".cell[data-id]").first).to_be_visible()
    page.evaluate(
        """() => new Promise((resolve) => {
          const look = () => (history.state?.anchor?.index > 1000 ? resolve(true) : requestAnimationFrame(look));
          look();
        })"""
    )
    before = top_item(page)
    page.locator(f".cell[data-id='{before}']").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(f".cell[data-id='{before}']")).to_be_focused()
    page.get_by_role("link", name="Albums").click()
    expect(page.get_by_role("heading", level=1, name="Albums")).to_be_visible()
    page.go_back()
    expect(page.locator(f".cell[data-id='{before}']")).to_be_in_viewport()
    page.reload()
    expect(page.locator(f".cell[data-id='{before}']")).to_be_in_viewport()


def test_rows_fill_the_width_and_keep_the_shapes(opened: Opened) -> None:
    page = opened(before=made_up)
    expect(cells(page).first).to_be_visible()
    script = """() => [...document.querySelectorAll(".row")].map((row) => [...row.children].map((cell) => {
      const box = cell.getBoundingClientRect();
      return [box.left, box.right, box.top, box.bottom, Number(cell.dataset.id)];
    }))"""
    width = page.evaluate("document.querySelector('.grid').clientWidth")
    left = page.evaluate("document.querySelector('.grid').getBoundingClientRect().left")
    rows = page.evaluate(script)
    assert len(rows) > 3
    for row in rows:
        assert row[0][0] == pytest.approx(left, abs=0.01)
        assert row[-1][1] == pytest.approx(left + width, abs=0.01)
        assert len({(top, bottom) for _, _, top, bottom, _ in row}) == 1
        for begin, end, top, bottom, number in row:
            shape = SHAPES[number % 4]
            assert (end - begin) / (bottom - top) == pytest.approx(shape[0] / shape[1], rel=0.03)


LAYOUT = """async ({ aspects, width, ragged }) => {
  const { justify } = await import(new URL("code/grid/layout.js", document.baseURI));
  return justify(aspects, { width, target: 200, gap: 4, ragged });
}"""


def test_a_layout_places_each_picture_once_in_rows_of_about_one_height(opened: Opened) -> None:
    page = opened(before=made_up)
    aspects = [(3, 2, 4, 1)[number * 7 % 4] / (2, 3, 3, 1)[number * 7 % 4] for number in range(100)]
    for width in (700, 1000, 2400):
        laid = page.evaluate(LAYOUT, {"aspects": aspects, "width": width, "ragged": False})
        rows = laid["rows"]
        assert [row["from"] for row in rows] == [0, *(row["to"] for row in rows[:-1])]
        assert rows[-1]["to"] == 100
        assert all(140 < row["height"] < 280 for row in rows)
        assert laid["height"] == sum(row["height"] + 4 for row in rows)
    few = page.evaluate(LAYOUT, {"aspects": [1.5, 1.5], "width": 1600, "ragged": True})
    assert [row["height"] for row in few["rows"]] == [200]  # the last row is not blown up
    wide = page.evaluate(LAYOUT, {"aspects": [5, 0.36, 5], "width": 300, "ragged": False})
    assert sum(len(row["widths"]) for row in wide["rows"]) == 3


STATES = (
    "", "?q=a+cat", "?q=a+%26+b~1&weight=-0.5", "?like=17&like=u_ab12~-0.5&also=a+red+ball~0.3", "?also=two~2~1",
    "?since=2024-05&near=47.3%2C8.5%2C10&kind=video&relevant=1&diverse=0.4", "?view=map&place=0.5%2C0.25%2C3.00",
    "?view=duplicates&threshold=0.9", "?q=x&item=17&heat=1&phrase=a+tail", "?sort=size&order=asc", "?album=a_1",
    "?selected=1%2C22&boxes=1",
)  # fmt: skip


def test_a_state_is_read_as_it_was_written(opened: Opened) -> None:
    page = opened(before=made_up)
    script = """async (states) => {
      const { parse, format } = await import(new URL("code/state.js", document.baseURI));
      const again = (text) => JSON.stringify(parse(format(parse(text)))) === JSON.stringify(parse(text));
      return states.map((text) => [format(parse(text)), again(text)]);
    }"""
    for state, (written, is_same) in zip(STATES, page.evaluate(script, list(STATES)), strict=True):
        assert is_same, state
        assert parse_qs(written[1:]) == parse_qs(state[1:])


def test_what_a_url_cannot_mean_is_left_out(opened: Opened) -> None:
    page = opened(before=made_up)
    script = """async () => {
      const { parse } = await import(new URL("code/state.js", document.baseURI));
      return parse("?view=nowhere&item=1e5&like=../../x&like=javascript:1&weight=NaN&threshold=7&also=%20");
    }"""
    read = page.evaluate(script)
    assert (
        json.dumps([read["view"], read["item"], read["terms"], read["weight"], read["threshold"]])
        == '["photos", null, [], 1, 1]'
    )
