"""The version of HTTP that a host chooses, and what is no answer."""

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from diptych.collect.lists.addresses import Reach, Resolver
from diptych.collect.lists.room import Room
from diptych.collect.lists.transport import Answer, Transport, Undelivered

BODY = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


class Server:
    """Answers HTTPS with one of the protocols that it offers; `connections` are the protocols of all that came."""

    def __init__(self, certificate: Path, protocols: list[str]):
        self.connections: list[str | None] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._tls.set_alpn_protocols(protocols)

    async def start(self) -> str:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self._tls)
        return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        self.connections.append(protocol)
        try:
            await (self._talk_2(reader, writer) if protocol == "h2" else self._talk_1(reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _talk_1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 ok\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)

    async def _talk_2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    connection.send_headers(event.stream_id, [(":status", "200"), ("tdm-reservation", "0")])
                    for at in range(0, len(BODY), 16_000):
                        end = at + 16_000 >= len(BODY)
                        connection.send_data(event.stream_id, BODY[at : at + 16_000], end_stream=end)
            writer.write(connection.data_to_send())


def asked(certificate: Path, server: Server, work: Callable[[Transport, str], Any], *, trusts: bool = True) -> Any:
    """What `work` makes of a transport and the server's address."""

    def tls() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=f"{certificate}.crt" if trusts else None)

    async def ask() -> Any:
        address = await server.start()
        resolver = Resolver(Reach.of(["127.0.0.0/8"]))
        try:
            async with Transport(resolver, Room(), "test", tls=tls) as transport:
                return await work(transport, address)
        finally:
            resolver.close()

    return asyncio.run(asyncio.wait_for(ask(), 100))


async def three(transport: Transport, address: str) -> list[Answer]:
    first = await transport.get(f"{address}/robots.txt", max_bytes=1 << 20, seconds=60)
    paths = [f"{address}/{number}.jpg" for number in range(2)]
    return [first, *await asyncio.gather(*(transport.get(path, max_bytes=1 << 20, seconds=60) for path in paths))]


def test_a_host_that_offers_http_2_is_asked_with_it_over_one_connection(certificate: Path) -> None:
    server = Server(certificate, ["h2", "http/1.1"])
    answers = asked(certificate, server, three)
    assert [(each.version, each.status, each.body == BODY) for each in answers] == [("HTTP/2", 200, True)] * 3
    assert answers[0].headers["tdm-reservation"] == "0"
    assert server.connections == ["h2"]


def test_a_host_that_does_not_is_asked_with_http_1(certificate: Path) -> None:
    server = Server(certificate, ["http/1.1"])
    answers = asked(certificate, server, three)
    assert [(each.version, each.body == BODY) for each in answers] == [("HTTP/1.1", True)] * 3
    assert {*server.connections} == {"http/1.1"}


def test_a_certificate_that_nobody_signed(certificate: Path) -> None:
    """The reason is one of the host, so that it is given up."""

    async def one(transport: Transport, address: str) -> Undelivered:
        with pytest.raises(Undelivered) as failed:
            await transport.get(f"{address}/x", max_bytes=9, seconds=60)
        return failed.value

    failed = asked(certificate, Server(certificate, ["h2"]), one, trusts=False)
    assert failed.is_of_host
    assert failed.reason in ("TLS", "no connection")


def test_too_large_over_http_2(certificate: Path) -> None:
    async def two(transport: Transport, address: str) -> list[Answer]:
        return [await transport.get(f"{address}/x", max_bytes=size, seconds=60) for size in (1000, 1 << 20)]

    small, whole = asked(certificate, Server(certificate, ["h2"]), two)
    assert (small.unwanted, small.body) == ("too large", b"")
    assert whole.body == BODY
