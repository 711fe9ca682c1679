"""Connections that end where a client keeps the server waiting: one that never finishes its request's head, or that
takes no more of its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from diptych.serve.web.problems import RequestProblem, problem_response

ASKING_S = 20.0  # for the line and headers of a request
TAKING_S = 30.0  # that a client may take nothing of its answer
LINGERING_S = 2.0  # that what follows no HTTP is read
ENDING_S = 3.0  # that a client may take to end TLS, once all was sent to it
MOST = 1000  # connections; each is a file descriptor, of which decoders and the index need some


class Connection(H11Protocol):
    """uvicorn's connection with these limits. A body's are those of the guard, and uvicorn ends what is idle."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self._asking: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._is_over = False  # what still comes is read, and not looked at

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            next((each for each in self.connections if _is_spare(each, self)), self).transport.abort()
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if not self._is_over:
            super().data_received(data)
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asking, self._taking = _ended(self._asking), _ended(self._taking)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._is_over:
            self._taking = _ended(self._taking)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP. A request whose head was fine is answered by that, and its own answer goes nowhere;
        one that has begun ends here."""
        is_head = not self.is_idle and self.cycle.scope["method"] == "HEAD"
        if not self.is_idle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(RequestProblem(400, "RequestError", "this is no HTTP, or its head is too long."), is_head)
        else:
            self.transport.close()

    def _refuse(self, problem: RequestProblem, is_head: bool) -> None:
        """Answer, and read what still comes for a while: a connection that is closed at once is reset by it, and the
        client never sees the answer."""
        answer = problem_response(problem, "")
        headers = [*answer.raw_headers, (b"connection", b"close")]
        content = b"" if is_head else bytes(answer.body)
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._is_over = self.transport.can_write_eof()  # not of https
        if not self._is_over:
            self.transport.close()
            return
        self.transport.write_eof()
        self._asking, self._taking = _ended(self._asking), _ended(self._taking)
        self._taking = self.loop.call_later(LINGERING_S, self.transport.abort)

    def shutdown(self) -> None:
        super().shutdown()
        if self._is_over:
            self.transport.close()
        if self.transport.is_closing():
            self._await_taking()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():  # once the client has taken what is left
            self._await_taking()
        elif self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._await_request()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._await_taking()

    def _await_request(self) -> None:
        """The time for a head runs from its first byte, and no later one prolongs it; so does the time for what is left
        of a request that is answered already."""
        is_awaited = self.is_idle and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if not is_awaited or self.transport.is_closing():
            self._asking = _ended(self._asking)
        elif self._asking is None:
            self._asking = self.loop.call_later(ASKING_S, self.transport.abort)

    def _await_taking(self) -> None:
        if self._taking is None:
            is_sent = self.transport.is_closing() and not self.transport.get_write_buffer_size()
            self._taking = self.loop.call_later(ENDING_S if is_sent else TAKING_S, self.transport.abort)


def _is_spare(connection: object, new: Connection) -> bool:
    """Whether nobody would miss this connection."""
    if not isinstance(connection, Connection) or connection is new:
        return False
    return connection.is_idle and not connection.transport.is_closing()


def _ended(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
