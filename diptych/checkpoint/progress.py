"""The hub's own bars of what is fetched, without what a server may put into the names of its files."""

from __future__ import annotations

import sys
from typing import Any

from diptych.display.escaping import escape_control_characters, unwrapped


def bars() -> Any:
    """A class of bars for `tqdm_class`: they move the cursor, so they are drawn on the stream below the one that
    escapes, and their titles are harmless before."""
    from huggingface_hub.utils import tqdm

    class TitledBar(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            title = options.get("desc")
            if isinstance(title, str):
                options["desc"] = escape_control_characters(title)
            super().__init__(*arguments, **{**options, "file": unwrapped(sys.stderr)})

    return TitledBar
