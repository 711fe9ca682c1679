#!/usr/bin/env bash
# In FastAPI the route of a request lacks the prefix that its router was included with; that of a WebSocket has it.
# FastAPI 0.165.0, Starlette 1.10.0, httpx2 2.16.2.
# Expected: scope["route"].path is the template of the whole path, as in the OpenAPI document, so that it names the
# request in metrics and logs without one name per picture.
# Seen: "/{number}" for both /pictures/{number} and /texts/{number}: their counts fall together. A prefix given to
# APIRouter(prefix=...) is there, and so are both in a WebSocket's route. FastAPI 0.130.0 has both in both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 starlette==1.10.0 httpx2==2.16.2
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import sys

from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient


def route(request: Request):
    return request.scope["route"].path


async def live(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(websocket.scope["route"].path)
    await websocket.close()


application = FastAPI()
for included, own in (("/pictures", ""), ("/texts", ""), ("", "/films")):
    router = APIRouter(prefix=own)
    router.add_api_route("/{number}", route)
    router.add_api_websocket_route("/{number}/live", live)
    application.include_router(router, prefix=included)
client = TestClient(application)
templates = list(application.openapi()["paths"])
routes = [client.get(template.format(number=7)).json() for template in templates]
sockets = []
for template in templates:
    with client.websocket_connect(template.format(number=7) + "/live") as session:
        sockets.append(session.receive_json())
print("OpenAPI:", templates, "routes:", routes, "of WebSockets:", sockets)
assert templates == ["/pictures/{number}", "/texts/{number}", "/films/{number}"]
assert sockets == [f"{template}/live" for template in templates]
if routes == templates:
    sys.exit("changed: the route has the whole path")
assert routes == ["/{number}", "/{number}", "/films/{number}"]
PROGRAM
