"""Selections, albums, duplicates and the map."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

import diptych
from diptych.index.filters.filters import Filters
from diptych.scenes.scene import Scenes
from diptych.serve.library.items import found, ids_in_order
from diptych.serve.service import open_service
from diptych.serve.settings import ServeSettings
from tests.drawn_files import BLUE, GREEN, RED, video
from tests.serve.page.conftest import Library, Opened, running
from tests.serve.page.reading import cells, shown


def test_a_selection_is_labelled_kept_and_exported(opened: Opened) -> None:
    page = opened("?q=a+cat")
    ids = shown(page)
    cells(page).nth(0).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    bar = page.get_by_role("region", name="Selection")
    bar.get_by_role("button", name="Label", exact=True).click()
    dialog = page.get_by_role("dialog", name="Label 2 pictures")
    dialog.get_by_label("Labels").fill("cat, dog")
    page.keyboard.press("Enter")
    expect(dialog.locator(".labelled li img")).to_have_count(2)
    page.keyboard.press("Escape")
    bar.get_by_role("button", name="Album").click()
    page.get_by_label("Name").fill("Cats")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cats 2")
    assert shown(page) == ids[:2]
    bar.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert all(line.endswith((".jpg", ".png")) for line in lines)


def test_the_shade_of_a_dialog_reaches_the_edge_and_the_page_stays(browser: Browser, library: Library) -> None:
    own = browser.browser_type.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox"], ignore_default_args=["--hide-scrollbars"]
    )
    page = own.new_page(viewport={"width": 900, "height": 400}, reduced_motion="reduce")
    page.goto(library.url)
    shown(page)
    grid = page.locator(".grid")
    before = grid.bounding_box()
    page.keyboard.press("f")
    page.locator("dialog .stays").wait_for()
    assert grid.bounding_box() == before
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        edges = [picture.convert("RGB").getpixel((x, 200)) for x in (4, 892)]
    assert edges[0] == pytest.approx(edges[1], abs=2)
    assert max(edges[0]) < 200
    own.close()


def test_a_search_is_saved_as_an_album(opened: Opened) -> None:
    page = opened("?q=a+red+house")
    ids = shown(page)
    page.keyboard.press("s")
    page.get_by_label("Name").fill("Red")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="Red").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Red")
    assert shown(page) == ids
    page.get_by_role("link", name="Albums").click()
    expect(page.get_by_role("link", name="Red").locator("img")).to_be_visible()
    page.get_by_role("button", name="What to do with Red").click()
    page.get_by_role("menuitem", name="Delete the album").click()
    expect(page.get_by_role("link", name="Red")).to_have_count(0)


def test_duplicates_become_a_list_and_stay_where_they_are(opened: Opened, library: Library) -> None:
    page = opened("?view=duplicates&threshold=0.9")
    group = page.locator(".group").filter(has_text="larger.png")
    expect(group).to_contain_text("scene-01.jpg")
    group.get_by_role("button", name="Mark all but the largest").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    listed = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert "2024/scene-01.jpg" in listed
    for line in page.locator(".copy .path").all():
        assert line.evaluate("line => line.title === line.textContent && line.clientHeight < 30")
    long = page.locator(".copy .path").first
    long.evaluate("line => { line.firstChild.textContent = 'a folder/'.repeat(40); }")
    card, end = group.locator(".copy").first.bounding_box(), long.locator("span").last.bounding_box()
    assert card is not None
    assert end is not None
    assert end["width"] > 0
    assert end["x"] + end["width"] < card["x"] + card["width"]
    assert "larger.png" not in listed
    assert all((library.folder / path).exists() for path in listed)


def test_a_path_from_right_to_left_stays_in_one_piece(opened: Opened) -> None:
    name = "2024/\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05e9\u05dc\u05d9.jpg"

    def rename_one(page: Page) -> None:
        def renamed(route: Route) -> None:
            response = route.fetch()
            answer = response.json()
            if response.status == 200:
                answer["groups"][0]["files"][0]["path"] = name
            route.fulfill(response=response, json=answer)

        page.route("**/v1/duplicates?*", renamed)

    page = opened("?view=duplicates&threshold=0.9", before=rename_one)
    expect(page.locator(f".path[title='{name}'] span")).to_have_text([name])
    expect(page.locator(".path").nth(1).locator("span")).to_have_count(2)


def test_a_name_with_a_line_break_is_on_no_list(opened: Opened) -> None:
    """It would be two lines, of which the second may be another file."""

    def break_one(page: Page) -> None:
        def broken(route: Route) -> None:
            response = route.fetch()
            answer = response.json()
            if response.status == 200:
                answer["groups"][0]["files"][1]["path"] = "2024/a\nlarger.png"
            route.fulfill(response=response, json=answer)

        page.route("**/v1/duplicates?*", broken)

    page = opened("?view=duplicates&threshold=0.9", before=break_one)
    copy = page.locator(".copy").filter(has_text="a␊larger.png")
    copy.get_by_label("Put on the list").click()
    expect(page.get_by_role("status").filter(has_text="has a line break")).to_be_visible()
    expect(copy.get_by_role("checkbox")).not_to_be_checked()
    expect(page.get_by_role("button", name="Copy the list")).to_have_count(0)


def test_each_label_yes_or_no(opened: Opened) -> None:
    """A picture stands below each label that fits it; the table has all, and no cell that a spreadsheet computes."""
    page = opened("?q=a+cat")
    ids = shown(page)

    def answered(route: Route) -> None:
        sent = json.loads(route.request.post_data or "")
        assert sent["multi_label"] is True
        fits = ([0.9, 0.8], [0.1, 0.3], [0.1, 0.15])  # from a fifth on a label is listed
        results = [
            {"index": k, "item": ids[k], "label": sent["labels"][int(each[1] > each[0])], "probability": max(each),
             "probabilities": each, "scores": each}
            for k, each in enumerate(fits)
        ]  # fmt: skip
        route.fulfill(json={"labels": sent["labels"], "multi_label": True, "results": results, "failures": []})

    page.route("**/v1/classify", answered)
    cells(page).nth(0).focus()
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.get_by_role("region", name="Selection").get_by_role("button", name="Label", exact=True).click()
    dialog = page.get_by_role("dialog", name="Label 3 pictures")
    dialog.get_by_label("Each label yes or no").check()
    dialog.get_by_label("Labels").fill("=cat(), dog")
    page.keyboard.press("Enter")
    headings = dialog.get_by_role("heading", level=3).locator("span:first-child")
    expect(headings).to_have_text(["=cat() (1)", "dog (2)", "none of these (1)"])
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Download as CSV").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "'=cat()", "dog"]
    assert rows[1][1:] == ["0.9000", "0.8000"]


def test_dialogs_fit_a_phone(opened: Opened) -> None:
    page = opened("?q=a+cat", viewport={"width": 320, "height": 640})
    for name in ("Export", "Filters"):
        page.get_by_role("button", name=name).click()
        body = page.locator("dialog[open] .dialog-body")
        expect(body.locator(".segments").first).to_be_visible()
        assert body.evaluate(
            "body => [...body.querySelectorAll('*')].every((each) => each.scrollWidth <= body.clientWidth)"
        )
        foot = body.get_by_role("button").last.bounding_box()
        assert foot is not None
        assert foot["x"] + foot["width"] < 320
        page.keyboard.press("Escape")


def test_the_map_opens_what_lies_in_its_middle(opened: Opened) -> None:
    page = opened("?view=map")
    expect(page.get_by_role("heading", level=1)).to_have_text("Map 24 pictures")
    canvas = page.get_by_role("application")
    canvas.focus()
    for key in ("+", "+", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(r"place=0\.5000%2C0\.5000%2C2\.25"))
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.wheel(0, 4000)
    expect(page).to_have_url(re.compile(r"\?view=map$"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator(".fine.ready")).to_be_visible()
    page.keyboard.press("Escape")
    expect(canvas).to_be_focused()


def test_pictures_of_the_map_grow_where_few_are_in_sight(opened: Opened) -> None:
    page = opened("?view=map", device_scale_factor=2)
    expect(page.get_by_role("heading", level=1)).to_have_text("Map 24 pictures")
    page.get_by_role("application").focus()
    with page.expect_request(lambda asked: re.search(r"/v1/thumbnails/\d+\?width=320", asked.url) is not None):
        for _ in range(4):
            page.keyboard.press("+")


def test_the_parts_of_the_map_lead_there(opened: Opened, axe: str) -> None:
    dogs = {"name": "dogs", "x": 0.25, "y": 0.5, "count": 9, "is_coarse": True}

    def name_one(page: Page) -> None:
        page.route("**/v1/map/regions?*", lambda route: route.fulfill(json={"state": "done", "regions": [dogs]}))

    page = opened("?view=map", before=name_one)
    page.get_by_role("button", name="dogs").click()
    expect(page).to_have_url(re.compile(r"place=0\.25\d*%2C0\.5000%2C4"))
    expect(page.get_by_role("application")).to_be_focused()
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


@pytest.mark.parametrize("view", ["albums", "duplicates", "map"])
def test_axe_finds_nothing(opened: Opened, axe: str, view: str) -> None:
    page = opened(f"?view={view}")
    if view != "albums":
        expect(page.locator(".group, canvas, .empty h2").first).to_be_visible()
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_new_pictures_come_by_themselves(opened: Opened, library: Library) -> None:
    page = opened()
    expect(page.get_by_role("heading", level=1)).to_have_text("All pictures 24")
    Scenes(40, size_px=90)[39].image.save(library.folder / "new.png")
    page.get_by_role("button", name="The library").click()
    page.get_by_role("button", name="Look for new pictures").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("All pictures 25")
    expect(page.get_by_role("option", name="new.png")).to_be_visible()


@pytest.mark.parametrize(("broken", "title"), [(0, "“photos” is empty"), (2, "2 files could not be read")])
def test_a_library_without_pictures_says_why(
    browser: Browser, tiny: diptych.Embedder, decoding_inline: None, tmp_path: Path, broken: int, title: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(broken):
        (folder / f"broken-{number}.jpg").write_bytes(b"no picture")
    with diptych.open_index(folder, model=tiny) as index:
        index.update()
    service = open_service(
        tiny, ServeSettings(), open_index=lambda served: diptych.open_index(folder, model=served), watching=False
    )
    with running(service) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.get_by_role("heading", level=2)).to_have_text(title)
        if broken:
            page.get_by_role("button", name="Which files, and why").click()
            expect(page.get_by_role("dialog").get_by_text("broken-1.jpg", exact=True)).to_be_visible()
        page.close()


def test_files_that_are_gone_are_taken_out_of_an_album(opened: Opened, library: Library) -> None:
    Scenes(50, size_px=90)[49].image.save(library.folder / "gone.png")
    with diptych.open_index(library.folder, model=library.service.model.embedder) as index:
        index.update()
    assert library.service.library is not None
    with library.service.library.pool.reading() as index:
        items = [item.id for item in found(index, ids_in_order(index, Filters(), "path", "asc").tolist())]
        gone = next(item.id for item in found(index, items) if item.path == "gone.png")
        chosen = [gone, next(id for id in items if id != gone)]
        album = library.service.library.albums.add(index, "Some", None, chosen)
    (library.folder / "gone.png").unlink()
    with diptych.open_index(library.folder, model=library.service.model.embedder) as index:
        index.update()
    page = opened(f"?album={album['id']}")
    expect(page.get_by_text("1 file of this album is gone")).to_be_visible()
    page.get_by_role("button", name="Take them out of the album").click()
    expect(page.get_by_text("1 file of this album is gone")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("Some 1")


def test_the_page_asks_for_a_token_once(
    browser: Browser, photos: Path, library: Library, tiny: diptych.Embedder, decoding_inline: None
) -> None:
    settings = ServeSettings(token="a long secret")
    guarded = open_service(
        tiny, settings, open_index=lambda served: diptych.open_index(photos, model=served), watching=False
    )
    with running(guarded) as url:
        page = browser.new_page()
        page.goto(f"{url}?path=2023/**")
        page.get_by_label("Token").fill("another secret")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_contain_text("token")
        page.get_by_label("Token").fill("a long secret")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Filtered 11")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("Filtered 11")
        page.close()


def test_a_film_plays_from_the_frame_that_was_found(
    browser: Browser, tiny: diptych.Embedder, decoding_inline: None, tmp_path: Path
) -> None:
    video(tmp_path / "film.mp4", [RED, GREEN, BLUE], seconds_each=3)
    with diptych.open_index(tmp_path, model=tiny) as index:
        index.update()
    settings = ServeSettings(originals=True)
    service = open_service(
        tiny, settings, open_index=lambda served: diptych.open_index(tmp_path, model=served), watching=False
    )
    with running(service) as url:
        page = browser.new_page()
        page.goto(f"{url}?q=a+ball")
        cells(page).first.click()
        playing = """video => new Promise((resolve) => {
          const look = () => (video.readyState > 1 ? resolve(video.currentTime) : setTimeout(look, 20));
          look();
        })"""
        for button in page.locator(".details .near button").all()[1:]:
            at_s = clock(str(button.get_attribute("title")))
            button.click()
            expect(page.get_by_role("heading", level=2, name=f"at {button.get_attribute('title')}")).to_be_visible()
            assert page.locator("video").evaluate(playing) == pytest.approx(at_s, abs=1)
        page.route("**/original", lambda route: route.fulfill(body=b"of a codec that no browser has"))
        page.locator(".details .near button").first.click()
        expect(page.locator(".remark")).to_have_text("This browser cannot play the film. Save it")
        assert re.fullmatch(r"/v1/items/\d+/original", page.locator(".remark a").get_attribute("href") or "")
        page.close()


def test_a_film_that_is_not_offered_says_so(
    browser: Browser, tiny: diptych.Embedder, decoding_inline: None, tmp_path: Path
) -> None:
    video(tmp_path / "film.mp4", [RED, GREEN], seconds_each=3)
    with diptych.open_index(tmp_path, model=tiny) as index:
        index.update()
    service = open_service(
        tiny, ServeSettings(), open_index=lambda served: diptych.open_index(tmp_path, model=served), watching=False
    )
    with running(service) as url:
        page = browser.new_page()
        page.goto(f"{url}?q=a+ball")
        cells(page).first.click()
        expect(page.locator(".remark")).to_contain_text("--originals")
        expect(page.locator("video")).to_have_count(0)
        page.keyboard.press("Escape")
        expect(page.locator(".remark")).to_have_count(0)
        page.close()


def clock(text: str) -> int:
    """0:07 as seconds."""
    minutes, seconds = text.split(":")
    return int(minutes) * 60 + int(seconds)
