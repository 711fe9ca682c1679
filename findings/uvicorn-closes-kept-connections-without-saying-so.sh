#!/usr/bin/env bash
# uvicorn that stops says "Connection: close" in its last answer with httptools and not with h11.
# uvicorn 0.54.0, h11 0.16.0, httptools 0.9.0.
# Expected: on SIGTERM the answer under way says that the connection ends after it, whichever parser is there: the
# client then opens another for its next request, and a balancer finds another server.
# Seen: both close the connection after that answer. httptools says so. With h11, which is what "pip install uvicorn"
# brings, the answer reads as one that keeps the connection, and the next POST on it is lost: BrokenPipeError or the
# like, which tells no client whether its request was carried out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import asyncio
import http.client
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn


async def application(scope, receive, send):
    await receive()
    if scope["path"] == "/last":
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(1)  # the server looks for signals ten times a second
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def post(connection, path):
    connection.request("POST", path, body=b"picture")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"ok")
    return response.getheader("Connection", "kept")


def talk(server, port):
    connection, said = http.client.HTTPConnection("127.0.0.1", port, timeout=30), []
    try:
        said += [post(connection, "/first"), post(connection, "/last")]
        said += ["would connect anew" if connection.sock is None else post(connection, "/next")]
        return said
    except OSError as error:
        return [*said, type(error).__name__]
    finally:
        server.should_exit = True
        connection.close()


def conversation(parser):
    server = uvicorn.Server(uvicorn.Config(application, http=parser, lifespan="off", log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as client:
        said = client.submit(talk, server, listener.getsockname()[1])
        server.run([listener])
        return said.result()


signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises the signal again once it has stopped
httptools, h11 = conversation("httptools"), conversation("h11")
print("httptools:", httptools, "h11:", h11)
assert httptools == ["kept", "close", "would connect anew"]
if h11 == httptools:
    sys.exit("changed: h11 says that the connection ends")
assert h11[:2] == ["kept", "kept"] and h11[2] in ("BrokenPipeError", "ConnectionResetError", "RemoteDisconnected")
PROGRAM
