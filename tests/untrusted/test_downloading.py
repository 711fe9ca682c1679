"""Hosts that may be anyone's: what they answer costs the shard that was asked for, where they lead is looked at."""

import base64
import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych.data.loading.stream import fetched
from diptych.data.samples import Stream
from diptych.data.sources import remote
from diptych.data.sources.opening import open_source
from diptych.errors import ArgumentError, DataError, FetchError, TooSlowError
from diptych.media.download import fetch
from diptych.untrusted import downloading
from diptych.untrusted.downloading import PUBLIC, FetchLimits, Transfer, kind_of, opened, shown
from tests.conftest import write_tar

FOREVER_S = 1e9


class Server(socketserver.ThreadingTCPServer):
    """Answers a path with bytes, or with what a function makes of the request and the connection."""

    daemon_threads, allow_reuse_address, block_on_close = True, True, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, bytes | Callable[[str, Any], None]] = {}
        self.asked: list[str] = []
        self.over = threading.Event()

    def address(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}{path}"


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        request = b"".join(iter(lambda: self.rfile.readline(), b"\r\n")).decode()
        path = request.split(" ")[1]
        self.server.asked.append(request)
        answer = self.server.answers[path]
        with contextlib.suppress(OSError):
            answer(request, self) if callable(answer) else self.wfile.write(answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "PAUSE_S", 0.0)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Server() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        made.over.set()
        made.shutdown()


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode() + body


def leading(to: str, status: str = "302 Found") -> bytes:
    return answer(b"", f"Location: {to}", "Content-Length: 0", status=status)


@pytest.fixture
def tar(tmp_path: Path) -> bytes:
    return write_tar(tmp_path / "made.tar", {"a.jpg": b"picture", "a.txt": b"words"}).read_bytes()


def read(url: str, limits: FetchLimits | None = None) -> bytes:
    with opened(url, {}, limits or FetchLimits(), FOREVER_S) as transfer:
        return b"".join(transfer.blocks())


def shard(url: str, limits: FetchLimits | None = None) -> tuple[list[tuple[str, ...]], dict[str, int]]:
    """Captions, and what was skipped, of a shard at an address."""
    stream = open_source(url, fetch_limits=limits)
    assert isinstance(stream, Stream)
    source = fetched(stream, stream.shards[0])
    return [source.captions(index) for index in range(len(source))], source.skipped


# --- answers that make no sense


def test_odd_lengths_and_forms_of_an_answer(server: Server, tar: bytes) -> None:
    """Where a length says nothing the tar's own end does."""
    size = len(tar)
    whole = [
        (f"Content-Length: {size}",), (), ("Content-Length: many",), ("Content-Length: -5",), ("Content-Length: ",),
        (f"Content-Length: {'9' * 5000}",), (f"Content-Length: {size}", f"Content-Length: {size}"),
        (f"Content-Length: {size}, {size}",),
    ]  # fmt: skip
    for headers in whole:
        server.answers["/0.tar"] = answer(tar, *headers)
        assert shard(server.address("/0.tar")) == ([("words",)], {}), headers
    chunks = b"%x\r\n%b\r\n" % (1000, tar[:1000]) + b"%x\r\n%b\r\n0\r\n\r\n" % (size - 1000, tar[1000:])
    for body in (chunks, chunks.replace(b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n")):
        server.answers["/0.tar"] = answer(body, "Transfer-Encoding: chunked")
        assert shard(server.address("/0.tar")) == ([("words",)], {})


@pytest.mark.parametrize("twice", [False, True])
def test_a_length_that_is_too_short_cuts_the_shard(server: Server, tar: bytes, twice: bool) -> None:
    server.answers["/0.tar"] = answer(tar, "Content-Length: 2048", *[f"Content-Length: {len(tar)}"] * twice)
    assert shard(server.address("/0.tar")) == ([("words",)], {"damage in 0.tar": 1})


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        (["Content-Length: 999999"], b"x", "could not be fetched in 6 tries"),
        (["Transfer-Encoding: chunked"], b"5\r\nab", "could not be fetched in 6 tries"),
        (["Transfer-Encoding: chunked"], b"nonsense\r\n", "could not be fetched in 6 tries"),
        (["Transfer-Encoding: chunked"], b"-5\r\nabcdefgh", "could not be fetched in 6 tries"),
        (["Content-Length: 20"], b"<!DOCTYPE html> sorry", "is a page of text, not a tar"),
        (["Content-Length: 2000"], b"\x89PNG" + bytes(1996), "cannot be read as a tar shard"),
        (["Content-Length: 0"], b"", "cannot be read as a tar shard"),
        (["X: " + "y" * 100_000], b"", "could not be fetched in 6 tries"),
    ],
    ids=["cut", "chunk-cut", "no-chunk", "negative-chunk", "page", "picture", "empty", "header"],
)
def test_an_answer_that_is_no_shard_costs_itself_alone(
    server: Server, headers: list[str], body: bytes, words: str
) -> None:
    server.answers["/0.tar"] = answer(body, *headers)
    with pytest.raises(DataError, match=words):
        shard(server.address("/0.tar"))


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "304 Not Modified", "302 Found", "600 What"])
def test_a_server_that_says_no_is_asked_once(server: Server, status: str) -> None:
    server.answers["/0.tar"] = answer(b"x", status=status)
    with pytest.raises(DataError, match=f"HTTP {status[:3]}") as caught:
        shard(server.address("/0.tar"))
    assert (caught.value.reason, len(server.asked)) == (f"HTTP {status[:3]}", 1)


