"""The hub's progress bars, with control characters in file names escaped: a server may send any name."""

from __future__ import annotations

import sys
from typing import Any

from diptych.display.escaping import escape_control_characters, unwrapped


def bars() -> Any:
    """A class for `tqdm_class`. The bars move the cursor, so they write to the stream below the escaping one; their
    titles are escaped here."""
    from huggingface_hub.utils import tqdm

    class TitledBar(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            title = options.get("desc")
            if isinstance(title, str):
                options["desc"] = escape_control_characters(title)
            super().__init__(*arguments, **{**options, "file": unwrapped(sys.stderr)})

    return TitledBar
