"""Malformed requests, made from a seed and sent as bytes: what a stranger's program may send to `diptych serve`.

    python -m tests.serve.hostile [--requests 10000] [--seed 7] [--first N]

starts a server over a few drawn pictures, with a token and with addresses allowed, on an internet that is made up (see
pretended_internet), and says how the requests were answered. A fault is an answer with what it should not have: a file
outside the folder, something that was fetched from this machine, also by a redirect or a name that changes, anything
without the token or for a forged Host or Origin; a 5xx that docs/serve.md does not know, an error in another form, no
answer where one was due; or a server that does not answer as before when all is over.
"""

import argparse
import http.client
import io
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.serve.hostile_requests import Hostile, hostile_request
from tests.serve.pretended_internet import PublicHost

WAIT_S = 60.0  # for an answer, on a busy machine
TOKEN = "a token of the hostile tests"
SECRET = f"secret-{secrets.token_hex(8)}"  # in files and answers that no request may get
OPEN = ("/v1/health", "/v1/ready", "/v1/session")
DOCUMENTED = {503, 504}
TRACES = (b"Traceback (most", b'File "/', b"root:x:")


class Answer(NamedTuple):
    """What came back; the status is 0 where the connection ended without an answer."""

    status: int
    kind: str
    body: bytes


class Place(NamedTuple):
    """A server that is asked, and the canaries beside it."""

    port: int
    canary: "Canary"
    outside: Path


class Canary:
    """A server on this machine that nothing may fetch from."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(SECRET.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def canaries(folder: Path) -> Iterator[tuple[Canary, Path]]:
    """The server, and a file beside the folder that is served; and a public host with the same port, which leads to
    that server."""
    outside, canary = folder / "outside.txt", Canary()
    outside.write_text(SECRET)
    public = PublicHost(canary.port)
    try:
        yield canary, outside
    finally:
        public.close()
        canary.close()


def asked(port: int, raw: bytes, *, is_cut: bool = False) -> Answer:
    """The answer to these bytes; of those that are cut the server is told that nothing follows."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        try:
            connection.sendall(raw)
            if is_cut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:  # it answered before it had all, and closed
            pass
        return _received(connection, raw)


def _received(connection: socket.socket, raw: bytes) -> Answer:
    reply = http.client.HTTPResponse(connection, method="HEAD" if raw.startswith(b"HEAD ") else "GET")
    try:
        reply.begin()
        return Answer(reply.status, reply.headers.get_content_type(), reply.read())
    except (http.client.HTTPException, ConnectionError):
        return Answer(0, "", b"")
    finally:
        reply.close()


def faults(sent: Hostile, answer: Answer) -> list[str]:
    """What this answer should not have been."""
    found = []
    status, body = answer.status, answer.body
    if SECRET.encode() in body:
        found.append("it holds the secret")
    if status < 500 and any(trace in body for trace in TRACES):
        found.append("it tells of the server's inside")
    if status >= 500 and status not in DOCUMENTED:
        found.append(f"it is {status}")
    if status == 0 and not sent.is_cut:
        found.append("there is none")
    if 0 < status < 400 and not _may_be_answered(sent):
        found.append(f"it is {status} for one who may not ask")
    if status >= 400 and not _is_problem(answer):
        found.append(f"its form is {answer.kind}")
    return found


def _may_be_answered(sent: Hostile) -> bool:
    if sent.is_forged:
        return False
    return sent.has_token or sent.path in OPEN or not sent.path.startswith("/v1/")


def _is_problem(answer: Answer) -> bool:
    if not answer.body:  # of HEAD
        return answer.kind == "application/problem+json"
    try:
        return answer.kind == "application/problem+json" and json.loads(answer.body)["status"] == answer.status
    except ValueError:
        return False


def attacked(place: Place, numbers: Iterable[int], seed: int, tell: Callable[[str], None]) -> Counter[str]:
    """Send the requests of these numbers; tells the faults, and returns how they were answered, by status."""
    before, statuses = known_answers(place.port), Counter[str]()
    for number in numbers:
        sent = hostile_request(Random(f"{seed} {number}"), token=TOKEN, canary=place.canary.port, file=place.outside)
        answer = asked(place.port, sent.raw, is_cut=sent.is_cut)
        statuses[str(answer.status or "none")] += 1
        found = faults(sent, answer)
        if place.canary.asked:
            found.append(f"{place.canary.asked} was fetched")
            place.canary.asked.clear()
        if found:
            statuses["faults"] += 1
            tell(f"{seed} {number} ({sent.kind}): {'; '.join(found)}\n  {sent.raw[:300]!r}\n  {answer.body[:300]!r}")
    if known_answers(place.port) != before:
        statuses["faults"] += 1
        tell("the server does not answer as before")
    return statuses


def known_answers(port: int) -> list[object]:
    """Health, and the hits of a search."""
    said = []
    for path in ("/v1/health", "/v1/search?q=a+red+house&limit=500"):
        lines = f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", "Connection: close"
        answer = asked(port, "\r\n".join((*lines, "", "")).encode())
        known = json.loads(answer.body)
        said.append([answer.status, known.get("hits"), known.get("status")])
    return said


@contextmanager
def served(folder: Path, outside: Path) -> Iterator[int]:
    """The port of `diptych serve` over a few drawn pictures."""
    from diptych.scenes.scene import Scenes

    photos = folder / "photos"
    photos.mkdir()
    for number, scene in enumerate(Scenes(12, size_px=96)):
        scene.image.save(photos / f"{number}.jpg")
    (photos / "link.txt").symlink_to(outside)
    command = [sys.executable, "-m", "tests.serve.pretended_internet", "serve", str(photos), "--port", "0"]
    environment = os.environ | {"DIPTYCH_TOKEN": TOKEN}
    environment |= {f"XDG_{name}_HOME": str(folder / name) for name in ("CACHE", "CONFIG")}
    with subprocess.Popen([*command, "--allow-urls"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", (process.stdout or io.StringIO()).readline())
            if not found:
                raise RuntimeError("the server did not start")
            port = int(found[1])
            while len(known_answers(port)[1][1] or ()) < 12:  # type: ignore[index]
                pass
            yield port
        finally:
            process.terminate()
    if process.returncode:
        raise RuntimeError(f"the server ended with code {process.returncode}")


def main() -> int:
    """Run what was asked for; 1 where there was a fault."""
    parser = argparse.ArgumentParser(description="Malformed requests to a server.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as work,
        canaries(Path(work)) as (canary, outside),
        served(Path(work), outside) as port,
    ):
        numbers = range(options.first, options.first + options.requests)
        statuses = attacked(Place(port, canary, outside), numbers, options.seed, print)
    for status, count in sorted(statuses.items()):
        print(f"{status:>8} {count:8,}")
    return 1 if statuses["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