def test_no_http_at_all(server: Server) -> None:
    server.answers["/0.tar"] = b"\x00\xff nonsense"
    with pytest.raises(DataError, match="could not be fetched in 6 tries"):
        shard(server.address("/0.tar"))


@pytest.mark.parametrize(
    "name", ["%00.tar", "..%2F..%2Fx.tar", "%2e%2e.tar", "a%0Ab.tar", "-rf.tar", "x" * 300 + ".tar"]
)
def test_names_in_an_address_name_no_file(server: Server, tar: bytes, name: str) -> None:
    server.answers[f"/{name}"] = answer(tar)
    assert shard(server.address(f"/{name}")) == ([("words",)], {})


# --- limits


def test_a_shard_may_be_too_large(server: Server, tar: bytes) -> None:
    """By what is said of it, before it comes; and by what comes, which may have no end."""
    limits = FetchLimits(max_bytes=5000)
    server.answers["/0.tar"] = answer(b"", f"Content-Length: {1 << 40}")
    with pytest.raises(DataError, match=r"more than 5,000 bytes") as caught:
        shard(server.address("/0.tar"), limits)
    assert caught.value.reason == "too large"

    def endless(_: str, handler: Any) -> None:
        handler.wfile.write(answer(b""))
        while not server.over.is_set():
            handler.wfile.write(bytes(1 << 16))

    server.answers["/0.tar"] = endless
    with pytest.raises(DataError, match=r"more than 5,000 bytes"):
        shard(server.address("/0.tar"), limits)
    assert len(server.asked) == 2


def dripping(server: Server, before: bytes) -> Callable[[str, Any], None]:
    """An answer that comes a byte now and then, and never ends."""

    def drip(_: str, handler: Any) -> None:
        handler.wfile.write(before)
        while not server.over.wait(0.01):
            handler.wfile.write(b"x")

    return drip


@pytest.mark.parametrize(
    "before", [b"", b"HTTP/1.1 200 OK\r\nX: ", answer(b""), answer(b"5", "Transfer-Encoding: chunked")]
)
def test_an_answer_that_has_no_end_meets_the_deadline(server: Server, before: bytes) -> None:
    """In the status line, in a header, in the body and in the length of a chunk."""
    server.answers["/0.tar"] = dripping(server, before)
    with pytest.raises(DataError, match=r"longer than 0 s|was not complete after 0 s") as caught:
        shard(server.address("/0.tar"), FetchLimits(deadline_s=0.3, least_rate=0))
    assert caught.value.reason == "deadline"


def test_headers_have_a_time_of_their_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "ANSWER_S", 0.1)
    monkeypatch.setattr(remote, "TRIES", 2)
    server.answers["/0.tar"] = dripping(server, b"HTTP/1.1 200 OK\r\nX: ")
    with pytest.raises(DataError, match="there was no response within 0 s"):
        shard(server.address("/0.tar"))
    assert len(server.asked) == 2


