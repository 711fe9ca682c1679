"""A server that answers https itself, and one behind a proxy, nginx as docs/serve.md sets it up."""

import http.client
import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from diptych.serve.running import check_certificate
from diptych.serve.web import connections
from tests.serve.listening import Listening

TOKEN = "a token of these tests"
BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
SEARCH = json.dumps({"terms": [{"text": "a red house"}]})
DOCS = Path(__file__).parents[2] / "docs" / "serve.md"
WAIT_S = 120.0
Answer = tuple[int, dict[str, str], bytes]


def answer(connection: http.client.HTTPConnection, path: str, body: str | None = None, **headers: str) -> Answer:
    """Status, headers and content. The connection stays."""
    known = BEARER | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, known)
    said = connection.getresponse()
    return said.status, {name.lower(): value for name, value in said.getheaders()}, said.read()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of this machine that it signed itself, and its key."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("certificate")
    chain, key = str(folder / "chain.pem"), str(folder / "key.pem")
    line = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", chain, "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*line, *names], check=True, capture_output=True)
    return chain, key


def test_it_answers_https_itself(serve, indexed: Path, certificate: tuple[str, str]) -> None:
    """The page, a search, and a cookie that no browser sends without encryption."""
    check_certificate(*certificate)
    trusting = ssl.create_default_context(cafile=certificate[0])
    with Listening(serve(indexed, token=TOKEN).service, certificate=certificate) as listening:
        connection = http.client.HTTPSConnection("localhost", listening.port, timeout=WAIT_S, context=trusting)
        status, headers, content = answer(connection, "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"<!doctype html>" in content.lower()
        status, _, content = answer(connection, "/v1/search", SEARCH, Origin=f"https://localhost:{listening.port}")
        assert (status, len(json.loads(content)["hits"])) == (200, 3)
        status, headers, _ = answer(connection, "/v1/session", json.dumps({"token": TOKEN}))
        assert status == 204
        assert "secure" in headers["set-cookie"].lower()
        assert answer(connection, "/v1/search", SEARCH, Origin="https://localhost:1")[0] == 403
        connection.close()
        plain = http.client.HTTPConnection("localhost", listening.port, timeout=WAIT_S)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            answer(plain, "/v1/health")
        assert answer(connection, "/v1/health")[0] == 200
        connection.close()


def test_a_client_that_does_not_end_tls_does_not_hold_up_the_end(
    serve, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has its answer, and reads no more: neither what else comes nor that the connection ends."""
    monkeypatch.setattr(connections, "ENDING_S", 0.1)
    monkeypatch.setattr(connections, "TAKING_S", 3600.0)
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 3600.0)
    trusting = ssl.create_default_context(cafile=certificate[0])
    with Listening(serve(token=TOKEN).service, certificate=certificate) as listening:
        connection = http.client.HTTPSConnection("localhost", listening.port, timeout=WAIT_S, context=trusting)
        assert answer(connection, "/v1/health")[0] == 200
    connection.close()
    assert not [each for each in caplog.messages if "exceeded" in each], "it waited as long as a request may take"


@pytest.mark.parametrize(("proxies", "is_believed"), [("127.0.0.1", True), ("192.0.2.1", False), ("", False)])
def test_forwarded_headers_are_believed_from_named_proxies_alone(
    serve, indexed: Path, caplog: pytest.LogCaptureFixture, proxies: str, is_believed: bool
) -> None:
    """Who asked, in the log, and whether that was by https, for the cookie."""
    caplog.set_level(logging.INFO, "diptych.access")
    forwarded = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https"}
    service = serve(indexed, token=TOKEN, access_log=True).service
    with Listening(service, proxies=proxies) as listening:
        connection = http.client.HTTPConnection("127.0.0.1", listening.port, timeout=WAIT_S)
        _, headers, _ = answer(connection, "/v1/session", json.dumps({"token": TOKEN}), **forwarded)
        connection.close()
    assert ("secure" in headers["set-cookie"].lower()) == is_believed
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "diptych.access"]
    assert [line["client"] for line in lines] == ["203.0.113.9" if is_believed else "127.0.0.1"]


@contextmanager
def nginx(folder: Path, back_end: int) -> Iterator[int]:
    """The port of nginx with the configuration of docs/serve.md before the server of this port."""
    (location,) = re.findall(r"```nginx\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    location = location.replace("127.0.0.1:8000", f"127.0.0.1:{back_end}")
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; {location} }} }}\n"
    )
    line = [shutil.which("nginx") or "", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(line, stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None and not _listens(port):
                time.sleep(0.01)
            if process.poll() is not None:
                raise RuntimeError((process.stderr.read() if process.stderr else b"").decode())
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S).connect()
    except OSError:
        return False
    return True


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")
def test_behind_nginx_as_documented(serve, indexed: Path, tmp_path: Path) -> None:
    service = serve(indexed, token=TOKEN, root_path="/photos", originals=True).service
    with (
        Listening(service, proxies="127.0.0.1") as listening,
        nginx(tmp_path, listening.port) as port,
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        own = f"http://127.0.0.1:{port}"
        status, _, content = answer(connection, "/photos/")
        assert (status, b"<!doctype html>" in content.lower()) == (200, True)
        status, _, content = answer(connection, "/photos/v1/search", SEARCH, Origin=own)
        hits: list[dict[str, Any]] = json.loads(content)["hits"]
        assert (status, len(hits)) == (200, 3)
        for path in (hits[0]["thumbnail"], hits[0]["original"]):
            assert path.startswith("/photos/v1/")
            status, headers, content = answer(connection, path)
            assert (status, headers["content-type"].partition("/")[0]) == (200, "image")
        assert answer(connection, "/photos/v1/search", SEARCH, Origin="http://evil.example")[0] == 403
        assert answer(connection, "/photos/v1/search", SEARCH, Host="evil.example")[0] == 421
        large = SEARCH + " " * 2_000_000  # as a picture would be
        assert answer(connection, "/photos/v1/search", large, Origin=own)[0] == 200
        connection.request("GET", "/photos/v1/events", headers=BEARER)
        events = connection.getresponse()
        assert events.readline() == b"event: index\n", "at once"
        connection.close()
