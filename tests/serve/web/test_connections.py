"""Clients that keep the server waiting lose their connection; all others are answered meanwhile."""

import asyncio
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diptych.serve.web import body, connections
from diptych.serve.web.deadline import DEADLINE
from tests.serve.listening import Listening

WAIT_S = 120.0
HEAD = b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"texts": ["a red house"]}'
Listen = Callable[..., Listening]


@pytest.fixture
def listen(serve) -> Iterator[Listen]:
    """Starts a service on a port of this machine."""
    opened: list[Listening] = []

    def start(folder: Path | None = None, **settings: object) -> Listening:
        opened.append(Listening(serve(folder, **settings).service).__enter__())
        return opened[-1]

    yield start
    for each in opened:
        each.__exit__()


def connected(to: Listening) -> socket.socket:
    return socket.create_connection(("127.0.0.1", to.port), timeout=WAIT_S)


def await_health(by: Listening) -> None:
    """Others are answered; as often as it takes, where the limits are those of a test."""
    while not is_answered(by):
        pass


def is_answered(by: Listening) -> bool:
    with connected(by) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b" 200 " in received(connection)


def received(connection: socket.socket) -> bytes:
    """All until the connection ends, in whatever way."""
    content = bytearray()
    try:
        while block := connection.recv(65536):
            content += block
    except ConnectionError:
        pass
    return bytes(content)


def test_a_head_that_never_ends_is_not_awaited(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ASKING_S", 0.2)
    server = listen()
    with connected(server) as silent, connected(server) as slow:
        slow.sendall(b"GET /v1/health HTTP/1.1\r\nX-More: ")
        await_health(server)
        assert received(silent) == received(slow) == b""


def test_bytes_that_drip_do_not_prolong_a_head(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ASKING_S", 0.5)
    with connected(listen()) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nX-More: ")
        while not select.select([connection], [], [], 0.05)[0]:  # until it is ended
            connection.sendall(b"a")
        assert received(connection) == b""


def test_a_body_that_never_ends_is_not_awaited(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "COMING_S", 0.2)
    server = listen()
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        await_health(server)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"DeadlineError" in answer


def test_what_follows_an_answered_request_is_not_awaited_for_ever(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is refused by its length may still be on its way; it is read, but not without end."""
    monkeypatch.setattr(connections, "ASKING_S", 0.2)
    with connected(listen(max_body_bytes=1000)) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n{")
        assert received(connection).startswith(b"HTTP/1.1 413 ")


def test_the_deadline_of_an_answer_runs_from_the_end_of_its_body() -> None:
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.request", "body": b"}"}]

    async def receive() -> dict:
        return parts.pop(0)

    async def read() -> list[float]:
        reader, seen = body.BodyReader(receive, body.Bodies(10), 10, "", 30.0), []
        DEADLINE.set(0.0)
        while parts:
            await reader.read()
            seen.append(DEADLINE.get())
        return seen

    first, last = asyncio.run(read())
    assert first == 0.0
    assert last > time.monotonic()


def test_a_client_that_takes_nothing_of_its_answer_loses_it(
    listen: Listen, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the file that was sent to it is closed."""
    monkeypatch.setattr(connections, "TAKING_S", 0.2)
    for picture in several.rglob("*.png"):
        picture.write_bytes(bytes(30_000_000))
    server = listen(several, originals=True)
    service = server.service
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /v1/items/1/original HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while service.metrics.in_flight == 0:
            pass
        while service.metrics.in_flight:
            await_health(server)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections_cost_the_idle_ones(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 5)
    server = listen()
    idle = [connected(server) for _ in range(20)]
    try:
        await_health(server)
    finally:
        for each in idle:
            each.close()


def test_bodies_together_are_bounded(listen: Listen) -> None:
    server = listen(max_body_bytes=1000)  # so that 8,000 bytes are held at a time
    waiting = [connected(server) for _ in range(9)]
    try:
        for each in waiting:
            each.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * 990)
        answered, _, _ = select.select(waiting, [], [], WAIT_S)
        assert len(answered) == 1
        assert answered[0].recv(100).startswith(b"HTTP/1.1 429 ")
    finally:
        for each in waiting:
            each.close()


def test_the_time_for_a_head_is_that_of_each_request(listen: Listen) -> None:
    server = listen()
    with connected(server) as connection:
        while not (known := server.connections()):
            pass
        (kept,) = known
        first = kept._asking
        assert first is not None
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert first.cancelled()
        connection.sendall(b"P")  # of the next
        while kept._asking is None:
            pass
        assert not kept._asking.cancelled()


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_body_that_is_no_http_is_answered_once(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """By the refusal alone, whether its request is being answered or not; and strangers fill no log."""
    server = listen(token="a token of this test")
    for asked in (CHUNKED, CHUNKED.replace(b"POST", b"HEAD"), CHUNKED + b"1\r\n{\r\n", b"none\r\n\r\n"):
        with connected(server) as connection:
            connection.sendall(asked + b"no length\r\n")
            answer = received(connection)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 40")
        assert b"content-type: application/problem+json" in answer
    await_health(server)
    assert not [record for record in caplog.records if record.exc_info]


def test_the_refusal_of_a_long_head_is_read_by_a_client_that_still_sends(listen: Listen) -> None:
    with connected(listen()) as connection:
        connection.sendall(b"GET /v1/health?" + b"a" * 3_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(content)["code"] == "RequestError"


def test_who_goes_on_sending_after_a_refusal_is_not_listened_to_for_ever(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGERING_S", 0.2)
    server = listen()
    with connected(server) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        while server.connections():
            pass


def test_what_is_no_http_behind_a_request_ends_its_answer(
    listen: Listen, indexed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = listen(indexed)
    service = server.service
    with connected(server) as connection:
        connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        while not service.streams:
            pass
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"no length\r\n")
        received(connection)
    while service.streams:
        pass
    await_health(server)
    assert not [record for record in caplog.records if record.exc_info]
