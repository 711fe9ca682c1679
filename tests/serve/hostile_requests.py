"""One malformed request, made by chance: what is wrong with it, and what it may be answered with."""

import base64
import gzip
import json
import string
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.serve.pretended_internet import BOTH, CHANGING, METADATA, STEADY

JSON_ROUTES = (
    "/v1/search", "/v1/embed", "/v1/embeddings", "/v1/classify", "/v1/locate", "/v1/items/lookup", "/v1/albums",
    "/v1/exports", "/v1/session",
)  # fmt: skip
READ_ROUTES = (
    "/v1/items", "/v1/search", "/v1/facets", "/v1/similar/1", "/v1/thumbnails/1", "/v1/items/1", "/v1/items/1/heat",
    "/v1/items/1/original", "/v1/duplicates", "/v1/map", "/v1/albums", "/v1/index", "/v1/index/failures", "/v1/metrics",
    "/v1/models", "/v1/server", "/v1/errors", "/v1/openapi.json", "/", "/v1/health",
)  # fmt: skip
_FILTERS = ("since", "until", "box", "near", "camera", "path", "min_width", "min_megapixels", "orientation", "kind")
_LIST = (*_FILTERS, "limit", "offset", "cursor")
TAKEN = {  # what a route takes behind the `?`; the others take nothing
    "/v1/items": (*_LIST, "sort", "order"), "/v1/search": ("q", *_LIST, "diverse"), "/v1/facets": _FILTERS,
    "/v1/similar/1": (*_LIST, "diverse"), "/v1/thumbnails/1": ("width", "v"), "/v1/items/1/heat": ("phrase", "method"),
    "/v1/duplicates": ("threshold", "limit", "offset"), "/v1/map": ("method",), "/v1/index/failures": ("limit",),
    "/": ("token", "q"),
}  # fmt: skip
WITH_PARAMETER = (
    "/v1/items/{}", "/v1/thumbnails/{}", "/v1/similar/{}", "/v1/items/{}/original", "/v1/items/{}/heat?phrase=a",
    "/v1/albums/{}", "/v1/uploads/{}/thumbnail", "/v1/{}", "/{}", "/code/{}",
)  # fmt: skip
FIELDS = (
    "terms", "text", "vector", "data", "upload", "item", "url", "weight", "filters", "offset", "limit", "cursor", "ids",
    "texts", "pictures", "labels", "templates", "picture", "phrase", "method", "input", "messages", "modality", "name",
    "search", "items", "format", "token", "box", "near", "path", "since", "threshold", "diverse", "album", "columns",
    "encoding_format", "dimensions", "truncate", "multi_label", "role", "content", "type", "image_url",
)  # fmt: skip
ODD = (
    None, True, "", "a red house", "\x00", "%s%n", "../../etc/passwd", "file:///etc/passwd", "\ud800", "é" * 50,
    "data:image/png;base64,AAAA", "u_" + "0" * 24, "a_" + "0" * 16, "c_" + "0" * 16 + "_none", "' OR 1=1 --", "{}" * 50,
    0, -1, 1, 2**31, 2**53, 2**64, -(2**70), 10**400, 0.1, 1e308, float("nan"), float("inf"), -0.0, [], {},
)  # fmt: skip


class Hostile(NamedTuple):
    """A request's bytes; `is_cut` if it has no end, `is_forged` if it may not be answered whatever it asks for."""

    kind: str
    raw: bytes
    path: str
    has_token: bool
    is_cut: bool = False
    is_forged: bool = False


class _Stranger(NamedTuple):
    """Who asks: what chance says, and what is known of the place."""

    random: Random
    token: str
    canary: int
    file: Path


def hostile_request(random: Random, *, token: str, canary: int, file: Path) -> Hostile:
    """The request that this state of `random` makes. `canary` is the port of a server that it tries to have fetched,
    and of a public host that helps; `file` is one that it tries to read."""
    return random.choice(_MAKERS)(_Stranger(random, token, canary, file))


def _sent(
    by: _Stranger, method: str, target: str, body: bytes = b"", *, headers: dict[str, str] | None = None, **more: Any
) -> Hostile:  # fmt: skip
    """A request that is well formed but for what is said. One in ten has no token."""
    has_token = by.random.random() > 0.1
    known = {"Host": "localhost", "Connection": "close"}
    if has_token:
        known["Authorization"] = f"Bearer {by.token}"
    if body or method not in ("GET", "HEAD"):
        known |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
    known |= headers or {}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in known.items()), "", ""]
    raw = "\r\n".join(lines).encode("latin-1", "replace") + body
    kind = more.pop("kind", "body")
    return Hostile(kind, raw, target.partition("?")[0], has_token, **more)


