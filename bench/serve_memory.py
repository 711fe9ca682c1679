"""Does a server need more memory the more it is asked?

    python bench/serve_memory.py [--requests N] [--connections N] [--pictures N] [--seed N] [--quick] [--json]

`diptych serve` with the bundled model over --pictures files answers a mix that is drawn from --seed: searches by words,
by pictures and by items, texts and pictures to embed, uploads, thumbnails, lists, items, facets, labels, heat maps,
health, metrics, and requests that are malformed. No two texts are the same. After each tenth of --requests its memory
is said with that of the processes that decode pictures for it (on Linux, the proportional set size: what they share
counts once), and that without the pages of files, such as libraries, which other programs that use them bear in part.
In the end, by how much it was more than after the first tenth, and than after the second: until then what is kept for
later requests is filled. An answer that is no answer to what was asked ends the measurement.
"""

import asyncio
import base64
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from http_load import content_length, get, post
from linked_library import library
from services import Service, diptych_service, running
from table import Row, arguments, report

from diptych.scenes.scene import Scenes

QUESTION = "The memory of a server that is asked much"
TENTHS = 10
_END = b"\r\n\r\n"
WIDTHS = (160, 240, 320, 480)


class Asked(NamedTuple):
    """A request, and whether it can be answered: with a status of 200 or 201, otherwise of 400 to 499."""

    raw: bytes
    is_sound: bool = True


class Mix:
    """Requests to a server that are drawn by chance, without end."""

    def __init__(self, address: str, seed: int, ids: list[int], scenes: Scenes):
        self._address, self._random, self._ids = address, Random(seed), ids
        self._captions = [caption for scene in scenes for caption in scene.captions]
        self._files = [jpeg(scene.image) for scene in scenes]
        self._uris = [f"data:image/jpeg;base64,{base64.b64encode(each).decode()}" for each in self._files]

    def __iter__(self) -> Iterator[Asked]:
        shares: dict[Callable[[], Asked], int] = {
            self._words: 25, self._texts: 20, self._thumbnail: 20, self._item: 10, self._list: 5, self._picture: 5,
            self._state: 4, self._malformed: 5, self._likeness: 3, self._labels: 1, self._heat: 1, self._upload: 1,
        }  # fmt: skip
        while True:
            (make,) = self._random.choices(list(shares), list(shares.values()))
            yield make()

    def _get(self, path: str) -> Asked:
        return Asked(get(self._address, path))

    def _post(self, path: str, body: Any) -> Asked:
        return Asked(post(self._address, path, json.dumps(body).encode()))

    def _text(self) -> str:
        return f"{self._random.choice(self._captions)} {self._random.randrange(10**9)}"

    def _words(self) -> Asked:
        filters = self._random.choice(("", "", "&min_width=300", "&orientation=landscape", "&relevant=true"))
        return self._get(f"/v1/search?q={quote(self._text())}&limit=60{filters}")

    def _likeness(self) -> Asked:
        if self._random.random() < 0.5:
            return self._get(f"/v1/similar/{self._random.choice(self._ids)}?offset={60 * self._random.randrange(3)}")
        terms = [{"data": self._random.choice(self._uris)}, {"text": self._text(), "weight": self._random.random() + 1}]
        return self._post("/v1/search", {"terms": terms, "modality": "both"})

    def _texts(self) -> Asked:
        texts = [self._text() for _ in range(self._random.randint(1, 4))]
        if self._random.random() < 0.5:
            return self._post("/v1/embeddings", {"model": "bundled", "input": texts, "encoding_format": "base64"})
        return self._post("/v1/embed", {"texts": texts, "truncate": True})

    def _picture(self) -> Asked:
        return self._post("/v1/embed", {"pictures": [{"data": self._random.choice(self._uris)}]})

    def _upload(self) -> Asked:
        """A new one each time: bytes behind the end of a JPEG file change nothing."""
        content = self._random.choice(self._files) + self._random.randbytes(8)
        request = post(self._address, "/v1/uploads", content)
        return Asked(request.replace(b"application/json", b"image/jpeg", 1))

    def _thumbnail(self) -> Asked:
        return self._get(f"/v1/thumbnails/{self._random.choice(self._ids)}?width={self._random.choice(WIDTHS)}")

    def _item(self) -> Asked:
        if self._random.random() < 0.5:
            return self._get(f"/v1/items/{self._random.choice(self._ids)}")
        return self._post("/v1/items/lookup", {"ids": self._random.sample(self._ids, 20)})

    def _list(self) -> Asked:
        sort, offset = self._random.choice(("taken_at", "path", "added", "size")), self._random.randrange(100)
        return self._get(self._random.choice((f"/v1/items?sort={sort}&offset={offset}", "/v1/facets")))

    def _labels(self) -> Asked:
        pictures = [{"item": id} for id in self._random.sample(self._ids, 5)]
        return self._post("/v1/classify", {"pictures": pictures, "labels": [self._text() for _ in range(3)]})

    def _heat(self) -> Asked:
        return self._get(f"/v1/items/{self._random.choice(self._ids)}/heat?phrase={quote(self._text())}")

    def _state(self) -> Asked:
        paths = "/v1/health", "/v1/ready", "/v1/metrics", "/v1/index", "/", "/v1/duplicates", "/v1/map"
        return self._get(self._random.choice(paths))

    def _malformed(self) -> Asked:
        number = self._random.randrange(10**9)
        raw = self._random.choice(
            (
                post(self._address, "/v1/search", b'{"terms": [{"text": "a"}'),
                post(self._address, "/v1/embed", b'{"texts": [1, null], "field": %d}' % number),
                post(self._address, "/v1/uploads", self._random.randbytes(2000)),
                post(self._address, "/v1/embed", b'{"pictures": [{"data": "QUJD%d"}]}' % number),
                get(self._address, f"/v1/path-{number}"),
                get(self._address, f"/v1/items/{number}"),
                get(self._address, f"/v1/search?q=a&since={number}"),
                get(self._address, "/v1/items").replace(b"Host: 127", b"Host: 128"),
                b"%d\r\n\r\n" % number,
            )
        )
        return Asked(raw, is_sound=False)


