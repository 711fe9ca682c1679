"""OpenVINO without its conversion tools, which take as long to import as all the rest and are not used here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def without(module: str) -> Iterator[None]:
    """What is imported meanwhile takes this module for not installed."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]  # as Python notes what it did not find
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


with without("openvino.tools.ovc"):  # NNCF may want them later
    import openvino

__all__ = ["core", "openvino", "without"]


@cache
def core() -> Any:
    """The one Core of this process, which is never let go. Each gives the main thread a stack for signals of its own,
    and puts back what it found when it goes: of two that go in the order in which they came, the second puts back the
    first one's, which is gone, and the next signal, such as Ctrl-C, ends the process (OpenVINO 2026.4).
    """
    return openvino.Core()
