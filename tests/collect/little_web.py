"""A little web on loopback, some hosts of which are hostile, and a log of what was asked of it."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

SLOW_S = 0.3
Site = Callable[["Web", "Handler", str, str], "Reply | None"]


class Reply(NamedTuple):
    """An answer: its body, type, status and further headers."""

    body: bytes | str = b""
    kind: str = "text/html; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """A request: when (seconds of `time.monotonic`), of which site, for what, and by whom."""

    time_s: float
    site: str
    path: str
    agent: str
    contact: str


@dataclass
class Web:
    """The sites that are served: each has an address of its own (127.0.0.x), so that it is a host of its own."""

    log: list[Asked] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    came: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.log) >= count, 300.0), f"{len(self.log)} of {count} requests"

    def url(self, site: str, path: str = "/") -> str:
        """The address of a path of a site."""
        return f"http://{self.hosts[site]}{path}"

    def paths(self, site: str) -> list[str]:
        """What was asked of a site, in order."""
        return [asked.path for asked in self.log if asked.site == site]


class Handler(BaseHTTPRequestHandler):
    """Answers as its site says, and logs before it answers."""

    protocol_version = "HTTP/1.1"
    web: Web
    site: str
    answer: Site

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.web.log.append(Asked(time.monotonic(), self.site, self.path, self.headers.get("User-Agent", ""),
                                  self.headers.get("Cookie", "")))  # fmt: skip
        with self.web.came:
            self.web.came.notify_all()
        key = self.site, self.path
        self.web.counts[key] = self.web.counts.get(key, 0) + 1
        reply = type(self).answer(self.web, self, address.path, address.query)
        if reply is None:  # it has answered by itself
            self.close_connection = True
            return
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "id=1")
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, kind: str, length: str, block: bytes, pause_s: float) -> None:
        """A body without end, in blocks with pauses."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header(*length.split(": "))
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.web.closing.wait(pause_s):
                self.wfile.write(block)

    def log_message(self, *_: object) -> None:
        """The log is the web's."""


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def handle_error(self, *_: object) -> None:
        """A crawl that is killed hangs up."""


@contextlib.contextmanager
def little_web(sites: dict[str, Site]) -> Iterator[Web]:
    """Serve the sites until the block ends."""
    web, servers = Web(), []
    for number, (name, answer) in enumerate(sites.items(), 2):
        kind = type("SiteHandler", (Handler,), {"web": web, "site": name, "answer": staticmethod(answer)})
        server = _Server((f"127.0.0.{number}", 0), kind)
        web.hosts[name] = f"127.0.0.{number}:{server.server_address[1]}"
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield web
    finally:
        web.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def has_many_loopback_addresses() -> bool:
    """Whether 127.0.0.2 is this machine, as on Linux."""
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return True
    return False


