#!/usr/bin/env bash
# While a bar of rich runs, what other libraries write to stderr is parsed and written anew, links and colours too.
# rich 15.0.0.
# Expected: a warning is passed on as it is, or shown as plain text.
# Seen: neither. A link comes out as a link of rich's with an id of its own, a colour as a colour, the code that
# clears the screen is dropped, [red] stays text, and a line longer than the terminal gets a line end inside. What
# quotes a name of a file or a caption while the bar runs is shown otherwise than without the bar.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rich==15.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import re
import sys

from rich.console import Console
from rich.live import Live

LINK = "\x1b]8;;https://example.org/\x1b\\text\x1b]8;;\x1b\\"
out = io.StringIO()
console = Console(file=out, force_terminal=True, width=40, color_system="truecolor")
with Live("", console=console, auto_refresh=False):
    print(LINK, "\x1b[31mred\x1b[0m", "\x1b[2Jcleared", "[red]", file=sys.stderr)
    print("x" * 50, file=sys.stderr)
shown = out.getvalue()
linked = re.search("\x1b\\]8;id=[0-9]+;https://example.org/\x1b", shown) is not None
print("a link with another id:", linked, "cleared:", "\x1b[2J" in shown, "whole line:", "x" * 50 in shown)
assert "\x1b[31mred" in shown and "\x1b[2J" not in shown and "[red]" in shown
if not linked or "x" * 50 in shown:
    sys.exit("changed: text of others is passed on in another way")
PROGRAM