def jpeg(image: Any) -> bytes:
    """A file of this picture."""
    image.convert("RGB").save(file := io.BytesIO(), "JPEG", quality=85)
    return file.getvalue()


def answered(address: str, requests: Iterator[Asked], connections: int) -> Counter[int]:
    """Send them all; the answers by status. Raises RuntimeError for an answer of another kind than is due."""

    async def all_of() -> Counter[int]:
        statuses = Counter[int]()
        await asyncio.gather(*(_connection(address, requests, statuses) for _ in range(connections)))
        return statuses

    return asyncio.run(all_of())


async def _connection(address: str, requests: Iterator[Asked], statuses: Counter[int]) -> None:
    """One of several clients that share the requests."""
    where, writer = urlsplit(address), None
    for asked in requests:
        if writer is None:
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(asked.raw)
        head = await reader.readuntil(_END)
        is_last = b"connection: close" in head.lower()
        body = await reader.read() if is_last else await reader.readexactly(content_length(head[: -len(_END)]))
        status = int(head[9:12])
        if status not in ((200, 201, 202) if asked.is_sound else range(400, 429)):
            raise RuntimeError(f"{asked.raw[:300]!r} was answered by {head!r} {body[:300]!r}")
        statuses[status] += 1
        if is_last:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


def measured(service: Service, options: Any) -> list[Row]:
    """The memory after each tenth of the requests."""
    listed = json.loads(service.ask(f"/v1/items?limit={min(500, options.pictures)}") or b"{}")
    requests = iter(
        Mix(service.address, options.seed, [item["id"] for item in listed["items"]], Scenes(16, size_px=224))
    )
    step, statuses, known = options.requests // TENTHS, Counter[int](), [service.own_memory_mb()]
    for tenth in range(1, TENTHS + 1):
        statuses += answered(service.address, islice(requests, step), options.connections)
        service.wait_until_idle()
        known.append(service.own_memory_mb())
        print(f"after {tenth * step:,} requests: {known[-1]} MB, answers by status {dict(statuses)}", file=sys.stderr)
    names = ["as it starts", *(f"after {tenth * step:,} requests" for tenth in range(1, TENTHS + 1))]
    rows = [row for name, each in zip(names, known, strict=True) for row in both(name, each, "MB")]
    for tenth in (1, 2):
        shares = [100 * (max(kind[tenth:]) / kind[tenth] - 1) for kind in zip(*known, strict=True)]
        rows += both(f"the most after that, beside {tenth * step:,} requests", shares, "%")
    return rows


def both(name: str, values: Sequence[float], unit: str) -> list[Row]:
    """A row for all memory, and one for that without files."""
    return [Row(name, values[0], unit), Row(name, values[1], f"{unit} without files")]


def main() -> None:
    """Measure and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--requests", type=int, help="altogether (100,000)")
    parser.add_argument("--connections", type=int, default=8, help="at once (8)")
    parser.add_argument("--pictures", type=int, help="in the folder (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the requests (0)")
    options = parser.parse_args()
    options.requests = options.requests or (80 if options.quick else 100_000)
    options.pictures = options.pictures or (40 if options.quick else 300)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "photographs"
        library(folder, options.pictures)
        service = diptych_service(
            "diptych serve", "/v1/ready", [str(folder), "--no-update", "--deadline", "600"], bfloat16=True
        )
        service.environment |= {f"XDG_{name}_HOME": str(Path(work) / name) for name in ("CACHE", "CONFIG")}
        with running([service]):
            rows = measured(service, options)
    asked = f"{options.requests:,} requests, {options.pictures:,} pictures"
    report(f"{QUESTION}: {asked}", rows, as_json=options.as_json, inputs=vars(options))


if __name__ == "__main__":
    main()
