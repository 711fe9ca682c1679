"""The page: the files of serve/page/, read once by their own names, so that no path of a request reaches the disk."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from diptych.serve.routes.asking import has_tag
from diptych.serve.routes.state import set_cookie
from diptych.serve.service import Served
from diptych.serve.web.guard import PAGE_POLICY, is_token
from diptych.serve.web.problems import RequestProblem

_FOLDER = Path(__file__).parent.parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json", ".json": "application/json", ".woff2": "font/woff2",
}  # fmt: skip


class PageFile(NamedTuple):
    """The bytes of a file, its Content-Type and its ETag."""

    content: bytes
    kind: str
    tag: str


def page_files() -> dict[str, PageFile]:
    """The files of the page, by their path below its folder."""
    files = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
            files[path.relative_to(_FOLDER).as_posix()] = PageFile(content, _TYPES[path.suffix], tag)
    return files


def page_router() -> APIRouter:
    """A route for each file, and / for index.html."""
    router = APIRouter(include_in_schema=False)
    files = page_files()
    for name, known in files.items():
        router.add_api_route(f"/{name}", partial(_answer, known), response_class=Response)
    router.add_api_route("/", partial(_index, files["index.html"]), response_class=Response)
    return router


def _index(known: PageFile, request: Request, served: Served, token: str | None = None) -> Response:
    """The page. With ?token= it sets the cookie and leads to the same state of the page without it."""
    if token is not None and served.settings.token is not None:
        if not is_token(token, served.settings):
            raise RequestProblem(401, "TokenError", "this is not the token.")
        state = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
        answer = RedirectResponse(f"{served.view.prefix}/{state and '?'}{state}", 303)
        set_cookie(answer, request, served)
        return answer
    return _answer(known, request)


def _answer(known: PageFile, request: Request) -> Response:
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache", "ETag": known.tag}
    if has_tag(request, known.tag):
        return Response(status_code=304, headers=headers)
    return Response(known.content, media_type=known.kind, headers=headers)
