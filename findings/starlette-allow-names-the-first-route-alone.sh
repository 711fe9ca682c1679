#!/usr/bin/env bash
# A 405 of Starlette, and so of FastAPI, names in Allow the methods of one route where several share the path.
# starlette 1.10.0, fastapi 0.165.0, httpx2 2.9.1.
# Expected: for a path that has GET, PUT and DELETE, each with a function of its own as FastAPI's decorators make them,
# PATCH is answered with 405 and "Allow: DELETE, GET, PUT" (RFC 9110, section 10.2.1: the methods that the resource
# supports).
# Seen: "Allow: GET", those of the first route alone; a client or a test of the API's document that believes it takes PUT
# and DELETE for missing. The document of the same application lists all three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet starlette==1.10.0 fastapi==0.165.0 httpx2==2.9.1
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import sys

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

api = FastAPI()


@api.get("/album")
def read() -> str:
    return "read"


@api.put("/album")
def change() -> str:
    return "changed"


@api.delete("/album")
def remove() -> str:
    return "removed"


def answer(request):
    return PlainTextResponse("ok")


plain = Starlette(routes=[Route("/album", answer, methods=[each]) for each in ("PUT", "DELETE")])
assert set(api.openapi()["paths"]["/album"]) == {"get", "put", "delete"}
assert TestClient(api).delete("/album").status_code == 200
said = [TestClient(each).patch("/album") for each in (api, plain)]
assert [each.status_code for each in said] == [405, 405]
allowed = [each.headers["allow"] for each in said]
print("FastAPI:", allowed[0], "Starlette:", allowed[1])
if "DELETE" in allowed[0]:
    sys.exit("changed: Allow names the methods of every route")
assert allowed == ["GET", "PUT"]
PROGRAM
