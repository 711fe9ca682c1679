"""Pictures from words, as they come out of the noise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from diptych.serve.model.drawings import DrawingUnderWay, WantedDrawing
from diptych.serve.service import Served, Service
from diptych.serve.web.problems import RequestProblem, problem_of
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import DrawingBody

router = APIRouter(route_class=Route, tags=["drawing"])
_LOOK_S = 0.25  # how often it is asked whether somebody still waits


@router.post("/drawings", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
async def draw(body: DrawingBody, request: Request, served: Served) -> StreamingResponse:
    """Draw pictures, as server-sent events: the pictures on the way, then the pictures with their scores."""
    drawing = served.drawings.begin(WantedDrawing(**body.model_dump()))
    try:
        first = await _next(drawing, request, served)
    except BaseException:
        drawing.is_cancelled.set()
        raise
    if isinstance(first, Exception):
        raise first
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(_told(first, drawing, request, served), media_type="text/event-stream", headers=headers)


async def _next(drawing: DrawingUnderWay, request: Request, served: Service) -> tuple[str, dict[str, Any]] | Exception:
    """The next event. Raises ClientDisconnect if nobody waits for it, and RequestProblem (503) if the server ends."""
    while True:
        if served.stopping.is_set():
            raise RequestProblem(503, "NotReadyError", "the server is stopping.", headers={"Retry-After": "1"})
        if await request.is_disconnected():
            raise ClientDisconnect
        try:
            return await asyncio.wait_for(drawing.events.get(), _LOOK_S)
        except TimeoutError:
            continue


async def _told(
    event: tuple[str, dict[str, Any]] | Exception, drawing: DrawingUnderWay, request: Request, served: Service
) -> AsyncIterator[str]:
    try:
        while not isinstance(event, Exception):
            name, data = event
            yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
            if name == "drawn":
                return
            event = await _next(drawing, request, served)
        yield f"event: problem\ndata: {json.dumps(problem_of(event)[0])}\n\n"
    except ClientDisconnect:
        return
    except RequestProblem as problem:
        yield f"event: problem\ndata: {json.dumps(problem_of(problem)[0])}\n\n"
    finally:
        drawing.is_cancelled.set()
