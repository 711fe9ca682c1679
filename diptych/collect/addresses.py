"""Addresses of http and https in one spelling, so that each is asked for once, and robots.txt is compared with what the
host sees."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

from diptych.collect.host_names import ascii_host

MAX_LENGTH, MAX_PICTURE_LENGTH = 2_000, 8_192  # characters; a picture's address may be signed
PORTS = {"http": 80, "https": 443}
_STRIPPED = dict.fromkeys(map(ord, "\t\r\n"))
_IN_PATH, _IN_QUERY = "/%:@!$&'()*+,;=~", "/?%:@!$&'()*+,;=~[]"
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SESSION_IN_PATH = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/;?]*", re.I)
_SESSIONS = {"phpsessid", "jsessionid", "aspsessionid", "sessionid", "session_id", "cfid", "cftoken", "zenid", "oscsid"}
_PERHAPS_SESSIONS = {"sid", "session", "s", "sess"}
_LONG_ID = re.compile(r"(?=.*\d)(?=.*[a-z])[0-9a-z]{16,}", re.I)
_TRACKING = re.compile(r"utm_\w+|gclid|fbclid|msclkid|yclid|mc_[ce]id|igshid|_ga", re.I)


def normalized(address: str, base: str = "", *, is_page: bool = True) -> str | None:
    """The address as it is requested: absolute, without fragment, user, default port, dot segments and needless
    escapes; of pages without session ids and tracking parameters as well (a picture's query may be signed). None for
    what is no http(s) address, or longer than MAX_LENGTH, of pictures MAX_PICTURE_LENGTH."""
    try:
        parts = urlsplit(urljoin(base, address.translate(_STRIPPED).strip(" \f").replace("\\", "/")))
        scheme, port = parts.scheme.lower(), parts.port
        host = _host(parts)
    except (ValueError, UnicodeError):
        return None
    if scheme not in PORTS or not host:
        return None
    path = _without_dots(_escaped(parts.path or "/", _IN_PATH))
    query = _escaped(parts.query, _IN_QUERY)
    if is_page:
        path, query = _SESSION_IN_PATH.sub("", path), _without_sessions(query)
    netloc = host if port in (None, PORTS[scheme]) else f"{host}:{port}"
    found = urlunsplit((scheme, netloc, path, query, ""))
    return found if len(found) <= (MAX_LENGTH if is_page else MAX_PICTURE_LENGTH) else None


def netloc_of(url: str) -> str:
    """Host and port of a normalized address, the port only if it is not the usual one."""
    return origin_of(url).partition("//")[2]


def host_of(url: str) -> str:
    """The host of a normalized address, without its port; of IPv6 without brackets."""
    netloc = netloc_of(url)
    return netloc[1 : netloc.index("]")] if netloc.startswith("[") else netloc.partition(":")[0]


def origin_of(url: str) -> str:
    """Scheme, host and port of a normalized address (RFC 6454)."""
    return url[: url.index("/", url.index("//") + 2)]


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    if ":" in host:
        return f"[{host}]"
    host = ascii_host(host)
    if not re.fullmatch(r"[a-z0-9._-]+", host):
        raise ValueError(host)
    return host


def _escaped(text: str, safe: str) -> str:
    """Escapes in capitals, none where none is needed, and one wherever one is."""

    def one(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%25"
        character = unquote_to_bytes(match[0]).decode("latin-1")
        return character if character in _UNRESERVED else match[0].upper()

    return quote(_ESCAPE.sub(one, text), safe=safe)


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4."""
    out: list[str] = []
    parts = path.split("/")[1:]
    for number, part in enumerate(parts):
        if part in (".", ".."):
            if part == ".." and out:
                out.pop()
            if number == len(parts) - 1:
                out.append("")
        else:
            out.append(part)
    return "/" + "/".join(out)


def _without_sessions(query: str) -> str:
    return "&".join(part for part in query.split("&") if part and not _is_session(*part.partition("=")[::2]))


def _is_session(name: str, value: str) -> bool:
    name = name.lower()
    if name in _PERHAPS_SESSIONS:
        return bool(_LONG_ID.fullmatch(value))
    return name in _SESSIONS or name.startswith("aspsessionid") or bool(_TRACKING.fullmatch(name))