def picture(number: int) -> Reply:
    """A picture that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 255, (9, 12, 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).resize((96, 72)).save(file, "JPEG")
        return Reply(file.getvalue(), "image/jpeg")


def page(*parts: str, title: str = "A page", head: str = "") -> str:
    """The HTML of a page."""
    return f"<!DOCTYPE html><html lang=en><head><title>{title}</title>{head}</head><body>{''.join(parts)}</body></html>"


def link(path: str) -> str:
    """A link."""
    return f'<a href="{path}">more</a> '


def image(path: str, caption: str) -> str:
    """A picture with a caption."""
    return f'<figure><img src="{path}" alt="{caption}"></figure>'


NOT_FOUND = Reply("not here", "text/plain", 404)


def robots(text: str, **_: object) -> Reply:
    """A robots.txt."""
    return Reply(text.encode(), "text/plain")


def tree(prefix: str, number: int, count: int) -> str:
    """Links to two further pages of `count`, so that all are reached from the first within few links."""
    return "".join(link(f"{prefix}{child}") for child in (2 * number + 1, 2 * number + 2) if child < count)


# --- the sites

GALLERY, SHOP, NOTES, BUSY, MEMBERS = 400, 250, 120, 40, 150  # pages
SMALL_GALLERY = 120


def gallery(web: Web, asked: Handler, path: str, query: str, pages: int = GALLERY) -> Reply | None:
    """Many pages with pictures; a byte-order mark before its rules; pictures under several addresses."""
    if path == "/robots.txt":
        return robots("\ufeffUser-agent: *\nDisallow: /private/\nCrawl-delay: 0.02\n")
    if path == "/":
        return Reply(
            page(link("/p/0"), link("/private/a"), link("/./x/../private/b"), link("/%70rivate/c"), link("/r/private"),
                 link("/loop/a"), link("/r/endless/0"), link("/r/p"), image("/private/x.jpg", "A forbidden dog"),
                 image("/r/picture", "A dog behind a redirect"),
                 image("http://169.254.169.254/a.jpg", "A dog in this network"), link("http://10.9.8.7/"),
                 *(link(web.url(site)) for site in web.hosts))
        )  # fmt: skip
    if path.startswith("/p/"):
        number = int(path[3:])
        shown = [image(f"/i/{number % 100}.jpg", f"A dog number {number % 100} runs over the snow")]
        shown += [image(f"/copies/{number}.jpg", f"The same cat number {number % 10} sits on a wall")] * (number < 40)
        return Reply(page(*shown, tree("/p/", number, pages), title=f"Page {number}"))
    if path.startswith("/i/"):
        return picture(int(path[3:-4]))
    if path.startswith("/copies/"):
        return picture(1000 + int(path[8:-4]) % 10)
    redirects = {"/r/private": "/private/behind", "/r/p": "/p/7", "/loop/a": "/loop/b", "/loop/b": "/loop/a",
                 "/r/picture": "/private/y.jpg"}  # fmt: skip
    if path.startswith("/r/endless/"):
        redirects[path] = f"/r/endless/{int(path[11:]) + 1}"
    to = redirects.get(path)
    return Reply(status=302, headers=(("Location", to),)) if to else NOT_FOUND


def small_gallery(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """The gallery with fewer pages."""
    return gallery(web, asked, path, query, SMALL_GALLERY)


def shop(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Wildcards in its rules, session ids in its links, one boilerplate picture on all pages."""
    if path == "/robots.txt":
        return robots("User-agent: otherbot\nDisallow: /\n\nUser-agent: *\nDisallow: /*.php$\nDisallow: /*?*cart=\n")
    number = int(path[3:]) if path.startswith("/s/") else 0
    if path == "/" or path.startswith("/s/"):
        links = (f"/s/{child}?PHPSESSID={len(web.log)}" for child in (2 * number + 1, 2 * number + 2) if child < SHOP)
        bad = link("/buy.php") + link(f"/s/{number}?cart=1") + link("/a/b?x=1&cart=2")
        return Reply(page(image("/logo.jpg", "A red car in front of a house"), *map(link, links), bad, f"<p>{number}"))
    return picture(2000) if path == "/logo.jpg" else NOT_FOUND


