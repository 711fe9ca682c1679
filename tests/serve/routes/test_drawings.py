"""Pictures are drawn as events, within limits, and for nobody who is gone."""

import asyncio
import base64
import io
import json
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.serve.model import drawings
from diptych.serve.model.drawings import MOST_HELD, Drawings, WantedDrawing
from diptych.serve.web.problems import RequestProblem

WANTED = {"prompt": "a red circle", "steps": 4, "count": 2, "seed": 5}


def events(text: str) -> list[tuple[str, Any]]:
    parts = [part.split("\ndata: ") for part in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in parts]


def picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_pictures_come_out_of_the_noise(alone: Any) -> None:
    answer = alone.post("/v1/drawings", json=WANTED)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *steps, (last, drawn) = events(answer.text)
    assert [(name, data["done"], data["total"], len(data["pictures"])) for name, data in steps] == [
        ("step", done, 4, 2) for done in (1, 2, 3)
    ]
    assert (last, drawn["size_px"]) == ("drawn", 32)
    assert [each["seed"] for each in drawn["pictures"]] == [5, 6]
    generator = alone.service.drawings._generator  # another one would have to be compiled
    wanted = generator.draw("a red circle", steps=4, count=2, seed=5)
    found = np.stack([picture(each["picture"]) for each in drawn["pictures"]])
    assert np.abs(found.astype(int) - wanted.pictures).max() <= 1
    model = alone.service.model.embedder
    vectors, words = model.embed_images(wanted.images()), model.embed_texts(["a red circle"])
    scores = 100 * diptych.clip_scores(vectors, np.repeat(words, 2, axis=0))
    assert [each["clip_score"] for each in drawn["pictures"]] == pytest.approx(scores.tolist(), abs=1.0)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "   "}, "wanted words that say what to draw"),
        ({"prompt": "a red circle " * 38}, "tokens"),
        ({"negative": "a red circle " * 38}, "tokens"),
        ({"prompt": "x" * 501}, "prompt"),
        ({"steps": 101}, "steps"),
        ({"count": 5}, "count"),
        ({"guidance": -1}, "guidance"),
        ({"guidance": "much"}, "guidance"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_drawn_is_said(alone: Any, changed: dict[str, Any], problem: str) -> None:
    answer = alone.post("/v1/drawings", json={**WANTED, **changed})
    assert answer.status_code == 422
    assert problem in answer.json()["detail"]
    assert alone.service.drawings.held == 0


class _Slow:
    """A generator whose steps wait."""

    def __init__(self) -> None:
        self.begun, self.going_on, self.ended = threading.Event(), threading.Event(), threading.Event()

    def draw(self, *_: Any, watch: Any, **__: Any) -> None:
        self.begun.set()
        self.going_on.wait(30)
        try:
            watch(1, np.zeros((1, 32, 32, 3), np.uint8))
        finally:
            self.ended.set()


def test_some_wait_more_are_refused_and_who_is_gone_is_not_drawn_for(
    alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = _Slow()
    monkeypatch.setattr(drawings, "open_generator", lambda source: slow)
    held = Drawings(alone.service.model)

    async def run() -> None:
        begun = [held.begin(WantedDrawing("a star", "", 4, 4, 0, 1)) for _ in range(MOST_HELD)]
        with pytest.raises(RequestProblem, match="4 drawings are under way or wait") as refused:
            held.begin(WantedDrawing("a star", "", 4, 4, 0, 1))
        assert refused.value.status == 429
        await asyncio.to_thread(slow.begun.wait)
        for drawing in begun:
            drawing.is_cancelled.set()
        slow.going_on.set()
        await asyncio.to_thread(slow.ended.wait)
        await asyncio.to_thread(held.close)
        assert held.held == 0
        assert all(drawing.events.empty() for drawing in begun)

    asyncio.run(run())
