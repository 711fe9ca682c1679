"""Words are typed, the pictures come, and the library is searched with one."""

import io
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from diptych.generation.openvino.pipeline import Drawn
from tests.serve.page.conftest import Library, Opened
from tests.serve.page.reading import cells


class Painter:
    """A generator that paints green at once, or waits before its last step where there are 100."""

    def draw(self, prompt: str, *, count: int, steps: int, watch: Any, **_: Any) -> Drawn:
        pictures = np.full((count, 32, 32, 3), (40, 160, 60), np.uint8)
        watch(1, pictures)
        while steps == 100:
            threading.Event().wait(0.01)
            watch(2, pictures)  # raises once nobody waits
        return Drawn(pictures, pictures[None, :0])


@pytest.fixture
def painted(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.service.drawings, "_generator", Painter())


@pytest.mark.usefixtures("painted")
def test_what_is_typed_is_drawn_downloaded_and_searched_with(opened: Opened, library: Library, axe: str) -> None:
    page = opened("?view=draw", viewport={"width": 390, "height": 844})
    page.get_by_label("What to draw").fill("a green square")
    page.get_by_label("Steps").fill("100")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".draw > progress[value]")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Draw", exact=True)).to_be_visible()
    expect(page.locator(".drawn li")).to_have_count(0)

    page.get_by_label("Steps").fill("4")
    page.get_by_role("radio", name="2").check()
    page.get_by_label("What to draw").press("Enter")
    expect(page.get_by_role("img", name="a green square, seed 8")).to_be_visible()
    expect(page.locator(".drawn li").first).to_contain_text("CLIP score")
    assert "prompt=a+green+square" in page.url
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert _violations(page, axe) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the picture of seed 8").click()
    assert download.value.suggested_filename == "a-green-square-8.png"
    with Image.open(io.BytesIO(download.value.path().read_bytes())) as picture:
        assert picture.size == (32, 32)

    page.get_by_role("button", name="Search with the picture of seed 7").click()
    expect(cells(page).first).to_be_visible()
    assert "like=u_" in page.url
    assert library.service.drawings.held == 0


def test_a_problem_is_said(opened: Opened) -> None:
    page = opened("?view=draw&prompt=a+red+star")
    expect(page.get_by_label("What to draw")).to_have_value("a red star")
    page.get_by_label("Steps").fill("101")
    page.get_by_role("button", name="Draw", exact=True).click()
    assert page.evaluate("document.querySelector('.draw-form :invalid').name") == "steps"
    expect(page.locator(".drawn li")).to_have_count(0)


def _violations(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("axe.run(document.querySelector('.draw'))")["violations"]
    return [each["id"] for each in found]
