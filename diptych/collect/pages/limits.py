"""How far, how long and how fast a crawl goes."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.errors import ArgumentError


@dataclass(frozen=True)
class CrawlLimits:
    """Limits of a crawl. `depth` counts links from a start address, `pages` and `pages_per_host` the pages of all runs
    together; `barren` is the number of pages of one shape, such as a calendar's, in a row that show no new picture.
    `delay_s` is the least time between two requests to a host, `deadline_s` the most for one answer with its body,
    `patience_s` the longest Retry-After that is waited for. Raises ArgumentError for what allows nothing."""

    depth: int = 20
    pages: int = 10_000
    pages_per_host: int = 10_000
    pictures_per_page: int = 100
    barren: int = 300
    redirects: int = 5
    tries: int = 3
    hosts: int = 64  # at a time, each with one request at a time
    delay_s: float = 1.0
    deadline_s: float = 60.0
    patience_s: float = 300.0
    page_bytes: int = 8 << 20
    picture_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise ArgumentError(f"{name}={value!r}; wanted {least} or more.", argument=name)


_LEAST: dict[str, float] = {
    "depth": 0, "pages": 1, "pages_per_host": 1, "pictures_per_page": 1, "barren": 1, "redirects": 0, "tries": 1,
    "hosts": 1, "delay_s": 0.0, "deadline_s": 0.001, "patience_s": 0.0, "page_bytes": 1, "picture_bytes": 1,
}  # fmt: skip
