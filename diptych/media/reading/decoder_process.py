"""The main loop of a child process that decodes single pictures: bytes that someone sent, or files of a folder.

Orders are lines of JSON, each followed by the bytes that it announces; answers are JSON and pixels or a JPEG. As
`reader_process`, it imports no engine and ends when its parent does.
"""

from __future__ import annotations

import io
import json
import os
import queue
import threading
from typing import IO, Any

from diptych.media.reading.reader_process import GRACE_S, path, send_answer, set_alarm, start

Answer = tuple[dict[str, Any], bytes]


def main() -> None:
    """Decode one order after another until the pipe ends. The first line holds the settings: root, spec, memory_bytes,
    follow_links."""
    if not (started := start(Decoder)):
        return
    orders, answers, decoder = started
    waiting: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, waiting), daemon=True).start()
    while True:
        order, content = waiting.get()
        set_alarm(order["limit_s"] + GRACE_S)
        answer, payload = decoder.decode(order, content)
        set_alarm(0)
        send_answer(answers, answer, (memoryview(payload),))


def _listen(orders: IO[bytes], waiting: Any) -> None:
    """Queue the orders; end the process at once when the parent is gone."""
    while line := orders.readline():
        order = json.loads(line)
        waiting.put((order, orders.read(order["bytes"])))
    os._exit(0)


class Decoder:
    """Decodes by the settings of `main`. `square` is the input of the tower, `whole` a JPEG of the whole picture."""

    def __init__(self, settings: dict[str, Any]):
        from PIL import AvifImagePlugin

        from diptych.media.preprocessing import Preprocess

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        self._spec = Preprocess(**settings["spec"])
        self._root = path(settings["root"]) if settings["root"] is not None else None
        self._follow_links = settings["follow_links"]

    def decode(self, order: dict[str, Any], content: bytes) -> Answer:
        """The answer to one order; a failure is an answer as well."""
        from diptych.errors import ImageError
        from diptych.media.reading.file import reason_of

        try:
            return self._square(order, content) if order["task"] == "square" else self._whole(order, content)
        except ImageError as error:
            return {"failure": [error.reason, error.detail]}, b""
        except MemoryError:
            return {"failure": ["too large", "It needs more memory than a decoding process may use."]}, b""
        except OSError as error:
            return {"failure": list(reason_of(error))}, b""
        except Exception as error:  # decoders raise many kinds for unexpected bytes
            return {"failure": ["damaged", f"It could not be read ({type(error).__name__}: {error})."]}, b""

    def _square(self, order: dict[str, Any], content: bytes) -> Answer:
        from diptych.media.content.photographs import read_photograph

        pixels, details, _ = read_photograph(content, order["name"], self._spec)
        return {"width": details.width, "height": details.height}, pixels.tobytes()

    def _whole(self, order: dict[str, Any], content: bytes) -> Answer:
        from diptych.media.content.photographs import read_photograph
        from diptych.media.content.thumbnails import as_jpeg, thumbnail_of

        file: IO[bytes] = io.BytesIO(content) if order["path"] is None else self._opened(path(order["path"]))
        with file:
            image, (width, height) = thumbnail_of(file, order["name"], order["size_px"], order["at_s"])
        jpeg = as_jpeg(image)
        answer = {"width": width, "height": height, "thumbnail": list(image.size)}
        if "square" in order:
            # read again: the short side of a panorama that fits the JPEG has fewer pixels than the tower wants
            pixels = read_photograph(content, order["name"], self._spec).pixels.tobytes()
            return answer | {"square_bytes": len(pixels)}, pixels + jpeg
        return answer, jpeg

    def _opened(self, name: str) -> IO[bytes]:
        """A file of the folder; a link that leads out of it is not followed."""
        from diptych.media.reading.file import OutsideRootError, open_regular
        from diptych.untrusted.links import RootBoundary

        if self._root is None or (not self._follow_links and RootBoundary(self._root).is_outside(name)):
            raise OutsideRootError
        return open_regular(os.path.join(self._root, name))
