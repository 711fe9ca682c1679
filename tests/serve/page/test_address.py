"""The page before an index that a server keeps, whose ids are of 52 bits, as those of pictures that were embedded in
bulk are."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

import diptych
from diptych.index.remote import StoreIndex
from diptych.serve.service import open_service
from diptych.serve.settings import ServeSettings
from tests.serve.page.conftest import FIRST_ID, Library, Opened, running
from tests.serve.page.reading import cells, shown, state_of


@pytest.fixture(scope="module")
def library(address: str, photos: Path, tiny: diptych.Embedder, decoding_inline: None) -> Iterator[Library]:
    """That address, with its pictures."""
    service = open_service(
        tiny, ServeSettings(), watching=False,
        open_index=lambda served: StoreIndex.at(address, model=served, pictures=photos),
    )  # fmt: skip
    with running(service) as url:
        yield Library(photos, service, url)


def test_the_map_and_addresses_of_the_page_name_long_ids(opened: Opened) -> None:
    page = opened("?view=map")
    expect(page.get_by_role("heading", level=1)).to_have_text("Map 24 pictures")
    canvas = page.get_by_role("application")
    canvas.focus()
    for key in ("+", "+"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator(".fine.ready")).to_be_visible()
    item = int(state_of(page)["item"])
    assert FIRST_ID < item <= FIRST_ID + 100
    again = opened(f"?item={item}")
    expect(again.get_by_role("dialog").locator(".fine.ready")).to_be_visible()


def test_a_picture_with_a_long_id_is_a_term_and_selected(opened: Opened) -> None:
    page = opened()
    first, second = shown(page)[:2]
    assert min(first, second) > FIRST_ID
    page = opened(f"?like={first}&selected={second}")
    assert first not in shown(page)
    expect(page.get_by_role("region", name="Selection")).to_contain_text(re.compile("^1"))
    expect(cells(page).and_(page.locator(f"[data-id='{second}']"))).to_have_attribute("aria-selected", "true")
