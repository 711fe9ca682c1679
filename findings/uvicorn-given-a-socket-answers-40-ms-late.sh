#!/usr/bin/env bash
# uvicorn answers 40 ms late on a socket that it is given, and at once on one that it opens itself.
# uvicorn 0.54.0 (h11 0.16.0) on CPython 3.11's and later asyncio, Linux.
# Expected: Server.run([listener]) with a socket of socket.create_server serves as uvicorn.run(host, port) does.
# Seen: asyncio turns Nagle's algorithm off for a connection (TCP_NODELAY) only where the socket's proto is IPPROTO_TCP. A
# socket of socket.create_server has proto 0, and so have the connections that it accepts. h11's answer goes out as two
# writes, head and body, and the body of every answer on a kept connection waits for the client's delayed
# acknowledgement. With socket.socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) the same server has TCP_NODELAY.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 h11==0.16.0
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import http.client
import socket
import sys
import threading

import uvicorn


class Application:
    """Answers whether the connection that it serves has Nagle's algorithm off."""

    async def __call__(self, scope, receive, send):
        body = str(self.nodelay()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    def nodelay(self):
        (connection,) = self.server.server_state.connections
        return bool(connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def ask(proto):
    application = Application()
    server = application.server = uvicorn.Server(uvicorn.Config(application, http="h11", lifespan="off", log_level="warning"))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            client = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=30)
            client.request("GET", "/")
            return client.getresponse().read().decode()
        finally:
            client.close()
            server.should_exit = True
            thread.join()


with socket.create_server(("127.0.0.1", 0)) as usual:
    print("proto of socket.create_server:", usual.proto)
    assert usual.proto == 0
unnamed, named = ask(0), ask(socket.IPPROTO_TCP)
print("TCP_NODELAY with proto 0:", unnamed, "with IPPROTO_TCP:", named)
assert named == "True"
if unnamed == "True":
    sys.exit("changed: a socket whose protocol is not named is served without delay as well")
assert unnamed == "False"
PROGRAM
