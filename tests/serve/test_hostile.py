"""Malformed requests over a socket: a few of those that `python -m tests.serve.hostile` sends in thousands."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.untrusted import downloading
from tests.serve import hostile_requests
from tests.serve.hostile import SECRET, TOKEN, Answer, Hostile, Place, attacked, canaries, faults
from tests.serve.listening import Listening
from tests.serve.pretended_internet import pretended

SEED = 1


@pytest.fixture
def place(serve, several: Path, tmp_path: Path) -> Iterator[Place]:
    client = serve(several, token=TOKEN, allow_urls=True)
    with pretended(), canaries(tmp_path) as (canary, outside), Listening(client.service) as listening:
        yield Place(listening.port, canary, outside)


def test_none_is_answered_with_what_it_should_not_have_and_none_takes_the_service_down(place: Place) -> None:
    told: list[str] = []
    statuses = attacked(place, range(300), SEED, told.append)
    assert told == []
    assert {"200", "400", "401", "403", "404", "405", "421", "422"} <= statuses.keys(), "each kind was refused as it is"


def test_what_is_fetched_from_this_machine_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same requests before a server that would fetch any address."""
    from urllib.request import urlopen

    def fetch(url: str, *, public_only: bool) -> bytes:
        return urlopen(f"http://127.0.0.1:{place.canary.port}/", timeout=60).read()

    monkeypatch.setattr("diptych.media.download.fetch", fetch)
    told: list[str] = []
    attacked(place, range(100), SEED, told.append)
    assert told
    assert all("was fetched" in each for each in told)


@pytest.mark.parametrize("lets", ["redirects", "names"])
def test_a_public_host_that_leads_to_this_machine_is_seen(
    place: Place, monkeypatch: pytest.MonkeyPatch, lets: str
) -> None:
    """Redirects alone, before a downloader that checks the first address, or that asks for a name once more after it
    was checked."""
    allowed, redirect = downloading._Guard._allowed, hostile_requests._redirect

    def unchecked(self: downloading._Guard, host: str, port: int) -> list:
        if lets == "names":
            allowed(self, host, port)
        return [(each, downloading.PUBLIC) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(downloading._Guard, "_allowed", unchecked)
    monkeypatch.setattr(hostile_requests, "_MAKERS", (redirect,))
    told: list[str] = []
    attacked(place, range(10), SEED, told.append)
    assert told
    assert all("was fetched" in each or "secret" in each for each in told)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(200, "text/plain", SECRET.encode()), "it holds the secret"),
        (Answer(200, "image/jpeg", b"\xff\xd8\xff"), "it is 200 for one who may not ask"),
        (Answer(500, "application/problem+json", b'{"status": 500}'), "it is 500"),
        (Answer(404, "text/html", b"<h1>"), "its form is text/html"),
        (Answer(404, "application/problem+json", b'{"status": 403}'), "its form is application/problem+json"),
        (
            Answer(422, "application/problem+json", b'{"status": 422, "detail": "File \\"/x"}'.replace(b"\\", b"")),
            "inside",
        ),
        (Answer(0, "", b""), "there is none"),
    ],
)
def test_faults_are_seen(answer: Answer, fault: str) -> None:
    found = faults(Hostile("body", b"", "/v1/items", has_token=False), answer)
    assert any(fault in each for each in found)


def test_an_answer_that_is_due_is_none() -> None:
    asked = Hostile("body", b"", "/v1/items", has_token=True)
    assert faults(asked, Answer(200, "application/json", b"{}")) == []
    assert faults(asked, Answer(404, "application/problem+json", b'{"status": 404}')) == []
    assert faults(asked._replace(is_forged=True), Answer(200, "application/json", b"{}"))