def test_a_rate_is_taken_over_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow for a moment is not too slow; a minute below the rate is."""
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(downloading.time, "monotonic", lambda: next(clock))
    sizes = iter([90_000, 90_000, 90_000, 1000, 90_000, 90_000, *[1000] * 99])

    class Response:
        status, headers = 200, None

        def read1(self, _: int) -> bytes:
            return bytes(next(sizes))

    blocks = Transfer(Response(), FetchLimits(least_rate=1024), FOREVER_S).blocks()  # type: ignore[arg-type]
    brought = []
    with pytest.raises(TimeoutError, match="slower than 1,024 bytes a second"):
        brought += blocks
    assert 6 <= len(brought) + sum(1 for _ in sizes) - 90 <= 20


def test_a_server_that_is_always_too_slow_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though each try brings something: at two bytes a second a shard takes years."""
    tries = []

    def drip(url: str, path: Path, have: int, *_: object) -> tuple[bool, str]:
        tries.append(have)
        path.write_bytes(bytes(have + 120))
        raise TooSlowError("it was slower than 1,024 bytes a second")

    monkeypatch.setattr(remote, "_resume_transfer", drip)
    monkeypatch.setattr(remote, "PAUSE_S", 0)
    with pytest.raises(DataError, match=r"in 6 tries \(it was slower than 1,024 bytes a second"):
        remote.download("http://127.0.0.1/0.tar", tmp_path / "0.tar", FetchLimits())
    assert tries == [0, 120, 240, 360, 480, 600]


def test_what_comes_too_slowly_is_given_up_though_each_try_brings_something(server: Server) -> None:
    """A byte for each try would else go on until the deadline."""
    server.answers["/0.tar"] = lambda request, to: to.wfile.write(part(request))
    with pytest.raises(DataError, match=f"could not be fetched in {remote.TRIES} tries") as caught:
        shard(server.address("/0.tar"), FetchLimits(least_rate=1e9))
    assert caught.value.reason == "download failed"
    assert len(server.asked) == remote.TRIES


def part(request: str) -> bytes:
    """The next byte of a large file."""
    have = re.search(r"bytes=(\d+)-", request)
    at = int(have[1]) if have else 0
    status = "206 Partial Content" if have else "200 OK"
    said = [f"Content-Range: bytes {at}-999999/1000000"] * bool(have)
    return answer(b"x", f"Content-Length: {1_000_000 - at}", *said, status=status)


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FetchLimits.from_environment() == FetchLimits()
    monkeypatch.setenv("DIPTYCH_FETCH_MAX_BYTES", "1e6")
    monkeypatch.setenv("DIPTYCH_FETCH_DEADLINE_S", "60")
    assert FetchLimits.from_environment() == FetchLimits(max_bytes=1_000_000, deadline_s=60.0)
    monkeypatch.setenv("DIPTYCH_FETCH_LEAST_RATE", "fast")
    with pytest.raises(ArgumentError, match="DIPTYCH_FETCH_LEAST_RATE='fast'; expected a number"):
        FetchLimits.from_environment()


# --- redirects


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", PUBLIC), ("2606:2800:220:1::1", PUBLIC), ("10.1.2.3", "private"), ("192.168.0.1", "private"),
        ("100.64.0.1", "private"), ("127.0.0.1", "loopback"), ("127.8.8.8", "loopback"), ("::1", "loopback"),
        ("169.254.169.254", "link-local"), ("fe80::1%eth0", "link-local"), ("fd00::1", "private"),
        ("0.0.0.0", "unspecified"), ("::", "unspecified"), ("224.0.0.1", "multicast"), ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"), ("::ffff:169.254.169.254", "link-local"), ("::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"), ("64:ff9b::a00:1", "private"), ("::ffff:93.184.216.34", PUBLIC),
        ("240.0.0.1", "private"), ("255.255.255.255", "private"),
    ],
)  # fmt: skip
def test_kinds_of_addresses(address: str, kind: str) -> None:
    assert kind_of(address) == kind


def test_redirects_are_followed(server: Server, tar: bytes) -> None:
    server.answers |= {
        "/0.tar": leading("/1.tar"), "/1.tar": leading(server.address("/2.tar"), "301 Moved"),
        "/2.tar": leading("//" + server.address("/3.tar?x=1#part").removeprefix("http://"), "308 Permanent"),
        "/3.tar?x=1": answer(tar),
    }  # fmt: skip
    assert shard(server.address("/0.tar")) == ([("words",)], {})
    with pytest.raises(DataError, match="redirected more than 2 times"):
        shard(server.address("/0.tar"), FetchLimits(redirects=2))
    server.answers["/3.tar?x=1"] = leading("/0.tar")
    with pytest.raises(DataError, match="redirected more than 5 times"):
        shard(server.address("/0.tar"))


