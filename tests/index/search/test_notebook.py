"""What was found, as a notebook displays it."""

import base64
import io
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.index.search import notebook
from diptych.index.search.notebook import Card, result_html
from diptych.media.preprocessing import Preprocess
from diptych.media.reading.decoder_process import Decoder
from tests.drawn_files import BLUE, RED, video


def pictures_of(page: str) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(r'base64,([^"]+)"', page)]


def card(path: Path, kind: str = "picture", at_s: float | None = None, text: str | None = None) -> Card:
    return Card(path, 0.25, 2.0, kind, at_s, text)


def test_a_thumbnail_is_that_of_the_page(tmp_path: Path) -> None:
    Image.effect_mandelbrot((900, 500), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "wide.png")
    settings = {"spec": asdict(Preprocess(size_px=32)), "root": str(tmp_path), "follow_links": False}
    order = {"task": "whole", "name": "wide.png", "path": "wide.png", "size_px": 320, "at_s": None}
    _, expected = Decoder(settings).decode(order, b"")
    assert pictures_of(result_html([card(tmp_path / "wide.png")], 1)) == [expected]


def test_a_film_shows_the_frame_that_was_found(tmp_path: Path) -> None:
    video(tmp_path / "film.mp4", [RED, BLUE], seconds_each=3)
    page = result_html([card(tmp_path / "film.mp4", "video", 4.0)], 1)
    with Image.open(io.BytesIO(pictures_of(page)[0])) as frame:
        red, _, blue = np.asarray(frame.convert("RGB"), np.float32).mean(axis=(0, 1))
    assert blue > 2 * red
    assert "film.mp4 at 0:04" in page


def test_a_text_is_shown_without_a_picture_and_one_that_is_gone_costs_itself_alone(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    cards = [
        card(tmp_path / "gone.png"),
        card(tmp_path / "a.txt", "text", text="Two <dogs>"),
        card(tmp_path / "red.png"),
    ]
    page = result_html(cards, 3)
    assert len(pictures_of(page)) == 1
    assert "Two &lt;dogs&gt;" in page
    assert "gone.png" in page
    assert "3 items searched" in page


def test_a_long_result_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "SHOWN", 2)
    page = result_html([card(tmp_path / f"{number}.png") for number in range(5)], 1000)
    assert "1.png" in page
    assert "2.png" not in page
    assert "and 3 more" in page
    assert "Nothing was found" in result_html([], 0)
