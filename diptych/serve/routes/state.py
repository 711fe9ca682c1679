"""Operation: health, readiness, metrics, the state of the index, events, sessions, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from diptych import __version__
from diptych.serve.library.items import shown
from diptych.serve.library.overview.layouts import methods
from diptych.serve.routes.asking import answered
from diptych.serve.service import Library, OfLibrary, Served, Service
from diptych.serve.settings import THUMBNAIL_WIDTHS
from diptych.serve.web.answers import IndexAnswer
from diptych.serve.web.deadline import DEADLINE, deadline_of
from diptych.serve.web.guard import cookie_name, is_token, session_of
from diptych.serve.web.metrics import MEDIA_TYPE
from diptych.serve.web.problems import RequestProblem, busy, known_errors
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import SessionBody

router = APIRouter(route_class=Route, tags=["operation"])
MOST_STREAMS = 100  # each asks for the state once a second
_EVENT_S, _HEARTBEAT_S = 0.2, 15.0
_REFRESH_S = 1.0  # the catalog is asked at most so often by a stream


@router.get("/health", response_model=dict[str, str])
async def health() -> Response:
    """Whether the process runs."""
    return answered({"status": "ok"})


@router.get("/ready", response_model=dict[str, str], responses={503: {"description": "The model is not there yet."}})
async def ready(served: Served) -> Response:
    """Whether requests are answered."""
    if not served.is_ready or served.stopping.is_set():
        raise RequestProblem(503, "NotReadyError", "the server is starting or stopping.", headers={"Retry-After": "1"})
    return answered({"status": "ready"})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(served: Served) -> Response:
    """Counters in Prometheus's text format."""
    queue = served.model.queue
    gauges = {f'diptych_queue_inputs{{kind="{kind}"}}': float(count) for kind, count in queue.waiting().items()}
    gauges["diptych_pictures_to_decode"] = float(served.decoders.waiting)
    counters: dict[str, float] = {"diptych_engine_seconds_total": queue.seconds}
    counters |= {f'diptych_embedded_total{{kind="{kind}"}}': count for kind, count in queue.embedded.items()}
    counters |= {f'diptych_batches_total{{kind="{kind}"}}': count for kind, count in queue.batches.items()}
    if served.library is not None:
        counters["diptych_thumbnails_made_total"] = served.library.thumbnails.made
        counters["diptych_thumbnails_served_total"] = served.library.thumbnails.served
    return Response(served.metrics.text(gauges, counters), media_type=MEDIA_TYPE)


@router.get("/server", response_model=dict[str, Any])
async def server(served: Served) -> Response:
    """What this server offers."""
    settings = served.settings
    limits = {
        "body_bytes": settings.max_body_bytes, "texts": settings.max_texts, "pictures": settings.max_pictures,
        "deadline_s": settings.deadline_s,
    }  # fmt: skip
    return answered(
        {
            "version": __version__, "folder": served.library is not None,
            "pictures": served.shows_pictures, "originals": settings.originals,
            "urls": settings.allow_urls, "drawing": served.drawings.is_offered, "map_methods": methods(),
            "thumbnail_widths": list(THUMBNAIL_WIDTHS),
            "limits": limits,
        }
    )  # fmt: skip


@router.get("/errors", response_model=list[dict[str, str]])
async def errors() -> Response:
    """The errors that an answer may name."""
    return answered(known_errors())


@router.get("/index", response_model=IndexAnswer)
def index_state(served: Served, library: OfLibrary) -> Response:
    """The state of the index."""
    return answered(state(served, library))


