"""WARC and WAT records of drawn pages, for tests of archives."""

import base64
import gzip
import hashlib
import json

DATE = "2026-03-01T12:00:00Z"


def record(kind: str, url: str, content: bytes, media_type: str, *more: str) -> bytes:
    """A WARC record; `more` are further header lines."""
    digest = base64.b32encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    lines = [
        "WARC/1.0", f"WARC-Type: {kind}", f"WARC-Target-URI: {url}", f"WARC-Date: {DATE}",
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>", f"Content-Type: {media_type}",
        f"WARC-Block-Digest: sha1:{digest}", *more, f"Content-Length: {len(content)}",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n\r\n"


def response(
    url: str, body: bytes, media_type: str = "text/html; charset=utf-8", *headers: str, status: int = 200,
    more: tuple[str, ...] = (),
) -> bytes:  # fmt: skip
    """A record with the answer of a server; `headers` are further header lines of it, `more` of the record."""
    head = "\r\n".join([f"HTTP/1.1 {status} OK", f"Content-Type: {media_type}", *headers]).encode()
    return record("response", url, head + b"\r\n\r\n" + body, "application/http; msgtype=response", *more)


def page(number: int, *, head: str = "", host: str = "example.org") -> bytes:
    """A record with a page that shows one picture."""
    picture = f"<img src=/{number}.jpg alt='a red boat on the river {number}'>"
    text = f"<html lang=en><head>{head}</head><body>{picture}</body></html>"
    return response(f"https://{host}/page{number}", text.encode())


def wat(url: str, links: list[dict[str, str]], metas: list[dict[str, str]] = (), headers: dict[str, str] = {}) -> bytes:  # type: ignore[assignment]  # noqa: B006
    """A record with what a page links to."""
    html = {"Head": {"Metas": list(metas)}, "Links": links}
    envelope = {
        "WARC-Header-Metadata": {"WARC-Target-URI": url},
        "Payload-Metadata": {"HTTP-Response-Metadata": {"Headers": headers, "HTML-Metadata": html}},
    }
    return record("metadata", url, json.dumps({"Envelope": envelope}).encode(), "application/json")


def zipped(records: list[bytes]) -> bytes:
    """An archive as crawlers write it: each record a member of gzip."""
    return b"".join(gzip.compress(each) for each in records)
