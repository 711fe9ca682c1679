"""A service that listens on a free port of this machine, as `diptych serve` does, in a thread of this process."""

import asyncio
import threading
import time
from typing import Any

from diptych.serve.running import bound, server_of
from diptych.serve.service import Service


class Listening:
    """Answers until the block ends, which is in order: what is under way is finished."""

    def __init__(self, service: Service, **more: Any):
        self.service, self._socket = service, bound("127.0.0.1", 0)
        self.port: int = self._socket.getsockname()[1]
        self.server = server_of(service, **more)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self._socket]))

    def connections(self) -> list[Any]:
        """Those that are open."""
        return list(self.server.server_state.connections)

    def __enter__(self) -> "Listening":
        self._thread.start()
        while not self.service.is_ready:  # until then it imports what it needs
            time.sleep(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        self.service.stopping.set()
        self.server.should_exit = True
        self._thread.join()
        self._socket.close()
