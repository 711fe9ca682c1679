"""What tests read off the page."""

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect


def state_of(page: Page) -> dict[str, str]:
    """The state in the URL."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(page.url).query).items()}


def cells(page: Page) -> Locator:
    return page.locator(".cell[role=option]")


def shown(page: Page) -> list[int]:
    """The items of the grid in order, once they are there."""
    expect(cells(page).first).to_be_visible()
    return [int(str(cell.get_attribute("data-id"))) for cell in cells(page).all()]
