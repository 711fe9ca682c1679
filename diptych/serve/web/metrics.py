"""Counters of the server in Prometheus's text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The requests that were answered, by route, method and status, and how long they took. Used by the thread of the
    server alone."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._seconds = 0.0

    def answered(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count an answer. A path that is no route's counts as "other", so that their number is bounded."""
        route = _route_of(scope)
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT") else "other"
        self._requests[(route, method, status)] += 1
        self._buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds += seconds

    def text(self, gauges: Mapping[str, float], counters: Mapping[str, float]) -> str:
        """All metrics. The names of `gauges` and `counters` may hold labels."""
        return "\n".join(self._lines(gauges, counters)) + "\n"

    def _lines(self, gauges: Mapping[str, float], counters: Mapping[str, float]) -> Iterator[str]:
        yield "# TYPE diptych_requests_total counter"
        for (route, method, status), count in sorted(self._requests.items()):
            yield f'diptych_requests_total{{route="{route}",method="{method}",status="{status}"}} {count}'
        yield "# TYPE diptych_request_seconds histogram"
        below = 0
        for edge, count in zip((*BUCKETS_S, "+Inf"), self._buckets, strict=True):
            below += count
            yield f'diptych_request_seconds_bucket{{le="{edge}"}} {below}'
        yield f"diptych_request_seconds_sum {self._seconds:.6f}"
        yield f"diptych_request_seconds_count {below}"
        for kind, values in (
            ("gauge", {"diptych_requests_in_flight": self.in_flight, **gauges}),
            ("counter", counters),
        ):
            typed = set[str]()
            for name, value in values.items():
                if (family := name.partition("{")[0]) not in typed:
                    typed.add(family)
                    yield f"# TYPE {family} {kind}"
                yield f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _route_of(scope: Mapping[str, Any]) -> str:
    """The route that answered, with the names of its parameters: /v1/items/{id}."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "other"
    path = path.replace(":int}", "}")
    return f"/v1{path}" if "/v1/" in scope["path"] and not path.startswith("/v1/") else path
