"""Shards behind s3://, read by s3fs from a small server of the same protocol on this machine."""

import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from PIL import Image

from diptych.data.loading.stream import fetched
from diptych.data.samples import Stream
from diptych.data.sources import object_storage
from diptych.data.sources.opening import open_source
from diptych.errors import DataError
from diptych.untrusted.downloading import FetchLimits
from tests.conftest import write_tar

s3fs = pytest.importorskip("s3fs", reason="s3:// needs s3fs")


class Store(ThreadingHTTPServer):
    """One bucket, `bucket`, with `objects`. What is in `forbidden` may not be read; the first answer for an object in
    `cut` ends after that many bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.objects: dict[str, bytes] = {}
        self.forbidden: set[str] = set()
        self.cut: dict[str, int] = {}


class Answers(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if bucket != "bucket":
            return self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        if not key:
            return self._list({name: values[0] for name, values in parse_qs(parts.query).items()})
        if key in self.server.forbidden:
            return self._send(403, b"<Error><Code>AccessDenied</Code></Error>")
        if (content := self.server.objects.get(key)) is None:
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        start, end = 0, len(content)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(end, int(found[2] or end) + 1)
        status = 206 if found else 200
        self._send(status, content[start:end], self.server.cut.pop(key, None) if self.command == "GET" else None)

    def _list(self, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        keys = sorted(key for key in self.server.objects if key.startswith(prefix))
        rows = [
            f'<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[key])}</Size><ETag>"1"</ETag>'
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
        ]
        about = f"<Name>bucket</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        self._send(200, f"<ListBucketResult>{about}{''.join(rows)}</ListBucketResult>".encode())

    def _send(self, status: int, content: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(content), "ETag": '"1"', "Content-Type": "application/xml"}.items():
            self.send_header(name, str(value))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:cut])
            self.close_connection = cut is not None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with Store() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {"ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "ACCESS_KEY_ID": "a",
                            "SECRET_ACCESS_KEY": "very-secret", "DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        picture = io.BytesIO()
        Image.new("RGB", (24, 20), (200, 30, 30)).save(picture, "JPEG")
        for number in range(3):
            files = {"a.jpg": picture.getvalue(), "a.txt": f"number {number}".encode()}
            server.objects[f"set/{number:04}.tar"] = write_tar(tmp_path / "shard.tar", files).read_bytes()
        server.objects["set/readme.md"] = b"about them"
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        server.shutdown()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("form", ["", "/", "/*.tar", "/000[0-2].tar", "/{0000..0002}.tar"])
def test_shards_are_read(store: Store, form: str) -> None:
    stream = open_source(f"s3://bucket/set{form}")
    assert isinstance(stream, Stream)
    assert stream.shards == [f"s3://bucket/set/{number:04}.tar" for number in range(3)]
    assert [fetched(stream, shard)[0].captions for shard in stream.shards] == [(f"number {n}",) for n in range(3)]


def test_what_cannot_be_read_is_named_without_a_secret(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.forbidden.add("set/0001.tar")
    stream = open_source("s3://bucket/set/{0001..0009}.tar")
    assert isinstance(stream, Stream)
    for shard, reason in ((stream.shards[0], "no permission"), (stream.shards[8], "missing")):
        with pytest.raises(DataError) as failed:
            fetched(stream, shard)
        assert failed.value.reason == reason
        assert shard in str(failed.value)
        assert "very-secret" not in str(failed.value)


def test_a_transfer_that_is_cut_goes_on(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "PAUSE_S", 0)
    store.cut["set/0002.tar"] = 1000
    object_storage.download("s3://bucket/set/0002.tar", tmp_path / "here", FetchLimits())
    assert (tmp_path / "here").read_bytes() == store.objects["set/0002.tar"]
