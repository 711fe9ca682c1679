"""A service over the tiny model and a small index, asked in this process."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych
from diptych.errors import ImageError
from diptych.media.reading import decoders
from diptych.media.reading.decoder_process import Decoder
from diptych.media.reading.decoders import DecodedPicture
from diptych.serve.app import create_app
from diptych.serve.service import Service, open_service
from diptych.serve.settings import ServeSettings

Serve = Callable[..., TestClient]
WAIT_S = 60.0


class SlowAddress(NamedTuple):
    """Where pictures are fetched that come once they may."""

    begun: threading.Semaphore  # is released by each that is waited for
    going_on: threading.Event


class InlineDecoders(decoders.DecoderPool):
    """The pool, decoding in this process, without seconds to start."""

    def _submit(self, order: dict[str, Any], content: bytes, name: str) -> Future[DecodedPicture]:
        done: Future[DecodedPicture] = Future()
        answer, payload = Decoder(self._settings).decode({**order, "name": name}, content)
        if failure := answer.get("failure"):
            done.set_exception(ImageError(failure[0], name, failure[1]))
        else:
            done.set_result(decoders._decoded(answer, payload, order, self._spec.size_px))
        return done


@pytest.fixture
def slow_address(monkeypatch: pytest.MonkeyPatch) -> SlowAddress:
    """That of every picture."""
    slow = SlowAddress(threading.Semaphore(0), threading.Event())

    def fetched(self: object, url: str, argument: str) -> bytes:
        slow.begun.release()
        slow.going_on.wait(WAIT_S)
        Image.new("RGB", (40, 30), "red").save(file := io.BytesIO(), "PNG")
        return file.getvalue()

    monkeypatch.setattr("diptych.serve.model.pictures.Pictures.fetched", fetched)
    return slow


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> diptych.Embedder:
    return diptych.load(tiny_model, engine="openvino", precision="float32")


@pytest.fixture(scope="session")
def decoding_inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diptych.serve.service.DecoderPool", InlineDecoders)
        yield


def started(model: diptych.Embedder, folder: Path | None, **settings: Any) -> "Client":
    opener = None if folder is None else lambda served: diptych.open_index(folder, model=served)
    service = open_service(model, ServeSettings(**settings), open_index=opener, watching=False)
    return Client(create_app(service), service)


@pytest.fixture
def serve(tiny: diptych.Embedder, decoding_inline: None) -> Iterator[Serve]:
    """Serves a folder, or the model alone, with any settings; `client.service` is the service."""
    opened: list[Client] = []

    def start(folder: Path | None = None, **settings: Any) -> Client:
        opened.append(started(tiny, folder, **settings))
        return opened[-1]

    yield start
    for client in opened:
        client.close()
        client.service.close()


class Client(TestClient):
    """Asks as a program on this machine does."""

    def __init__(self, app: Any, service: Service):
        super().__init__(app, base_url="http://localhost:8000", raise_server_exceptions=False)
        self.service = service


@pytest.fixture(scope="session")
def client(tiny: diptych.Embedder, indexed: Path, decoding_inline: None) -> Iterator[Client]:
    """Serves three pictures and a note, which no test changes."""
    made = started(tiny, indexed)
    yield made
    made.service.close()


@pytest.fixture(scope="session")
def alone(tiny: diptych.Embedder, decoding_inline: None) -> Iterator[Client]:
    """Serves the model without a folder."""
    made = started(tiny, None)
    yield made
    made.service.close()
