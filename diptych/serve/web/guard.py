"""What every request passes before a route sees it: the Host header, the site that asks, the token, the size of its
body; and what every answer carries."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych.serve.settings import ServeSettings
from diptych.serve.web.body import Bodies, BodyReader, too_large
from diptych.serve.web.deadline import DEADLINE, deadline_of
from diptych.serve.web.metrics import Metrics
from diptych.serve.web.problems import RequestProblem, problem_response

OPEN_ROUTES = ("/v1/health", "/v1/ready", "/v1/session")  # need no token
WITH_PICTURES = ("/v1/embed", "/v1/embeddings", "/v1/search", "/v1/classify", "/v1/locate", "/v1/uploads")
OTHER_BODY_BYTES, OPEN_BODY_BYTES = 4 * 2**20, 8192  # of routes that take no pictures, and of those without a token
BODIES = 8  # of the largest size may be held at a time
_SAFE = {"GET", "HEAD"}
_API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Prefer, Range",
    "Access-Control-Max-Age": "600",
}
_log = logging.getLogger("diptych.serve")
_access_log = logging.getLogger("diptych.access")


class Guard:
    """The outermost application. An answer that it gives itself is a problem document."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics, stopping: threading.Event):
        self._app, self._settings, self._metrics, self._stopping = app, settings, metrics, stopping
        self._bodies = Bodies(BODIES * settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, cors_headers(headers, self._settings), self._stopping)
        prefer, longest_s, body = headers.get("prefer", ""), self._settings.deadline_s, None
        reset = DEADLINE.set(deadline_of(prefer, longest_s))
        self._metrics.in_flight += 1
        try:
            if is_preflight(scope["method"], headers, self._settings):
                await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, answer.send)
                return
            limit = self._check(scope, headers, get_route_path(scope))
            body = BodyReader(receive, self._bodies, limit, prefer, longest_s)
            await self._app(scope, body.read, answer.send)
        except RequestProblem as problem:
            await self._refuse(problem, scope, receive, answer)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.status and not answer.is_complete:  # the connection is cut, so that nobody takes it for whole
                raise
            if not answer.status:
                await self._refuse(RuntimeError(), scope, receive, answer)
        finally:
            if body is not None:
                body.close()
            DEADLINE.reset(reset)
            self._metrics.in_flight -= 1
            self._metrics.answered(scope, answer.status, time.perf_counter() - answer.started)
            if self._settings.access_log:
                _write_access(scope, answer)

    def body_limit(self, path: str) -> int:
        """The most bytes of a request's body."""
        if path in OPEN_ROUTES:  # whoever has no token may ask these
            return OPEN_BODY_BYTES
        if path.startswith(WITH_PICTURES):
            return self._settings.max_body_bytes
        return min(OTHER_BODY_BYTES, self._settings.max_body_bytes)

    def _check(self, scope: Scope, headers: Headers, path: str) -> int:
        """The most bytes of its body. Raises RequestProblem."""
        check_host(headers, self._settings)
        check_origin(scope["method"], path, headers, self._settings)
        is_of_page = not path.startswith("/v1/")  # whose files are everybody's: the page itself asks for the token
        if self._settings.token is not None and path not in OPEN_ROUTES and not is_of_page:
            check_token(headers, self._settings)
        limit, length = self.body_limit(path), headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise RequestProblem(400, "RequestError", "the Content-Length is not a number.")
        if len(length) > 15 or int(length) > limit:
            raise too_large(limit)
        return limit

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, answer: _Answer) -> None:
        await problem_response(error, scope["path"])(scope, receive, answer.send)


def check_host(headers: Headers, settings: ServeSettings) -> None:
    """Raises RequestProblem (421) where the request was meant for another name, as after DNS rebinding."""
    hosts = headers.getlist("host")
    host = hosts[0] if len(hosts) == 1 else ""
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    if not settings.answers_to(name):
        raise RequestProblem(
            421, "HostError", f"this server is not called {host[:100]!r}.",
            remedy="Use localhost, or start the server with --allow-host and this name.",
        )  # fmt: skip