def state(served: Service, library: Library) -> dict[str, Any]:
    """The state of the index, as docs/serve.md has it."""
    updating = library.updating.status()
    known = {"files": 0, "pictures": 0, "texts": 0, "failed": 0, "updated_at": None}
    with library.pool.reading() as index:
        if index.exists:
            counts = index.counts()._asdict()
            known = {name: counts[name] for name in ("files", "pictures", "texts", "failed")}
            updated = index.store.facts().get("updated_at")
            known["updated_at"] = updated if isinstance(updated, str) else None
        elif updating["state"] == "idle":
            updating["state"] = "absent"
        name, version = shown(index.display_name) or "/", index.store.state()
    if updating["state"] == "idle":  # another process may have changed it
        library.browsing.make_ahead(version)
    if served.is_warming_up and updating["state"] in ("idle", "absent"):
        updating["state"] = "warming"
    return {"name": name, "version": version, **known, "model": served.model_name, "dim": served.model.dim,
            **updating}  # fmt: skip


@router.get("/index/failures", response_model=dict[str, Any])
def failures(served: Served, library: OfLibrary, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> Response:
    """The files that could not be read."""
    with library.pool.reading() as index:
        found = index.failures() if index.exists else {}
    listed = [
        {"path": served.view.path(path), "reason": reason, "detail": message}
        for path, (reason, message) in sorted(found.items())[:limit]
    ]
    return answered({"failures": listed, "total": len(found)})


@router.post("/index/update", response_model=dict[str, str], status_code=202)
async def update(library: OfLibrary) -> Response:
    """Look for new and changed files now."""
    library.updating.request()
    return answered({"status": "accepted"}, 202)


@router.get("/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
async def events(request: Request, served: Served, library: OfLibrary) -> StreamingResponse:
    """The state of the index and of jobs, as server-sent events."""
    if served.streams >= MOST_STREAMS:
        raise busy(f"{MOST_STREAMS} streams of events are open.", retry_s=10)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(_events(request, served, library), media_type="text/event-stream", headers=headers)


async def _state_in_time(served: Service, library: Library) -> dict[str, Any]:
    """The state, within a request's time of its own: the stream has none."""
    DEADLINE.set(deadline_of("", served.settings.deadline_s))
    return await run_in_threadpool(state, served, library)


async def _events(request: Request, served: Service, library: Library) -> AsyncIterator[str]:
    served.streams += 1
    try:
        async for event in _said(request, served, library):
            yield event
    finally:
        served.streams -= 1


async def _said(request: Request, served: Service, library: Library) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    loop = asyncio.get_running_loop()
    asked = quiet = loop.time()
    known = await _state_in_time(served, library)
    while not served.stopping.is_set() and not await request.is_disconnected():
        now = loop.time()
        if now - asked >= _REFRESH_S:
            known, asked = await _state_in_time(served, library), now
        elif (updating := library.updating.status())["state"] != "idle":
            known = known | updating
        jobs = {f"job {job.name}": job.status() for job in library.jobs.running()}
        for name, what in {"index": known, **jobs}.items():
            if (text := json.dumps(what)) != sent.get(name):
                sent[name], quiet = text, now
                yield f"event: {name.partition(' ')[0]}\ndata: {text}\n\n"
        if now - quiet >= _HEARTBEAT_S:
            quiet = now
            yield ": still here\n\n"
        await asyncio.sleep(_EVENT_S)


@router.post("/session", status_code=204, response_class=Response)
async def begin_session(body: SessionBody, request: Request, served: Served) -> Response:
    """Exchange the token for the page's cookie."""
    if served.settings.token is not None and not is_token(body.token, served.settings):
        raise RequestProblem(401, "TokenError", "this is not the token.")
    answer = Response(status_code=204)
    set_cookie(answer, request, served)
    return answer


@router.delete("/session", status_code=204, response_class=Response)
async def end_session(served: Served) -> Response:
    """Forget the page's cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(served.settings), path="/", httponly=True, samesite="strict")
    return answer


def set_cookie(answer: Response, request: Request, served: Service) -> None:
    """The page's cookie: no script reads it, and no other site's page sends it."""
    is_secure = request.url.scheme == "https"
    answer.set_cookie(
        cookie_name(served.settings), session_of(served.settings), max_age=30 * 86400, path="/", secure=is_secure,
        httponly=True, samesite="strict",
    )  # fmt: skip
