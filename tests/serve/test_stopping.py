"""A server that is told to stop answers what it was asked."""

from pathlib import Path

from tests.serve.hostile import TOKEN
from tests.serve.listening import Listening
from tests.serve.stopping import Asking


def test_a_server_that_stops_under_load_loses_no_request(serve, indexed: Path) -> None:
    with Listening(serve(indexed, token=TOKEN).service) as listening:
        asking = Asking(listening.port, 16)
        asking.wait_for(64)
    assert asking.ended()["200"] >= 64
    assert asking.lost == 0, asking.tally


def test_a_request_that_is_lost_is_seen(serve, indexed: Path) -> None:
    """Of a server that ends its connections at once."""
    with Listening(serve(indexed, token=TOKEN).service) as listening:
        asking = Asking(listening.port, 4)
        asking.wait_for(8)
        for connection in listening.connections():
            connection.loop.call_soon_threadsafe(connection.transport.abort)
    asking.ended()
    assert asking.lost
