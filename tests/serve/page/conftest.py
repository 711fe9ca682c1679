"""The page in a browser: Debian's Chromium, driven by Playwright, before a service that runs in this process."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

import diptych
from diptych.index.catalog.stored_items import Block
from diptych.index.folder import IndexFolder
from diptych.index.remote import StoreIndex
from diptych.index.stores.local import LocalStore
from diptych.scenes.scene import Scenes
from diptych.serve.app import create_app
from diptych.serve.running import bound
from diptych.serve.service import Service, open_service
from diptych.serve.settings import ServeSettings
from tests.drawn_files import exif
from tests.postgresql import server

WAIT_MS = 30_000  # what a busy machine may need; what is there is there at once
CAPTION = "Two cats sleep on a red chair."
FIRST_ID = 2**52 - 1000
UNKIND = '<img src=x onerror="document.title=1">.png'  # a name as strangers give it


@dataclass
class Library:
    """A folder that is served, and where."""

    folder: Path
    service: Service
    url: str


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn scenes of several shapes in two folders, some with a camera and a date, one twice in two sizes,
    the larger with a caption."""
    folder = tmp_path_factory.mktemp("page") / "photos"
    shapes = ((160, 120), (120, 160), (200, 100), (140, 140))
    for year in ("2023", "2024"):
        (folder / year).mkdir(parents=True)
    for number, scene in enumerate(Scenes(22, size_px=200)):
        year = "2024" if number % 2 else "2023"
        taken = exif(make="Canon", model="EOS R6", taken=f"{year}:05:{number + 1:02} 12:30:00")
        more = {"exif": taken} if number % 3 == 0 else {}
        scene.image.resize(shapes[number % 4]).save(folder / year / f"scene-{number:02}.jpg", quality=92, **more)
    with Image.open(folder / "2024" / "scene-01.jpg") as picture:
        picture.resize((picture.width * 3, picture.height * 3), Image.Resampling.BICUBIC).save(folder / "larger.png")
    (folder / "larger.txt").write_text(f"{CAPTION}\n")
    Scenes(30, size_px=120)[29].image.save(folder / UNKIND)
    return folder


@pytest.fixture(scope="module")
def library(photos: Path, tiny: diptych.Embedder, decoding_inline: None) -> Iterator[Library]:
    with diptych.open_index(photos, model=tiny) as index:
        index.update()
    service = open_service(
        tiny, ServeSettings(), open_index=lambda served: diptych.open_index(photos, model=served), watching=False
    )
    with running(service) as url:
        yield Library(photos, service, url)


@pytest.fixture(scope="module")
def address(photos: Path, tiny: diptych.Embedder) -> str:
    """That of a copy of the index of `photos` on a server, with ids as those of pictures that were embedded in bulk."""
    uri = server().uri()
    with diptych.open_index(photos, model=tiny) as index, StoreIndex.at(uri) as there:
        index.update()
        there.store.set_facts(index.catalog.facts())
        for block in LocalStore(IndexFolder(photos)).blocks():
            items = [one._replace(item=one.item._replace(id=FIRST_ID + one.item.id)) for one in block.items]
            there.store.put(Block(items, block.vectors))
    return uri


class running:
    """A service that answers on a free port until the block ends."""

    def __init__(self, service: Service):
        self._service = service
        self._socket = bound("127.0.0.1", 0)
        config = uvicorn.Config(
            create_app(service), log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=2
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def __enter__(self) -> str:
        self._thread.start()
        while not self._service.is_ready:  # until then it imports what it needs
            time.sleep(0.05)
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def __exit__(self, *error: object) -> None:
        self._service.stopping.set()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or pytest.skip("no chromium here")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a page complained of, and whom it asked."""

    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(f"{error}\n{error.stack}"))
        page.on("request", lambda asked: is_elsewhere(asked.url) and self.strangers.append(asked.url))


def is_elsewhere(url: str) -> bool:
    return urlsplit(url).scheme not in ("blob", "data") and urlsplit(url).hostname != "127.0.0.1"


Opened = Callable[..., Page]
_DESK = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}


@pytest.fixture(scope="module")
def desk(browser: Browser) -> Iterator[BrowserContext]:
    """What most tests share: one profile, whose cache has the page's files."""
    context = browser.new_context(**_DESK)  # type: ignore[arg-type]
    yield context
    context.close()


@pytest.fixture
def opened(browser: Browser, desk: BrowserContext, library: Library) -> Iterator[Opened]:
    """Opens the page at a state, such as `?q=a+cat`; fails where it complains or asks anybody else. `more` are the
    options of a profile of its own, such as a phone's."""
    watched, pages, contexts = Watched(), [], []

    def open_page(state: str = "", *, before: Callable[[Page], None] = lambda page: None, **more: object) -> Page:
        if more:
            contexts.append(browser.new_context(**{**_DESK, **more}))  # type: ignore[arg-type]
        page = (contexts[-1] if more else desk).new_page()
        pages.append(page)
        page.set_default_timeout(WAIT_MS)
        watched.follow(page)
        before(page)
        page.goto(library.url + state)
        return page

    yield open_page
    for closed in (*pages, *contexts):
        closed.close()
    assert watched.complaints == []
    assert watched.strangers == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
