"""What does it cost to read an archive of the web with all checks, beside FastWARC's own bare iteration?

    python bench/warc.py [--pages 1500] [--rounds 9] [--quick] [--json]

Archives are drawn as Common Crawl writes them: for each page a request, the answer and its metadata, each a member of
gzip; every twelfth answer is no page. `bare` is a loop over FastWARC's iterator that does nothing. `records` is what
reading costs here: each record of use is read to its end and compared with the length that its header promised (in a
plain file with the digest, too; gzip has checksums), and the end of the file is looked at. `whole` is what `diptych
collect common-crawl` does with each archive: pages are parsed, captions are judged, tables written. A WAT file of the
same pages is read in the same two ways. Numbers are megabytes of records, uncompressed, per processor second of one
core: the best of the rounds, in which the two readings take turns; `whole` is measured on a twentieth of the pages.
"""

import base64
import gzip
import hashlib
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator
from table import Row, arguments, report

from diptych.collect.archives.reading import ArchiveRules, read_archive
from diptych.collect.archives.record_reader import records

QUESTION = "Reading an archive of the web with all checks, beside FastWARC's bare iteration"
DATE = "2026-03-01T12:00:00Z"
NOT_A_PAGE = 12  # every so many answers
THINGS = "boat river dog child bridge market tree house horse lake street garden window flower train mountain".split()  # noqa: SIM905
KINDS = "red old small wooden white quiet bright narrow green broken sunny empty".split()  # noqa: SIM905


def main() -> None:
    """Draw the archives, then read them in turns."""
    parser = arguments(QUESTION)
    parser.add_argument("--pages", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    pages, rounds = (60, 2) if options.quick else (options.pages, options.rounds)
    with tempfile.TemporaryDirectory(prefix="warc-") as name:
        folder = Path(name)
        rows = [row for kind in ("warc", "wat") for row in measured(folder, kind, pages, rounds)]
    report(QUESTION, rows, as_json=options.as_json, inputs={"pages": pages, "rounds": rounds})


def measured(folder: Path, kind: str, pages: int, rounds: int) -> list[Row]:
    """The rows of archives of one kind, compressed and not."""
    rows = list[Row]()
    for form in ("gzip", "plain"):
        path, some = folder / f"{form}.{kind}", folder / f"some-{form}.{kind}"
        megabytes, some_megabytes = written(path, kind, pages), written(some, kind, max(12, pages // 20))
        best = dict.fromkeys(("bare", "records"), float("inf"))
        for _ in range(rounds):
            for name, way in (("bare", bare), ("records", checked)):
                best[name] = min(best[name], processor_s(way, path))
        rates = {name: megabytes / seconds for name, seconds in best.items()}
        rates["whole"] = some_megabytes / min(processor_s(whole, some) for _ in range(2))
        rows += [
            Row(f"{kind}, {form}: {name}", round(rate, 1), "MB/s", round(rate / rates["bare"], 4))
            for name, rate in rates.items()
        ]
        path.unlink()
    return rows


def written(path: Path, kind: str, pages: int) -> float:
    """Draw an archive; its megabytes, uncompressed."""
    drawn = list(warc(pages) if kind == "warc" else wat(pages))
    path.write_bytes(b"".join(gzip.compress(each, 6) if "gzip" in path.name else each for each in drawn))
    return sum(map(len, drawn)) / 1e6


def processor_s(way: Callable[[Path], object], path: Path) -> float:
    """Processor seconds of one reading."""
    started_s = time.process_time()
    way(path)
    return time.process_time() - started_s


def bare(path: Path) -> None:
    """FastWARC's loop, as its documentation has it."""
    with path.open("rb") as file:
        for _ in ArchiveIterator(file):
            pass


def checked(path: Path) -> None:
    """All records of use, each whole."""
    for _ in records(path, Counter()):
        pass


def whole(path: Path) -> None:
    """What becomes of an archive."""
    with tempfile.TemporaryDirectory(prefix="warc-") as name:
        read_archive(path, path.name, Path(name), ArchiveRules())


def warc(pages: int) -> Iterator[bytes]:
    """The records of a WARC file."""
    yield record("warcinfo", "", b"software: drawn\r\n", "application/warc-fields")
    for number in range(pages):
        url = f"https://www{number % 97}.example.org/{number}"
        yield record(
            "request", url, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "application/http; msgtype=request"
        )
        is_page = number % NOT_A_PAGE > 0
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {'text/html; charset=utf-8' if is_page else 'application/json'}\r\n"
        body = page(number) if is_page else json.dumps([sentence(random.Random(number), 400)] * 20).encode()
        content = f"{head}Content-Length: {len(body)}\r\nX-Crawled-By: drawn\r\n\r\n".encode() + body
        yield record("response", url, content, "application/http; msgtype=response")
        yield record("metadata", url, b"fetchTimeMs: 12\r\ncharset-detected: UTF-8\r\n", "application/warc-fields")


def wat(pages: int) -> Iterator[bytes]:
    """The records of a WAT file of pages like these."""
    for number in range(pages):
        random_of, url = random.Random(number), f"https://www{number % 97}.example.org/{number}"
        links = [{"path": "A@/href", "url": f"/{k}", "text": sentence(random_of, 3)} for k in range(90)]
        pictures = range(0 if number % 3 == 0 else 12)
        links += [{"path": "IMG@/src", "url": f"/{number}-{k}.jpg", "alt": sentence(random_of, 6)} for k in pictures]
        html = {
            "Head": {"Title": sentence(random_of, 5), "Metas": [{"name": "viewport", "content": "width"}]},
            "Links": links,
        }
        answer = {"Headers": {"Content-Type": "text/html"}, "HTML-Metadata": html}
        envelope = {
            "WARC-Header-Metadata": {"WARC-Target-URI": url, "WARC-Type": "response"},
            "Payload-Metadata": {"HTTP-Response-Metadata": answer},
        }
        yield record("metadata", url, json.dumps({"Envelope": envelope}).encode(), "application/json")


def record(kind: str, url: str, content: bytes, media_type: str) -> bytes:
    """A WARC record with the digest of its block."""
    digest = base64.b32encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: {DATE}\r\nWARC-Record-ID: <urn:uuid:{digest}>\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: {media_type}\r\nWARC-Block-Digest: sha1:{digest}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def page(number: int) -> bytes:
    """A page of some 100 kB: scripts, a menu, text, and twelve pictures on two of three pages."""
    random_of = random.Random(number)
    script = "".join(f"var v{random_of.randrange(10**6)}={random_of.random()};" for _ in range(2500))
    menu = "".join(
        f"<li class='item i{k}'><a href='/{random_of.randrange(10**6)}'>{sentence(random_of, 2)}</a></li>"
        for k in range(90)
    )
    parts = []
    for k in range(40):
        parts.append(f"<div class='c{k}'><h3>{sentence(random_of, 4)}</h3><p>{sentence(random_of, 90)}</p></div>")
        if k < 12 and number % 3:
            parts.append(f"<figure><img src='/{number}-{k}.jpg' width=640 alt='{sentence(random_of, 6)}'></figure>")
    head = f"<head><title>{sentence(random_of, 5)}</title><script>{script}</script></head>"
    return f"<!doctype html><html lang=en>{head}<body><ul>{menu}</ul>{''.join(parts)}</body></html>".encode()


def sentence(random_of: random.Random, words: int) -> str:
    """Words that describe something."""
    return " ".join(f"a {random_of.choice(KINDS)} {random_of.choice(THINGS)} by the" for _ in range(max(1, words // 5)))


if __name__ == "__main__":
    main()
