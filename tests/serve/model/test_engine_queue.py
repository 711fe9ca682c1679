"""Many requests share one model."""

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from diptych.serve.model.engine_queue import EngineQueue
from diptych.serve.web.problems import RequestProblem
from diptych.text.tokenizer import Tokens


class SlowModel:
    """Vectors that hold a text's length; `go` lets it run, and `calls` are the inputs of each call. Its tokens are
    characters."""

    dim = 2

    def __init__(self) -> None:
        self.go, self.calls, self.began = threading.Event(), list[list[object]](), threading.Semaphore(0)

    def embed_tokens(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        texts = ["".join(map(chr, row)) for row in ids]
        self.calls.append(list(texts))
        self.began.release()
        assert self.go.wait(60)
        if any("bad" in text for text in texts):
            raise ValueError("a bad text")
        return np.array([[len(text), 1] for text in texts], np.float32)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.calls.append([int(picture[0, 0, 0]) for picture in pixels])
        self.began.release()
        assert self.go.wait(60)
        return np.array([[picture[0, 0, 0], 2] for picture in pixels], np.float32)


@pytest.fixture
def slow() -> SlowModel:
    return SlowModel()


@pytest.fixture
def queue(slow: SlowModel) -> Iterator[EngineQueue]:
    made = EngineQueue(slow, most_texts=8, most_pictures=4)  # type: ignore[arg-type]
    yield made
    slow.go.set()
    made.close()


def tokens(*texts: str) -> Tokens:
    widest = max(map(len, texts))
    ids = np.array([[*map(ord, text.ljust(widest))] for text in texts])
    return Tokens(ids, ids != ord(" "))


def picture(value: int) -> np.ndarray:
    return np.full((1, 1, 3), value, np.uint8)


def test_what_waits_while_the_engine_is_busy_is_one_batch(queue: EngineQueue, slow: SlowModel) -> None:
    first = queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60), "nothing waits while the engine is idle"
    others = [queue.texts(tokens("bb", "ccc")), queue.texts(tokens("d"))]
    slow.go.set()
    assert first.result(60).tolist() == [[1, 1]]
    assert [each.result(60).tolist() for each in others] == [[[2, 1], [3, 1]], [[1, 1]]]
    assert slow.calls == [["a"], ["bb", "ccc", "d"]]


def test_the_oldest_text_is_embedded_with_those_of_similar_length(slow: SlowModel) -> None:
    queue = EngineQueue(slow)  # type: ignore[arg-type]
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    lengths = [5, 1, 4, 2, 3] * 8
    waiting = [queue.texts(tokens("b" * length)) for length in lengths]
    several = queue.texts(tokens(*["c" * 5] * 20))
    slow.go.set()
    assert [each.result(60)[0, 0] for each in waiting] == lengths
    assert several.result(60)[:, 0].tolist() == [5] * 20
    queue.close()
    assert [[len(str(text)) for text in call] for call in slow.calls[1:]] == [
        [5] * 8 + [4] * 8, [1] * 8 + [2] * 8, [3] * 8, [5] * 20,
    ]  # fmt: skip


def test_both_towers_have_their_turn(queue: EngineQueue, slow: SlowModel) -> None:
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    waiting = [
        queue.texts(tokens("b")),
        queue.pictures([picture(7)]),
        queue.texts(tokens("c")),
        queue.pictures([picture(9)]),
    ]
    slow.go.set()
    assert [each.result(60)[0, 0] for each in waiting] == [1, 7, 1, 9]
    assert slow.calls == [["a"], ["b", "c"], [7, 9]]


def test_what_is_indexed_gives_way(queue: EngineQueue, slow: SlowModel) -> None:
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    indexed = queue.pictures([picture(1)], background=True)
    asked = queue.pictures([picture(2)])
    slow.go.set()
    assert (indexed.result(60)[0, 0], asked.result(60)[0, 0]) == (1, 2)
    assert slow.calls == [["a"], [2], [1]]


def test_too_many_that_wait_are_refused_with_when_to_ask_again(queue: EngineQueue, slow: SlowModel) -> None:
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    queue.texts(tokens(*["b"] * 8))
    with pytest.raises(RequestProblem) as refused:
        queue.texts(tokens("c"))
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    queue.pictures([picture(1)])  # the other tower has a queue of its own


def test_one_request_may_be_longer_than_the_queue(queue: EngineQueue, slow: SlowModel) -> None:
    slow.go.set()
    assert len(queue.texts(tokens(*["a"] * 300)).result(60)) == 300


def test_a_bad_input_costs_its_request_alone(queue: EngineQueue, slow: SlowModel) -> None:
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    good, bad = queue.texts(tokens("good")), queue.texts(tokens("bad"))
    slow.go.set()
    assert good.result(60).tolist() == [[4, 1]]
    with pytest.raises(ValueError, match="a bad text"):
        bad.result(60)


def test_what_nobody_waits_for_is_not_embedded(queue: EngineQueue, slow: SlowModel) -> None:
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    left, late = queue.texts(tokens("left")), queue.texts(tokens("late"), time.monotonic() - 1)
    assert left.cancel()
    slow.go.set()
    with pytest.raises(RequestProblem) as refused:
        late.result(60)
    assert refused.value.status == 504
    queue.texts(tokens("b")).result(60)
    assert slow.calls == [["a"], ["b"]]


def test_what_waits_at_the_end_is_embedded_and_no_more_is_taken(queue: EngineQueue, slow: SlowModel) -> None:
    queue.texts(tokens("a"))
    assert slow.began.acquire(timeout=60)
    last = queue.texts(tokens("last"))
    slow.go.set()
    queue.close()
    assert last.result(0).tolist() == [[4, 1]]
    with pytest.raises(RequestProblem):
        queue.texts(tokens("more"))
