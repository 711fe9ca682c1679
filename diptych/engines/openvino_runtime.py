"""OpenVINO without its conversion tools, which take as long to import as all the rest and are not used here."""

import sys
from functools import cache
from typing import Any

_TOOLS = "openvino.tools.ovc"
_absent = _TOOLS not in sys.modules
if _absent:
    sys.modules[_TOOLS] = None  # type: ignore[assignment]  # what OpenVINO takes for "not installed"
try:
    import openvino
finally:
    if _absent:
        del sys.modules[_TOOLS]  # NNCF may want them later

__all__ = ["core", "openvino"]


@cache
def core() -> Any:
    """The one Core of this process, which is never let go. Each gives the main thread a stack for signals of its own,
    and puts back what it found when it goes: of two that go in the order in which they came, the second puts back the
    first one's, which is gone, and the next signal, such as Ctrl-C, ends the process (OpenVINO 2026.4).
    """
    return openvino.Core()
