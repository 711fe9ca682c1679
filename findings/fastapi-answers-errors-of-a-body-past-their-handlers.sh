#!/usr/bin/env bash
# FastAPI answers 400 "There was an error parsing the body" for errors that have a handler, or are the server's own.
# FastAPI 0.165.0, Starlette 1.10.0, httpx 0.28.1.
# Expected: what a middleware raises while the body is received (a limit that was passed, a disk that is full) goes to the
# exception handler of the application that is registered for it, and without one it is a 500, as where the route reads
# the body by await request.json().
# Seen: where the route declares its body as a parameter, both are 400: the client is blamed, the handler is not asked and
# nothing is logged. Starlette's and FastAPI's HTTPException alone (and what is derived from it) passes through.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 starlette==1.10.0 httpx==0.28.1
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import asyncio
import sys

import fastapi
import httpx


class TooLong(Exception):
    pass


class Failing:
    """A middleware that fails while the body is received."""

    def __init__(self, app, error):
        self.app, self.error = app, error

    async def __call__(self, scope, receive, send):
        async def fail():
            raise self.error

        await self.app(scope, fail, send)


def statuses(error):
    application = fastapi.FastAPI()
    application.add_middleware(Failing, error=error)

    @application.exception_handler(TooLong)
    async def refuse(request, error):
        return fastapi.responses.JSONResponse({"detail": "too long"}, 413)

    @application.post("/declared")
    async def declared(caption: dict):
        return caption

    @application.post("/read")
    async def read(request: fastapi.Request):
        return await request.json()

    async def ask():
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.post(path, json={"text": "a cat"}) for path in ("/declared", "/read")]

    answers = asyncio.run(ask())
    print(repr(error), [(answer.status_code, answer.text) for answer in answers])
    return [answer.status_code for answer in answers]


named = statuses(fastapi.HTTPException(413, "too long"))
handled = statuses(TooLong("5,000 bytes"))
full = statuses(OSError(28, "No space left on device"))
assert named == [413, 413] and handled[1] == 413 and full[1] == 500
if handled[0] != 400 or full[0] != 400:
    sys.exit("changed: an error while the body is received goes to its handler")
PROGRAM
