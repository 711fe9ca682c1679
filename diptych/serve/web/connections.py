"""Connections that end where a client keeps the server waiting: one that never finishes its request's head, or that
takes no more of its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

ASKING_S = 20.0  # for the line and headers of a request
TAKING_S = 30.0  # that a client may take nothing of its answer
MOST = 1000  # connections; each is a file descriptor, of which decoders and the index need some


class Connection(H11Protocol):
    """uvicorn's connection with these limits. A body's are those of the guard, and uvicorn ends what is idle."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self._asking: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

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
        self._taking = _ended(self._taking)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP. A request whose head was fine is answered by that, and its own answer goes nowhere;
        one that has begun ends here."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

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
            self._taking = self.loop.call_later(TAKING_S, self.transport.abort)


def _is_spare(connection: object, new: Connection) -> bool:
    """Whether nobody would miss this connection."""
    if not isinstance(connection, Connection) or connection is new:
        return False
    return connection.is_idle and not connection.transport.is_closing()


def _ended(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
