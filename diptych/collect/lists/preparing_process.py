"""The main loop of a child process that prepares pictures: the bytes of strangers are decoded here and nowhere else.

An order is a line of JSON with the number of bytes that follow it; the answer is JSON and the bytes of a picture. The
process ends when its parent does.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import threading
from typing import IO, Any

from diptych.media.reading.reader_process import GRACE_S, send_answer, set_alarm, start

Answer = tuple[dict[str, Any], bytes]


def main() -> None:
    """Prepare one picture after another until the pipe ends. The first line holds the settings: memory_bytes, size,
    disabled (rules)."""
    if not (started := start(Preparation)):
        return
    orders, answers, preparation = started
    waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, waiting), daemon=True).start()
    while True:
        limit_s, content = waiting.get()
        set_alarm(limit_s + GRACE_S)
        answer, picture = preparation.answer(content)
        set_alarm(0)
        send_answer(answers, answer, (memoryview(picture),))


def _listen(orders: IO[bytes], waiting: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    """Queue the orders; end the process at once when the parent is gone."""
    while line := orders.readline():
        order = json.loads(line)
        waiting.put((order["limit_s"], orders.read(order["bytes"])))
    os._exit(0)


class Preparation:
    """Prepares pictures by the settings of `main`."""

    def __init__(self, settings: dict[str, Any]):
        from PIL import AvifImagePlugin

        from diptych.collect.pictures.preparing import prepare
        from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is one process per core
        self._prepare, self._size = prepare, settings["size"]
        gc.freeze()  # modules stay: to look through them for cycles again and again takes some percent of the time
        self._rules = PictureRules(disabled=frozenset(settings["disabled"]) & {*PICTURE_RULES})

    def answer(self, content: bytes) -> Answer:
        """The picture's facts and bytes; a refusal is an answer as well."""
        from diptych.collect.pictures.preparing import PictureRefused

        try:
            picture = self._prepare(content, size=self._size, rules=self._rules)
        except PictureRefused as refused:
            return {"refused": [refused.reason, refused.message]}, b""
        except MemoryError:
            return {"refused": ["too large", "It needs more memory than a decoding process may use."]}, b""
        except Exception as error:  # decoders raise many kinds for unexpected bytes
            return {"refused": ["damaged", f"It could not be read ({type(error).__name__}: {error!s:.300})."]}, b""
        facts = {name: value for name, value in vars(picture).items() if name != "content"}
        return facts, picture.content
