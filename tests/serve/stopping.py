"""A server that is told to stop while many ask it.

    python -m tests.serve.stopping [--times 5] [--connections 32]

starts `diptych serve` over a few drawn pictures, has many ask without a pause, sends SIGTERM, and says what came back.
A request is lost if it was sent on a connection that the server had neither closed nor said that it would, and was not
answered by what it asks for, or if the server did not end in order. Who connects after the signal is refused; so is, by
the system, who had connected and was not accepted by then.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.serve.hostile import TOKEN, canaries, served

WAIT_S = 120.0
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


class Asking:
    """Clients in threads, each sending its next request when its last was answered, until nobody listens."""

    def __init__(self, port: int, connections: int):
        self._port, self.tally, self._lock = port, Counter[str](), threading.Lock()
        self._pool = ThreadPoolExecutor(connections)
        self._clients = [self._pool.submit(self._ask, number) for number in range(connections)]

    def wait_for(self, answers: int) -> None:
        """Until so many have come."""
        while self.tally["200"] < answers and not self.lost and any(not each.done() for each in self._clients):
            time.sleep(0.01)

    def ended(self) -> Counter[str]:
        """How the requests ended, once all clients have."""
        for each in self._clients:
            each.result(WAIT_S)
        self._pool.shutdown()
        return self.tally

    @property
    def lost(self) -> int:
        """How many were lost."""
        return sum(count for how, count in self.tally.items() if how not in ("200", "refused"))

    def _ask(self, client: int) -> None:
        number = 0
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
            try:
                connection.connect()
            except OSError:
                return
            is_kept = False
            while True:
                number += 1
                how, goes_on = self._answer(connection, f"a red house {client} {number}", is_kept)
                with self._lock:
                    self.tally[how] += 1
                if not goes_on:
                    break
                is_kept = True
            connection.close()

    @staticmethod
    def _answer(connection: http.client.HTTPConnection, text: str, is_kept: bool) -> tuple[str, bool]:
        """How a request ended, and whether the connection stays."""
        asked = ("/v1/embed", {"texts": [text]}), ("/v1/search", {"terms": [{"text": text}]})
        path, body = asked[len(text) % 2]
        try:
            connection.request("POST", path, json.dumps(body), HEADERS)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return "lost" if is_kept else "refused", False
        if answer.status == 200 and not json.loads(content).keys() & {"vectors", "hits"}:
            return "another answer", False
        return str(answer.status), not answer.will_close


def main() -> int:
    """Run what was asked for; 1 where a request was lost."""
    parser = argparse.ArgumentParser(description="SIGTERM under load.")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    lost = 0
    for _ in range(options.times):
        with tempfile.TemporaryDirectory() as work:
            with canaries(Path(work)) as (_, outside), served(Path(work), outside) as port:
                asking = Asking(port, options.connections)
                asking.wait_for(10 * options.connections)
            print(dict(asking.ended()), "lost:", asking.lost, flush=True)
            lost += asking.lost
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
