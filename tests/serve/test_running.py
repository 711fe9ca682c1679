"""The socket of the server."""

import asyncio
import socket

from diptych.serve.running import bound


def test_an_answer_is_sent_at_once() -> None:
    """With Nagle's algorithm, the second part of an answer waits 40 ms for the client to confirm the first."""

    async def delays() -> bool:
        accepted: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

        class Answering(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.set_result(transport)

        with bound("127.0.0.1", 0) as sock:
            server = await asyncio.get_running_loop().create_server(Answering, sock=sock)
            async with server:
                _, writer = await asyncio.open_connection(*sock.getsockname())
                taken = (await accepted).get_extra_info("socket")
                is_late = not taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                writer.close()
        return is_late

    assert not asyncio.run(delays())
