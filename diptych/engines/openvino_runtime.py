"""OpenVINO without its conversion tools, which take as long to import as all the rest and are not used here."""

import sys

_TOOLS = "openvino.tools.ovc"
_absent = _TOOLS not in sys.modules
if _absent:
    sys.modules[_TOOLS] = None  # type: ignore[assignment]  # what OpenVINO takes for "not installed"
try:
    import openvino
finally:
    if _absent:
        del sys.modules[_TOOLS]  # NNCF may want them later

__all__ = ["openvino"]
