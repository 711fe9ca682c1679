"""The paths of the user's folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def home_folder() -> Path:
    """The user's home. Raises RuntimeError if there is none, or if it is a relative path: that would depend on the
    working directory, which may be anyone's."""
    home = Path.home()
    if not home.is_absolute():
        raise RuntimeError(f"The home directory, {str(home)!r}, is not an absolute path.")
    return home


def cache_folder(name: str) -> Path:
    """$XDG_CACHE_HOME or the system's default for caches, then diptych/NAME; it may not exist yet. Raises RuntimeError
    for a user without a home."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(configured):  # the XDG base directory specification ignores a relative path
        return Path(configured) / "diptych" / name
    home = home_folder()
    usual = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}
    return usual.get(sys.platform, home / ".cache") / "diptych" / name
