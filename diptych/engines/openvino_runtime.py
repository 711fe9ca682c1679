"""OpenVINO without its conversion tools, which are not used here and double its import time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def without(module: str) -> Iterator[None]:
    """Meanwhile `module` looks as if it was not installed."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]  # Python's mark for a missing module
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


with without("openvino.tools.ovc"):  # NNCF may import them later
    import openvino

__all__ = ["core", "openvino", "without"]


@cache
def core() -> Any:
    """The one Core of this process, which is never freed. A Core gives the main thread its own stack for signals and
    restores the previous one when it is freed. If two Cores are freed in the order of their creation, the second
    restores the first one's stack, which no longer exists, and the next signal, such as Ctrl-C, ends the process
    (OpenVINO 2026.4).
    """
    return openvino.Core()
