"""Pictures that were sent to search by: kept small in the user's cache, so that the page's URLs go on working."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.serve.web.problems import RequestProblem, not_found, storing
from diptych.storage.atomic import atomic_write
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from diptych.serve.model.pictures import Pictures

KEPT, WIDTH = 500, 1280  # uploads, and the longer side of what is kept of each
_MOST_BYTES = 2**20  # of what is known of an upload
ID = r"^u_[0-9a-f]{24}$"
_ID = re.compile(ID)


class Upload(NamedTuple):
    """A picture that was sent: its size, and its vector."""

    id: str
    width: int
    height: int
    vector: np.ndarray


class Uploads:
    """The last KEPT pictures, in `folder`. The id is made of a picture's bytes."""

    def __init__(self, folder: Path, pictures: Pictures):
        self._folder, self._pictures = folder, pictures

    def add(self, content: bytes) -> Upload:
        """Keep a picture. Raises ImageError and RequestProblem."""
        id = f"u_{hashlib.blake2b(content, digest_size=12).hexdigest()}"
        with contextlib.suppress(OSError, ValueError, KeyError):
            return self._read(id)
        decoded, vector = self._pictures.uploaded(content, WIDTH)
        upload = Upload(id, *decoded.size, vector)
        facts = {
            "width": upload.width, "height": upload.height, "fingerprint": self._pictures.fingerprint,
            "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
        }  # fmt: skip
        with storing("the picture", "cache"):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, data in ((f"{id}.jpg", decoded.jpeg or b""), (f"{id}.json", json.dumps(facts).encode())):
                with atomic_write(self._folder / name, mode=0o600, durable=False) as part:
                    part.write_bytes(data)
            self._prune()
        return upload

    def get(self, id: str) -> Upload:
        """An upload that is kept. Raises RequestProblem (404)."""
        try:
            return self._read(id)
        except (OSError, ValueError, KeyError):
            raise _gone(id) from None

    def jpeg(self, id: str) -> bytes:
        """The picture, its longer side WIDTH at most. Raises RequestProblem (404)."""
        self.get(id)
        try:
            return (self._folder / f"{id}.jpg").read_bytes()
        except OSError:  # deleted since, because others came
            raise _gone(id) from None

    def _read(self, id: str) -> Upload:
        if not _ID.fullmatch(id):
            raise ValueError(id)
        path = self._folder / f"{id}.json"
        facts = parse_json(path.read_bytes(), max_bytes=_MOST_BYTES)
        if facts["fingerprint"] == self._pictures.fingerprint:
            vector = np.frombuffer(base64.b64decode(facts["vector"]), "<f4")
        else:  # another model is served now
            vector = self._pictures.vectors([(self._folder / f"{id}.jpg").read_bytes()])[0]
        os.utime(path)
        return Upload(id, facts["width"], facts["height"], vector)

    def _prune(self) -> None:
        with contextlib.suppress(OSError):
            kept = sorted(self._folder.glob("u_*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in kept[KEPT:]:
                path.with_suffix(".jpg").unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def _gone(id: str) -> RequestProblem:
    return not_found(f"the upload {id!r} is not kept any more; send the picture again.")