@pytest.mark.parametrize(
    "to",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/",
        "data:,x",
        "http://[::1",
        "http://h:x/",
    ],
)
def test_a_redirect_to_another_scheme_is_refused(server: Server, to: str) -> None:
    server.answers["/0.tar"] = leading(to)
    with pytest.raises(DataError, match=r"is not an http or https address|is not an address") as caught:
        shard(server.address("/0.tar"))
    assert (caught.value.reason, len(server.asked)) == ("no address", 1)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the test's server were on the internet; 127.0.0.2 is this machine's, as ever."""
    monkeypatch.setattr(downloading, "kind_of", lambda address: PUBLIC if address == "127.0.0.1" else kind_of(address))


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.2", "loopback"), ("[::1]", "loopback"), ("10.0.0.1", "private"), ("169.254.169.254", "link-local"),
        ("2130706434", "loopback"), ("0x7f.2", "loopback"), ("[::ffff:127.0.0.2]", "loopback"),
        ("0.0.0.0", "unspecified"), ("user:word@10.0.0.1", "private"),
    ],
)  # fmt: skip
def test_a_redirect_from_the_internet_to_this_machine_or_network_is_refused(
    server: Server, host: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is written: what counts is the address that would be connected to."""
    server.answers["/0.tar"] = leading(f"http://{host}:{server.server_address[1]}/secret.tar")
    server.answers["/secret.tar"] = answer(b"secret")
    with pytest.raises(DataError, match=f"a {kind} address") as caught:
        shard(server.address("/0.tar"))
    assert (caught.value.reason, len(server.asked)) == ("refused redirect", 1)
    with pytest.raises(FetchError, match=f"a {kind} address"):
        fetch(server.address("/0.tar"))
    monkeypatch.setenv("http_proxy", server.address("/").rstrip("/"))  # which would connect for us
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match=f"a {kind} address"):
        shard(server.address("/0.tar"))


def test_a_first_address_on_this_machine_leads_no_further_into_the_network(server: Server, tar: bytes) -> None:
    server.answers |= {"/0.tar": leading(server.address("/1.tar", "localhost")), "/1.tar": answer(tar)}
    assert shard(server.address("/0.tar")) == ([("words",)], {})
    server.answers["/0.tar"] = leading("http://169.254.169.254/latest/meta-data")
    with pytest.raises(DataError, match=r"leads to 169\.254\.169\.254, a link-local address"):
        shard(server.address("/0.tar"))


@pytest.mark.usefixtures("public")
def test_the_address_that_is_checked_is_the_one_that_is_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere with every question is asked for once."""
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

    def resolve(host: str, port: int, *_: object, **__: object) -> list[Any]:
        where = next(answers) if host == "changing.example" else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server.answers |= {"/0": leading(server.address("/1", "changing.example")), "/1": answer(b"public")}
    assert read(server.address("/0")) == b"public"
    with pytest.raises(FetchError, match=r"leads to changing\.example, a loopback address"):
        read(server.address("/0"))


@pytest.mark.usefixtures("public")
def test_a_host_with_several_addresses_is_reached_by_those_that_are_allowed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *_: object, **__: object) -> list[Any]:
        found = ["127.0.0.2", "127.0.0.1"] if host == "two.example" else ["127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port)) for where in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server.answers |= {"/0": leading(server.address("/1", "two.example")), "/1": answer(b"public")}
    assert read(server.address("/0")) == b"public"


# --- passwords


def test_a_password_goes_to_its_own_host_alone_and_into_no_message(server: Server) -> None:
    port = server.server_address[1]
    url = f"http://me:se%20cret@127.0.0.1:{port}/0.tar"
    server.answers |= {
        "/0.tar": leading("/1.tar"), "/1.tar": leading(f"http://localhost:{port}/2.tar"),
        "/2.tar": answer(b"", status="404 Not Found"),
    }  # fmt: skip
    with pytest.raises(DataError, match="HTTP 404") as caught:
        shard(url)
    header = f"Authorization: Basic {base64.b64encode(b'me:se cret').decode()}"
    assert [header in request for request in server.asked] == [True, True, False]
    assert "cret" not in str(caught.value)
    assert shown(url) == server.address("/0.tar")