def _body(by: _Stranger) -> Hostile:
    """Fields of any type, in any place."""
    content = _json(_object(by))
    if by.random.random() < 0.3:
        content = _damaged(by, content)
    return _sent(by, by.random.choice(("POST", "POST", "PATCH", "PUT")), by.random.choice(JSON_ROUTES), content)


def _object(by: _Stranger) -> dict[str, Any]:
    return {by.random.choice(FIELDS): _value(by, 3) for _ in range(by.random.randint(0, 4))}


def _value(by: _Stranger, depth: int) -> Any:
    choice = by.random.random()
    if not depth or choice < 0.5:
        return by.random.choice(ODD)
    if choice < 0.75:
        return [_value(by, depth - 1) for _ in range(by.random.randint(0, 3))]
    return {by.random.choice(FIELDS): _value(by, depth - 1) for _ in range(by.random.randint(0, 3))}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _damaged(by: _Stranger, content: bytes) -> bytes:
    damaged = bytearray(content or b"{}")
    for _ in range(by.random.randint(1, 4)):
        damaged[by.random.randrange(len(damaged))] = by.random.randrange(256)
    return bytes(damaged[: by.random.randint(1, len(damaged))])


def _deep(by: _Stranger) -> Hostile:
    """JSON that is deep, long, or has numbers and names without end."""
    count = by.random.randint(50, 20_000)
    content = by.random.choice(
        (
            b"[" * count + b"]" * count,
            b'{"terms":' * count,
            b'{"texts": [' + b'"a",' * count + b'"a"]}',
            b'{"terms": [{"text": "a", "weight": ' + b"9" * count + b"}]}",
            b'{"terms": [{"text": "a", "weight": 1e' + b"9" * (count % 50) + b"}]}",
            b'{"' + b"a" * count + b'": 1}',
            b'{"texts": ["' + b"a " * count + b'"]}',
            b'{"labels": {' + b",".join(b'"%d": ["x"]' % number for number in range(count // 10)) + b"}}",
        )
    )
    headers = {"Content-Encoding": "gzip"} if by.random.random() < 0.1 else {}
    content = gzip.compress(content) if headers else content
    return _sent(by, "POST", by.random.choice(JSON_ROUTES), content, headers=headers, kind="deep")


def _parameter(by: _Stranger) -> Hostile:
    """Paths that lead elsewhere, in place of an id."""
    up, file = by.random.choice(("../", "..%2f", "..%5c", "%2e%2e/", "..%252f", "....//", ".%00./")), str(by.file)
    name = by.random.choice(
        (
            up * by.random.randint(1, 9) + file.lstrip("/"), quote(file, safe=""), f"file://{file}", file,
            "photos/link.txt", "..%c0%af..%c0%afetc/passwd", "%00", "1%00.jpg", "-1", "1e3", "9" * 400, "1.0", "+1",
            "%31", "1%20", "0x1", "٣", "\xff\xfe", "u_" + "0" * 24 + "%2e", "a_" + "g" * 16, "1;2", "1,2", "null", "*",
            "app.py", ".diptych/catalog",
        )
    )  # fmt: skip
    target = by.random.choice(WITH_PARAMETER).format(quote(name, safe="/%:\xff\xfe+;,*."))
    method = by.random.choice(("GET", "GET", "HEAD", "DELETE", "PATCH"))
    return _sent(by, method, target, kind="parameter")


def _query(by: _Stranger) -> Hostile:
    """Values that are none, and parameters that a route does not have."""
    pairs, route = [], by.random.choice(READ_ROUTES)
    names = TAKEN.get(route) if by.random.random() < 0.9 else None
    for _ in range(by.random.randint(1, 4)):
        value = by.random.choice(ODD)
        text = value if isinstance(value, str) else json.dumps(value)
        pairs.append(f"{by.random.choice(names or TAKEN['/v1/search'])}={quote(text, errors='surrogatepass')}")
    if by.random.random() < 0.2:
        pairs.append(by.random.choice(("q=%ff%fe", "q=%", "&&&=", "q[]=a", "limit=1&limit=2", "q=" + "a" * 30_000)))
    return _sent(by, "GET", f"{route}?{'&'.join(pairs)}", kind="query")


def _cursor(by: _Stranger) -> Hostile:
    """Cursors that the server never gave."""
    made = "c_" + "".join(by.random.choices("0123456789abcdef_", k=by.random.randint(0, 77)))
    search = {"terms": [{"text": "a"}], "cursor": made, "offset": by.random.choice((0, 5, 2**31))}
    if by.random.random() < 0.5:
        return _sent(by, "POST", "/v1/search", _json(search), kind="cursor")
    return _sent(by, "GET", f"/v1/items?cursor={made}&offset={by.random.randint(0, 10**6)}", kind="cursor")


def _wire(by: _Stranger) -> Hostile:
    """What is no HTTP, or nearly."""
    path = by.random.choice(READ_ROUTES)
    words = "".join(by.random.choices(string.ascii_uppercase, k=by.random.randint(1, 30)))
    choice = by.random.randrange(12)
    if choice == 0:
        return _sent(by, words, path, kind="method")
    if choice == 1:
        return _sent(by, "GET", path, headers={"X-Large": "a" * by.random.randint(10_000, 60_000)}, kind="headers")
    if choice == 2:
        many = {f"X-{number}": "a" for number in range(by.random.randint(100, 3000))}
        return _sent(by, "GET", path, headers=many, kind="headers")
    if choice == 3:
        length = by.random.choice(("-1", "1e3", "0x10", "9" * 30, "+5", "5, 6", " ", "٣"))
        return _sent(by, "POST", "/v1/embed", b"{}", headers={"Content-Length": length}, kind="length", is_cut=True)
    if choice == 4:
        headers = {"Transfer-Encoding": by.random.choice(("chunked", "gzip, chunked", "identity", "chunked, chunked"))}
        body = by.random.choice(
            (b"zz\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"f" * 30 + b"\r\n{}")
        )
        return _sent(by, "POST", "/v1/embed", body, headers=headers, kind="chunks", is_cut=True)
    if choice == 5:
        return _sent(by, "GET", f"http://169.254.169.254{path}", kind="target")
    if choice == 6:
        return _sent(by, "GET", path.lstrip("/") or "*", kind="target")
    if choice == 7:
        return _sent(by, "GET", f"{path}\r\nX-More: yes", kind="lines")
    if choice == 8:
        value = by.random.choice(
            ("bytes=0-", "bytes=-1", "bytes=5-1", "bytes=" + "0-1," * 900, "x", "bytes=9" + "9" * 30)
        )
        return _sent(by, "GET", "/v1/items/1/original", headers={"Range": value, "If-None-Match": "*"}, kind="range")
    raw = by.random.choice(
        (
            by.random.randbytes(by.random.randint(1, 400)), b"GET /v1/health\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /v1/items HTTP/1.1\r\n\r\n", b"\r\n" * 500,
            b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
            b"GET /v1/items HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
            b"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        )
    )  # fmt: skip
    return Hostile("bytes", raw, "/v1/items", has_token=False, is_cut=True)


def _form(by: _Stranger) -> Hostile:
    """Forms that are none."""
    boundary = by.random.choice(("x", "x" * 200, '"', "", "\xff", "x; boundary=y"))
    disposition = by.random.choice(
        (
            'form-data; name="picture"; filename="../../../../tmp/x.png"', 'form-data; name="file"; filename="x"', "x",
            'form-data; name="picture"; filename*=UTF-8\'\'%00', "form-data", 'form-data; name="' + "a" * 9000 + '"',
        )
    )  # fmt: skip
    part = f"--x\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + by.random.randbytes(by.random.randint(0, 99))
    body = (part + b"\r\n") * by.random.choice((1, 2, 80)) + by.random.choice((b"--x--\r\n", b"", b"--x"))
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return _sent(by, "POST", by.random.choice(("/v1/embed", "/v1/uploads")), body, headers=headers, kind="form")


def _bomb(by: _Stranger) -> Hostile:
    """A small file that says that it is a huge picture, or is none."""
    content = by.random.choice((_png, _gif, _bmp, _jpeg, _svg))(by.random.choice((20_000, 40_000, 65_000)))
    if by.random.random() < 0.3:
        content = _damaged(by, content)
    if by.random.random() < 0.5:
        return _sent(by, "POST", "/v1/uploads", content, headers={"Content-Type": "image/png"}, kind="bomb")
    return _with_picture(by, {"data": base64.b64encode(content).decode()}, "bomb")


def _with_picture(by: _Stranger, picture: dict[str, Any], kind: str) -> Hostile:
    """A request that has a picture in one of the places that take one."""
    address = picture.get("url") or f"data:;base64,{picture['data']}"
    route, body = by.random.choice(
        (
            ("/v1/embed", {"pictures": [picture]}), ("/v1/search", {"terms": [picture]}),
            ("/v1/locate", {"picture": picture, "phrase": "a house"}),
            ("/v1/classify", {"pictures": [picture], "labels": ["a", "b"]}),
            ("/v1/embeddings", {"modality": "image", "input": [address]}),
        )
    )  # fmt: skip
    return _sent(by, "POST", route, _json(body), kind=kind)


def _png(side: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(side * 3 + 1), 9)) + chunk(b"IEND", b"")


def _gif(side: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff," + struct.pack(
        "<HHHHB", 0, 0, side, side, 0
    ) + b"\x02\x02L\x01\0;"  # fmt: skip


def _bmp(side: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def _jpeg(side: int) -> bytes:
    return (
        b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", side, side) + b"\x03\x01\x22\0\x02\x11\1\x03\x11\1\xff\xd9"
    )


def _svg(side: int) -> bytes:
    return (
        f'<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg width="{side}" height="{side}">&a;</svg>'.encode()
    )


HERE = (
    "127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433",
    "127.1", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0", "127.0.0.2", "user:pw@127.0.0.1", "1.1.1.1@127.0.0.1",
    "[::]", METADATA, "[fe80::1]", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "172.16.0.1",
    "100.100.100.200", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255",
    "127.0.0.1%00.example", "１２７.0.0.1",
)  # fmt: skip


def _address(by: _Stranger) -> Hostile:
    """Addresses of this machine and its network, in the forms that hide them."""
    return _with_picture(by, {"url": _here(by)}, "address")


def _here(by: _Stranger) -> str:
    scheme = by.random.choice(("http", "http", "https", "HTTP", "file", "ftp", "gopher", "unix", "data"))
    ending = by.random.choice(("/x.png", "/latest/meta-data/", "", "/#", "/\r\nX: y", f"/?{'a' * 500}"))
    return f"{scheme}://{by.random.choice(HERE)}:{by.canary}{ending}"


def _redirect(by: _Stranger) -> Hostile:
    """A public host that leads to these addresses, at once or by others, or whose name does."""
    names = (STEADY, CHANGING, BOTH)
    url = by.random.choice(
        (_here(by), _here(by), f"http://{by.random.choice(names)}:{by.canary}/x.png", "//", "http://[")
    )
    for _ in range(by.random.choice((0, 1, 1, 1, 2, 9)) or int(url.startswith(("//", "http://[")))):
        url = f"http://{by.random.choice(names)}:{by.canary}/to/{quote(url, safe='')}"
    return _with_picture(by, {"url": url}, "redirect")


def _forged(by: _Stranger) -> Hostile:
    """Another site's page, a name that is made to lead here, or a token and cookie that are none."""
    path, choice = by.random.choice((*READ_ROUTES, *JSON_ROUTES)), by.random.randrange(4)
    if choice == 0:
        hosts = (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            "[::2]",
            "localhost@evil.example",
            "[",
        )
        return _sent(by, "GET", path, headers={"Host": by.random.choice(hosts)}, kind="host", is_forged=True)
    if choice == 1:
        sites = (
            "http://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://localhost:1",
            "file://",
            "\xff",
        )
        headers = {"Origin": by.random.choice(sites), "Sec-Fetch-Site": by.random.choice(("cross-site", "same-origin"))}
        return _sent(by, by.random.choice(("GET", "POST")), path, headers=headers, kind="origin", is_forged=True)
    given = by.random.choice(("", "Bearer", "Bearer x", f"Basic {by.token}", f"Bearer {by.token[:-1]}", "Bearer \xff"))
    cookie = by.random.choice(("diptych_8000=1", "diptych_0=" + "0" * 64, "a=" + "b;" * 4000, '="\\', "diptych_0=\xff"))
    sent = _sent(by, "GET", path, headers={"Authorization": given, "Cookie": cookie}, kind="token")
    return sent._replace(has_token=False)


def _cut(by: _Stranger) -> Hostile:
    """A request that ends early, or whose length is not what it says."""
    whole = _sent(by, "POST", by.random.choice(JSON_ROUTES), _json(_object(by)), kind="cut", is_cut=True)
    if by.random.random() < 0.3:
        return whole._replace(raw=whole.raw.replace(b"Content-Length: ", b"Content-Length: 9"))
    return whole._replace(raw=whole.raw[: by.random.randrange(1, len(whole.raw))])


_MAKERS = (
    _body, _body, _parameter, _query, _wire, _wire, _form, _bomb, _address, _redirect, _forged, _cut, _cursor, _deep,
)  # fmt: skip
