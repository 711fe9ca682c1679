"""HEAD, for every address that GET has."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Answers HEAD as GET, without the body, which is not read to its end either: a film may be long, and a stream of
    events has no end."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise _HeadSent
            await send(message)

        try:
            await self._app(inner, receive, send_head)
        except _HeadSent:
            pass
        finally:
            scope["route"] = inner.get("route")


class _HeadSent(Exception):
    """The answer is complete."""