def check_origin(method: str, path: str, headers: Headers, settings: ServeSettings) -> None:
    """Raises RequestProblem (403) where the page of another site asks. Programs send neither header."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and (origin in settings.cors or _is_own(origin, headers.get("host", ""))):
        return
    is_visit = method in _SAFE and headers.get("sec-fetch-mode") == "navigate" and not path.startswith("/v1/")
    if origin is None and (site in (None, "same-origin", "none") or is_visit):
        return
    raise RequestProblem(
        403, "OriginError", f"a page of {(origin or 'another site')[:100]} may not ask this server.",
        remedy="Start the server with --cors and a site to allow it.",
    )  # fmt: skip


def is_preflight(method: str, headers: Headers, settings: ServeSettings) -> bool:
    """Whether a browser asks what the page of a named site may send."""
    return method == "OPTIONS" and headers.get("origin", "") in settings.cors


def cors_headers(headers: Headers, settings: ServeSettings) -> dict[str, str]:
    """What lets the page of a named site read the answer; nothing for others. Cookies are not among it."""
    origin = headers.get("origin", "")
    if origin not in settings.cors:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Cross-Origin-Resource-Policy": "cross-origin"}


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of this server sends this Origin: same name and port as the Host."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() != ""


def check_token(headers: Headers, settings: ServeSettings) -> None:
    """Raises RequestProblem (401) without the token, as a bearer or by the page's cookie."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_token(given.strip(), settings):
        return
    if is_session(_cookie(headers, cookie_name(settings)), settings):
        return
    raise RequestProblem(
        401, "TokenError", "this server needs a token.",
        remedy="Send it as `Authorization: Bearer TOKEN`, or open the page with ?token=TOKEN.",
        headers={"WWW-Authenticate": 'Bearer realm="diptych"'},
    )  # fmt: skip


def is_token(given: str, settings: ServeSettings) -> bool:
    """Whether this is the token, compared in constant time."""
    wanted = settings.token or ""
    return hmac.compare_digest(_digest(given), _digest(wanted)) and bool(wanted)


def session_of(settings: ServeSettings) -> str:
    """The value of the page's cookie: it proves the token and does not hold it."""
    return hmac.new(_digest(settings.token or ""), b"diptych session 1", hashlib.sha256).hexdigest()


def is_session(given: str, settings: ServeSettings) -> bool:
    """Whether this is the page's cookie, compared in constant time."""
    return hmac.compare_digest(_digest(given), _digest(session_of(settings)))


def cookie_name(settings: ServeSettings) -> str:
    """By the port, because browsers send a cookie to every port of a machine."""
    return f"diptych_{settings.port}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _cookie(headers: Headers, name: str) -> str:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", "")[:8192])
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


class _Answer:
    """Sends an answer with the headers that all have, and notes what was sent."""

    def __init__(self, send: Send, more: Mapping[str, str], stopping: threading.Event):
        self._send, self._more, self._stopping = send, more, stopping
        self.status, self.size, self.started = 0, 0, time.perf_counter()
        self.is_complete = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        self.size += len(message.get("body", b""))
        await self._send(message)
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in {**_HEADERS, **self._more}.items():
            headers[name] = value
        if self._stopping.is_set():  # so that no client sends its next request into a connection that ends
            headers["Connection"] = "close"
        headers.setdefault("Content-Security-Policy", _API_POLICY)
        headers.setdefault("Cache-Control", "no-store")


def _write_access(scope: Scope, answer: _Answer) -> None:
    """One line of JSON in the log "diptych.access". The query is left out: it may hold a token, and says what was
    searched for."""
    client = scope.get("client") or ("", 0)
    line: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "client": client[0], "method": scope["method"],
        "path": scope["path"], "status": answer.status, "bytes": answer.size,
        "ms": round((time.perf_counter() - answer.started) * 1000, 1),
    }  # fmt: skip
    _access_log.info(json.dumps(line))
