"""Where the user's own folders are."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def home_folder() -> Path:
    """The user's home. Raises RuntimeError for a user without one, and where it is relative: it would be in whatever
    folder one works in, and that may be anybody's."""
    home = Path.home()
    if not home.is_absolute():
        raise RuntimeError(f"The home directory, {str(home)!r}, is no absolute path.")
    return home


def cache_folder(name: str) -> Path:
    """$XDG_CACHE_HOME or the system's usual place for caches, then diptych/NAME; it need not be there yet. Raises
    RuntimeError for a user without a home."""
    said = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(said):  # the XDG base directory specification has a relative one passed over
        return Path(said) / "diptych" / name
    home = home_folder()
    usual = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}
    return usual.get(sys.platform, home / ".cache") / "diptych" / name
