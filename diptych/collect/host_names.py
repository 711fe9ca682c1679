"""Names of hosts in the one form by which they are known."""

from __future__ import annotations

import idna


def ascii_host(host: str) -> str:
    """A host's name in lower case and ASCII, as browsers ask for it: IDNA 2008 with the mapping of UTS 46 (section 4,
    non-transitional), by which `faß.de` is not `fass.de`. Signs that IDNA 2008 leaves out are taken as by IDNA 2003.
    Raises UnicodeError for a name that is none, such as one with an empty label."""
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        return host.encode("idna").decode("ascii").lower()
