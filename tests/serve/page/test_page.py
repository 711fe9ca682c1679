"""What people do on the page, from the first query to the large view. Each test opens the page once."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response, Route, expect

from diptych.media.scanning.path_patterns import fits
from diptych.scenes.scene import Scenes
from tests.serve.page.conftest import UNKIND, Library, Opened
from tests.serve.page.reading import cells, shown, state_of

CAPTION = Scenes(22)[4].captions[0]
TWO = "?q=a+cat&like=3"


def found(answer: Response) -> list[int]:
    return [hit["id"] for hit in answer.json()["hits"]]


def drop(page: Page, picture: Path) -> None:
    """A picture file falls onto the page."""
    script = """data => {
      const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
      for (const name of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
      }
    }"""
    page.evaluate(script, base64.b64encode(picture.read_bytes()).decode())


def test_words_find_pictures_and_are_the_url(opened: Opened) -> None:
    page = opened()
    expect(page.get_by_role("heading", name="All pictures")).to_contain_text("24")
    with page.expect_response("**/v1/search") as answer:
        page.get_by_role("combobox", name="Search by words").press_sequentially(CAPTION)
    expect(page).to_have_url(re.compile(r"\?q="))
    expect(cells(page).first).to_have_attribute("data-id", str(found(answer.value)[0]))
    assert shown(page) == found(answer.value)[: len(shown(page))]
    assert state_of(page) == {"q": CAPTION}
    assert page.title().startswith(CAPTION)
    page.go_back()
    expect(page.get_by_role("heading", name="All pictures")).to_be_visible()


def test_a_dropped_picture_finds_itself_and_words_join_it(opened: Opened, library: Library) -> None:
    page = opened()
    shown(page)
    with page.expect_response("**/v1/search") as first:
        drop(page, library.folder / "2023" / "scene-06.jpg")
    assert first.value.json()["hits"][0]["name"] == "scene-06.jpg"
    expect(page.locator(".term img")).to_be_visible()
    with page.expect_response("**/v1/search") as both:
        page.get_by_role("combobox", name="Search by words").press_sequentially("a cat")
    terms = json.loads(both.value.request.post_data or "")["terms"]
    assert terms == [{"text": "a cat", "weight": 1}, {"upload": terms[1]["upload"], "weight": 1}]
    with page.expect_response("**/v1/search") as less:
        page.get_by_role("button", name="your picture, weight 1").click()
        page.get_by_role("slider").fill("-0.5")
    assert json.loads(less.value.request.post_data or "")["terms"][1]["weight"] == -0.5
    assert state_of(page)["like"].endswith("~-0.5")
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="Remove your picture").click()
    assert state_of(page) == {"q": "a cat"}


def test_what_is_no_picture_is_said(opened: Opened) -> None:
    page = opened()
    shown(page)
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["words"], "notes.txt", { type: "text/plain" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator(".toast")).to_have_text("That is no picture.")


def test_the_large_view_shows_where_it_is_and_gives_the_place_back(opened: Opened) -> None:
    page = opened("?q=a+cat")
    ids = shown(page)
    cells(page).nth(1).click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator(".fine.ready")).to_be_visible()
    assert state_of(page) == {"q": "a cat", "item": str(ids[1])}
    page.keyboard.press("h")
    expect(viewer.get_by_role("img", name="Where “a cat” is")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(f"item={ids[2]}"))
    expect(viewer.get_by_role("img", name="Where “a cat” is")).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).not_to_be_visible()
    expect(page.locator(f".cell[data-id='{ids[2]}']")).to_be_focused()
    assert state_of(page) == {"q": "a cat"}


def test_more_and_less_like_this(opened: Opened) -> None:
    page = opened("?q=a+cat")
    ids = shown(page)
    cells(page).nth(2).click()
    with page.expect_response("**/v1/search") as more:
        page.get_by_role("button", name="More like this").click()
    assert json.loads(more.value.request.post_data or "")["terms"] == [{"item": ids[2], "weight": 1}]
    assert state_of(page) == {"like": str(ids[2])}
    page.go_back()
    with page.expect_response("**/v1/search") as less:
        page.get_by_role("button", name="Less like this").click()
    assert json.loads(less.value.request.post_data or "")["terms"][1] == {"item": ids[2], "weight": -0.5}
    expect(page.get_by_role("dialog")).not_to_be_visible()
    expect(cells(page).first).to_have_attribute("data-id", str(found(less.value)[0]))
    assert state_of(page) == {"q": "a cat", "like": f"{ids[2]}~-0.5"}


def test_filters_choose_and_are_taken_away(opened: Opened) -> None:
    page = opened()
    shown(page)
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog", name="Filters")
    dialog.get_by_label("Camera").fill("EOS R6")
    dialog.get_by_label("Since").fill("2024")
    dialog.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Filtered 4")
    names = [cell.get_attribute("data-name") for cell in cells(page).all()]
    assert names == ["scene-21.jpg", "scene-15.jpg", "scene-09.jpg", "scene-03.jpg"]
    assert state_of(page) == {"since": "2024", "camera": "EOS R6"}
    page.get_by_role("button", name="Remove: since 2024").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Filtered 8")


def test_a_shared_url_shows_the_same(opened: Opened) -> None:
    page = opened(TWO)
    ids = shown(page)
    cells(page).nth(1).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    other = opened(urlsplit(page.url)._replace(scheme="", netloc="", path="").geturl())
    expect(other.get_by_role("dialog").locator(".fine.ready")).to_be_visible()
    expect(other.get_by_role("button", name="Next picture")).to_be_enabled()
    other.keyboard.press("Escape")
    assert shown(other) == ids
    assert state_of(other) == {"q": "a cat", "like": "3"}


def test_all_by_keyboard(opened: Opened) -> None:
    page = opened()
    ids = shown(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".cell[tabindex='0']").focus()
    focused = "Number(document.activeElement.dataset.index)"
    seen = [
        page.keyboard.press(key) or page.evaluate(focused)
        for key in ("ArrowRight", "ArrowDown", "ArrowUp", "End", "Home")
    ]
    assert seen[0] == 1 < seen[1] < 20
    assert seen[2:] == [1, 23, 0]
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_role("region", name="Selection")).to_contain_text("2 selected")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert state_of(page) == {"item": str(ids[1]), "selected": f"{ids[0]},{ids[1]}"}
    page.keyboard.press("Escape")
    expect(page.locator(f".cell[data-id='{ids[1]}']")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Selection")).not_to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("a dog")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"\?q=a\+dog$"))
    expect(page.locator(".cell[data-index='0']")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.press("Delete")
    expect(page.get_by_role("option", name="a dog")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", name="a dog")).to_have_attribute("aria-selected", "true")


def test_the_keyboard_leads_from_the_search_box_to_the_pictures(opened: Opened) -> None:
    page = opened()
    first, box = page.locator(".cell[data-index='0']"), page.get_by_role("combobox", name="Search by words")
    shown(page)
    page.keyboard.press("ArrowDown")
    expect(first).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(box).not_to_be_focused()
    box.fill("a cat")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    expect(first).to_be_focused()
    assert state_of(page) == {"q": "a cat"}
    page.keyboard.press("/")
    page.keyboard.press("Enter")
    expect(first).to_be_focused()
    page.get_by_role("link", name="Skip to the pictures").focus()
    page.keyboard.press("Enter")
    expect(first).to_be_focused()
    assert page.evaluate("scrollY") == 0


def test_only_what_is_relevant_is_a_step_and_no_dead_end(opened: Opened) -> None:
    page = opened("?q=zxqv")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Results 24 pictures, nearest first")
    only = page.get_by_role("button", name="Only what is relevant")
    expect(only).to_have_attribute("aria-pressed", "false")
    with page.expect_response("**/v1/search") as answer:
        page.route("**/v1/search", lambda route: route.fulfill(json={**answered(route), "hits": [], "total": 0}))
        only.click()
    assert json.loads(answer.value.request.post_data or "")["relevant"]
    expect(page.get_by_text("nothing stands out from the rest")).to_be_visible()
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Show all, nearest first").click()
    expect(heading).to_have_text("Results 24 pictures, nearest first")
    expect(only).to_have_attribute("aria-pressed", "false")


def answered(route: Route) -> dict:
    return route.fetch().json()


def test_the_filters_that_matter_are_in_sight(opened: Opened) -> None:
    page = opened("?q=a+cat")
    shown(page)
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog", name="Filters")
    expect(dialog.get_by_role("button", name="Show")).to_be_visible()
    for seen in (dialog.get_by_label("Only what is relevant"), *dialog.locator(".dialog-foot button").all()):
        expect(seen).to_be_in_viewport(ratio=1)
    assert dialog.evaluate("box => box.scrollHeight > box.clientHeight")


def test_a_folder_is_a_filter_whatever_its_name_holds(opened: Opened) -> None:
    page = opened("?path=*.png")
    patterns = page.evaluate(
        r"""async (names) => {
          const { inFolder, folderOf } = await import("/code/state.js");
          return names.map((name) => [inFolder(name), folderOf(inFolder(name))]);
        }""",
        ["2024/05", "Trip [2019]", r"wh\at?*"],
    )
    assert [name for _, name in patterns] == ["2024/05", "Trip [2019]", r"wh\at?*"]
    assert [fits(f"{name}/a.jpg".encode(), 0, pattern.encode()) for pattern, name in patterns] == [True] * 3
    assert not fits(b"Trip 2/a.jpg", 0, patterns[1][0].encode())


def test_a_strangers_file_name_is_text(opened: Opened) -> None:
    page = opened("?path=*.png")
    page.get_by_role("option", name=UNKIND).click()
    expect(page.get_by_role("dialog").get_by_role("heading", name=UNKIND)).to_be_visible()
    assert page.title() == "Diptych"
    assert page.locator("img[onerror]").count() == 0


def test_a_phone_shows_it_all(opened: Opened) -> None:
    page = opened(TWO, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("link", name="Albums").tap()
    expect(page.get_by_role("heading", level=1, name="Albums")).to_be_visible()
    page.get_by_role("link", name="Photos").tap()
    cells(page).nth(1).tap()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("button", name="Close").tap()
    expect(page.get_by_role("dialog")).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened: Opened, axe: str, scheme: str) -> None:
    page = opened("?q=a+cat&like=3&since=2023", color_scheme=scheme)
    page.evaluate(axe)

    def look() -> None:
        rules = ", runOnly: ['color-contrast']" if scheme == "dark" else ""  # all else is the same
        found = page.evaluate(f"axe.run(document, {{ resultTypes: ['violations']{rules} }})")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []

    shown(page)
    look()
    page.get_by_role("button", name="a picture, weight 1").click()
    look()
    page.keyboard.press("Escape")
    cells(page).first.focus()
    page.keyboard.press("Space")
    for key, name in (("f", "Filters"), ("?", "Keys")):
        page.keyboard.press(key)
        expect(page.get_by_role("dialog", name=name)).to_be_visible()
        look()
        page.keyboard.press("Escape")
    page.get_by_role("button", name="The library").click()
    expect(page.locator("dialog dl")).to_be_visible()
    look()
    page.keyboard.press("Escape")
    cells(page).first.click()
    expect(page.locator(".fine.ready")).to_be_visible()
    look()
