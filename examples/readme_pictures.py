"""Makes the pictures of README.md anew, docs/found.png and docs/page.webp, from photographs that anyone may copy.

    python examples/readme_pictures.py

It needs scikit-image, the extras `serve` and `plots`, Playwright and Chromium. The photographs come with scikit-image,
each in the public domain or under CC0, as its documentation says: `LICENCES` has who gave it.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import skimage.data
from PIL import Image
from playwright.sync_api import sync_playwright

import diptych.cli

DOCS = Path(__file__).parents[1] / "docs"
LICENCES = {
    "astronaut.png": "NASA, the public domain",
    "brick.png": "CC0Textures, CC0",
    "camera.png": "Lav Varshney, CC0",
    "chelsea.png": "Stéfan van der Walt, CC0",
    "coffee.png": "Rachel Michetti, CC0",
    "grass.png": "linolafett, CC0",
    "gravel.png": "CC0Textures, CC0",
    "hubble_deep_field.jpg": "NASA, the public domain",
    "retina.jpg": "Mikael Häggström, CC0",
    "rocket.jpg": "SpaceX, the public domain",
}
NAMES = {"camera": "photographer", "chelsea": "cat", "hubble_deep_field": "galaxies"}
QUERY = "a cat"
SIZE = {"width": 1180, "height": 530}  # two rows
_SERVER_S = 120.0


def main() -> None:
    """Both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_photographs(photos)
        search = ["search", QUERY, str(photos), "--limit", "5", "--sheet", str(DOCS / "found.png")]
        if code := diptych.cli.run(search):
            raise SystemExit(code)
        with served(photos) as address:
            shot = screenshot(f"{address}?q={QUERY.replace(' ', '+')}")
        with Image.open(shot) as picture:
            picture.save(DOCS / "page.webp", quality=88, method=6)


def write_photographs(folder: Path) -> None:
    """The photographs, under names that say what they show."""
    folder.mkdir()
    source = Path(skimage.data.__file__).parent
    for file in LICENCES:
        name = NAMES.get(Path(file).stem, Path(file).stem)
        with Image.open(source / file) as picture:
            picture.convert("RGB").save(folder / f"{name}.jpg", quality=95)


@contextlib.contextmanager
def served(photos: Path) -> Iterator[str]:
    """The address of `diptych serve`, once it is ready."""
    command = [sys.executable, "-m", "diptych", "serve", str(photos), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            lines = server.stdout or ()
            address = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
            end = time.monotonic() + _SERVER_S
            while time.monotonic() < end:
                with contextlib.suppress(HTTPError):
                    urlopen(f"{address}v1/ready", timeout=60).close()
                    break
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()


def screenshot(address: str) -> Path:
    """What Chromium shows, in a file that is there until the process ends."""
    file = Path(tempfile.mkdtemp()) / "page.png"
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, device_scale_factor=1.5)  # type: ignore[arg-type]
        page.goto(address)
        page.wait_for_selector(".cell.ready .likeness")
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        page.wait_for_timeout(1000)
        page.screenshot(path=file)
        browser.close()
    return file


if __name__ == "__main__":
    main()
