"""The large view's boxes and texts, the selection in the URL, and pictures dragged onto the search box."""

import json
import re

from playwright.sync_api import expect

from tests.serve.page.conftest import CAPTION, Opened
from tests.serve.page.reading import cells, shown, state_of


def test_boxes_of_a_phrase_are_drawn_with_their_likeness(opened: Opened, axe: str) -> None:
    page = opened("?q=a+cat")
    ids = shown(page)
    cells(page).first.click()
    viewer = page.get_by_role("dialog")
    with page.expect_response("**/v1/locate") as answer:
        page.keyboard.press("b")
    assert json.loads(answer.value.request.post_data or "") == {"picture": {"item": ids[0]}, "phrase": "a cat"}
    found = answer.value.json()
    places = viewer.get_by_role("list", name="Boxes for “a cat”").get_by_role("listitem")
    expect(places.first).to_contain_text(f"{found['boxes'][0]['score']:.3f}")
    box, picture = found["boxes"][0], viewer.locator(".picture").bounding_box()
    drawn = places.first.bounding_box()
    assert picture
    assert drawn
    assert abs(drawn["x"] - picture["x"] - box["x"] / found["width"] * picture["width"]) < 2
    assert abs(drawn["height"] - box["height"] / found["height"] * picture["height"]) < 2
    expect(viewer.get_by_role("button", name="Boxes")).to_have_attribute("aria-pressed", "true")
    assert state_of(page) == {"q": "a cat", "item": str(ids[0]), "boxes": "1"}
    page.evaluate(axe)
    violations = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
    page.keyboard.press("b")
    expect(places).to_have_count(0)
    assert "boxes" not in state_of(page)


def test_the_selection_is_in_the_url_and_stays_over_a_search(opened: Opened) -> None:
    page = opened()
    ids = shown(page)
    cells(page).nth(1).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert state_of(page) == {"selected": f"{ids[1]},{ids[2]}"}
    page.get_by_role("combobox", name="Search by words").fill("a dog")
    expect(page).to_have_url(re.compile(r"q=a\+dog"))
    page.go_back()
    expect(page).to_have_url(re.compile(rf"\?selected={ids[1]}%2C{ids[2]}$"))
    other = opened(f"?selected={ids[1]},{ids[2]},999999")
    bar = other.get_by_role("region", name="Selection")
    expect(bar).to_contain_text("2 selected")
    expect(other.locator(f".cell[data-id='{ids[2]}']")).to_have_attribute("aria-selected", "true")
    with other.expect_response("**/v1/search") as asked:
        bar.get_by_role("button", name="Add to the search").click()
    assert json.loads(asked.value.request.post_data or "")["terms"] == [
        {"item": ids[1], "weight": 1},
        {"item": ids[2], "weight": 1},
    ]
    bar.get_by_role("button", name="Clear the selection").click()
    assert state_of(other) == {"like": str(ids[2])}


def test_a_picture_dragged_onto_the_box_joins_the_search(opened: Opened) -> None:
    page = opened("?q=a+cat")
    ids = shown(page)
    with page.expect_response("**/v1/search") as asked:
        cells(page).nth(3).drag_to(page.locator("#search .box"))
    terms = json.loads(asked.value.request.post_data or "")["terms"]
    assert terms == [{"text": "a cat", "weight": 1}, {"item": ids[3], "weight": 1}]
    expect(page.locator("#search .box")).not_to_have_class(re.compile("awaited"))


def test_a_text_has_a_view_of_its_own(opened: Opened, axe: str) -> None:
    page = opened("?q=two+cats&modality=text")
    page.get_by_role("option", name=CAPTION).click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator("blockquote")).to_have_text(CAPTION)
    expect(viewer.locator(".fitting img").first).to_be_visible()
    assert not viewer.get_by_role("button", name="Heat map").is_visible()
    page.evaluate(axe)
    violations = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
    viewer.get_by_role("button", name="The picture larger.png").click()
    expect(viewer.locator(".fine.ready")).to_be_visible()
    expect(viewer.get_by_role("heading", name="larger.png")).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer.locator("blockquote")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("option", name=CAPTION)).to_be_focused()


def test_a_long_name_is_whole_on_a_phone(opened: Opened) -> None:
    """It has lines of its own."""
    page = opened("?q=a+cat", viewport={"width": 390, "height": 844})
    cells(page).first.click()
    name = page.locator(".viewer .name")
    expect(name).to_be_visible()
    name.evaluate("each => (each.textContent = 'IMG_20240501_123000_two dogs on the beach at noon.jpg')")
    whole = name.evaluate("each => each.scrollWidth <= each.clientWidth && each.scrollHeight <= each.clientHeight + 1")
    assert whole
    assert page.get_by_role("button", name="Close").is_visible()
