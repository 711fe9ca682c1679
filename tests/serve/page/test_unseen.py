"""The page before an index that a server keeps, whose pictures nobody gave: names stand for them, and nothing is asked
for in vain."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

import diptych
from diptych.index.remote import StoreIndex
from diptych.serve.service import open_service
from diptych.serve.settings import ServeSettings
from tests.serve.page.conftest import Library, Opened, running
from tests.serve.page.reading import cells, shown


@pytest.fixture(scope="module")
def library(address: str, photos: Path, tiny: diptych.Embedder, decoding_inline: None) -> Iterator[Library]:
    service = open_service(
        tiny, ServeSettings(), watching=False, open_index=lambda served: StoreIndex.at(address, model=served)
    )
    with running(service) as url:
        yield Library(photos, service, url)


def test_names_stand_for_pictures(opened: Opened) -> None:
    page = opened("?q=a+cat")
    shown(page)
    expect(page.get_by_text("Pictures are not shown")).to_be_visible()
    first = cells(page).first
    name = str(first.get_attribute("data-name"))
    expect(first).to_contain_text(name)
    first.click()
    large = page.get_by_role("dialog")
    expect(large.locator(".picture")).to_contain_text(name)
    expect(large.get_by_role("button", name="Heat map")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(large.locator(".picture")).not_to_contain_text(name)


def test_the_map_has_points_with_names(opened: Opened) -> None:
    page = opened("?view=map")
    expect(page.get_by_role("heading", level=1)).to_have_text("Map 24 pictures")
    page.get_by_role("application").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator(".unshown strong")).not_to_be_empty()


def test_duplicates_say_what_decided(opened: Opened) -> None:
    page = opened("?view=duplicates&threshold=0.8")
    expect(page.locator(".group").first).to_be_visible()
    expect(page.get_by_text("could not be read")).to_be_visible()
    expect(page.locator(".copy .unshown").first).to_have_text("larger.png")
