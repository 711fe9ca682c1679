"""Where the user's cache is."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(name: str) -> Path:
    """$XDG_CACHE_HOME or the system's usual place for caches, then diptych/NAME; it need not be there yet. Raises
    RuntimeError for a user without a home."""
    home = Path.home()
    usual = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}
    return Path(os.environ.get("XDG_CACHE_HOME") or usual.get(sys.platform, home / ".cache")) / "diptych" / name