def calendar(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Months without end, and a folder that contains itself."""
    if path == "/robots.txt":
        return NOT_FOUND
    month = int(path.split("/")[2]) if path.startswith("/month/") else 0
    return Reply(page(f"<p>Month {month}</p>", link(f"/month/{month + 1}"), link(f"{path.rstrip('/')}/deeper/")))


def notes(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Reservations against training, in each way."""
    if path == "/robots.txt":
        return robots("User-agent: *\nAllow: /")
    if path == "/.well-known/tdmrep.json":
        return Reply('[{"location": "/reserved/*", "tdm-reservation": 1}]', "application/json")
    number = int(path[3:]) if path.startswith("/n/") else 0
    shown = image(f"/i/{number}.jpg", f"A boat number {number} on a calm lake")
    if path == "/":
        reserved = "".join(map(link, ("/header/1", "/meta/1", "/tdm/1", "/reserved/1")))
        more = '<a rel="nofollow" href="/nofollow">no</a>' + link("/page-nofollow")
        return Reply(page(link("/n/0"), reserved, more, image("/reserved/a.jpg", "A reserved boat on a calm lake"),
                          image("/noai.jpg", "A boat whose header says no")))  # fmt: skip
    if path.startswith("/n/"):
        return Reply(page(shown, tree("/n/", number, NOTES), f"<p>{number}"))
    if path.startswith("/i/"):
        return picture(3000 + int(path[3:-4]))
    hidden = page(image("/never.jpg", "A boat that is never asked for"), link("/never"))
    if path == "/header/1":
        return Reply(hidden, headers=(("X-Robots-Tag", "noai"),))
    if path == "/meta/1":
        return Reply(
            page(image("/never.jpg", "A boat"), link("/never"), head='<meta name="robots" content="noimageai">')
        )
    if path == "/tdm/1":
        return Reply(hidden, headers=(("TDM-Reservation", "1"),))
    if path == "/page-nofollow":
        return Reply(page(link("/never"), head='<meta name="robots" content="nofollow">'))
    if path == "/noai.jpg":
        return picture(3999)._replace(headers=(("X-Robots-Tag", "noai"),))
    return NOT_FOUND


def busy(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Says at first that it is too much."""
    if path == "/robots.txt":
        return robots("")
    if web.counts["busy", path] == 1 and path in ("/b/3", "/i/5.jpg"):
        return Reply("later", "text/plain", 429, (("Retry-After", "1"),))
    if path.startswith("/i/"):
        return picture(4000 + int(path[3:-4]))
    number = int(path[3:]) if path.startswith("/b/") else 0
    return Reply(page(image(f"/i/{number}.jpg", f"A bird number {number} in a tree"), tree("/b/", number, BUSY)))


def members(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Rules that come late, and forbid nearly all."""
    if path == "/robots.txt":
        time.sleep(SLOW_S)
        return robots("User-agent: *\nDisallow: /\nAllow: /$\nAllow: /open/\n")
    if path == "/":
        return Reply(page(link("/open/0"), *(link(f"/closed/{number}") for number in range(50))))
    if path.startswith("/open/"):
        number = int(path[6:])
        return Reply(page(tree("/open/", number, MEMBERS), link(f"/closed/{number}"), f"<p>{number}",
                          image(f"/closed/{number}.jpg", "A picture for members")))  # fmt: skip
    return NOT_FOUND


def trap(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Bodies without end, files without measure, and things that are not what they are called."""
    if path == "/robots.txt":
        return Reply(b"User-agent: *\nDisallow: /no\n" + b"# padding\n" * 200_000, "text/plain")
    if path == "/":
        paths = ("/drip", "/huge", "/endless", "/video", "/cut", "/empty", "/deep", "/no/1", "/garbage")
        pictures = ("/drip.jpg", "/html.jpg", "/huge.jpg", "/damaged.jpg", "/cut.jpg", "/fine.jpg")
        return Reply(page(*map(link, paths), *(image(each, f"A horse called {each[1:-4]} jumps") for each in pictures)))
    if path in ("/drip", "/drip.jpg"):
        return asked.drip("image/jpeg" if "." in path else "text/html", "Content-Length: 100000", b"x", 0.05)
    if path in ("/huge", "/huge.jpg"):
        return asked.drip(
            "image/jpeg" if "." in path else "text/html", "Content-Length: 9000000000", b"x" * 65536, 0.01
        )
    if path == "/endless":
        return asked.drip("text/html", "Transfer-Encoding: chunked", b"10000\r\n" + b"x" * 65536 + b"\r\n", 0.0)
    if path == "/video":
        return asked.drip("video/mp4", "Content-Length: 9000000000", b"x" * 65536, 0.01)
    if path in ("/cut", "/cut.jpg"):
        asked.send_response(200)
        asked.send_header("Content-Type", "image/jpeg" if "." in path else "text/html")
        asked.send_header("Content-Length", "100000")
        asked.end_headers()
        asked.wfile.write(b"<p>only this")
        return None
    bodies = {"/empty": "", "/deep": "<div>" * 50_000 + link("/after-deep"), "/garbage": "\0\x01<a href=\x02>" * 999,
              "/after-deep": page("<p>end")}  # fmt: skip
    if path in bodies:
        return Reply(bodies[path])
    if path == "/html.jpg":
        return Reply(page("no picture"))
    if path == "/damaged.jpg":
        return Reply(picture(5000).body[:500], "image/jpeg")
    return picture(5001) if path == "/fine.jpg" else NOT_FOUND


def broken(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Cannot say what it permits."""
    return Reply("broken", "text/plain", 500)


def guarded(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
    """Shows its rules to nobody."""
    return Reply("no", "text/plain", 403)


SITES: dict[str, Site] = {
    "gallery": gallery, "shop": shop, "calendar": calendar, "notes": notes, "busy": busy, "members": members,
    "trap": trap, "broken": broken, "guarded": guarded,
}  # fmt: skip
