#!/usr/bin/env bash
# Chromium's traces report one frame as presented twice, so that counting reports gives more frames than were shown.
# Chromium 156.0.8078.108 of Debian (at /usr/bin/chromium, not installed here), driven by Playwright 1.65.2 for Python.
# Expected: one PipelineReporter for each frame, which says whether it was presented or dropped.
# Seen: where a page animates while its scripts are busy, 155 reports of presented frames in 2 s are 131 frames: a
# frame that the compositor showed before the page's own drawing was ready has two, one with frame_type FORKED and
# STATE_PRESENTED_PARTIAL, one with STATE_PRESENTED_ALL. Only frame_source and frame_sequence tell that they are one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[ -x /usr/bin/chromium ] || { echo "chromium is missing: apt-get install chromium" >&2; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet playwright==1.65.2
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import json
import sys
from collections import defaultdict

from playwright.sync_api import sync_playwright

PAGE = """<!doctype html>
<style>
@keyframes along { to { transform: translateX(300px) } }
div { width: 50px; height: 50px; background: red; animation: along 1s linear infinite alternate }
</style>
<div></div><p>0</p>
<script>
const text = document.querySelector("p")
function draw() {
  const start = performance.now()
  while (performance.now() - start < 80);
  text.textContent = start
  requestAnimationFrame(draw)
}
requestAnimationFrame(draw)
</script>"""

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
    page = browser.new_page()
    page.set_content(PAGE)
    browser.start_tracing(page=page, categories=["cc,benchmark,disabled-by-default-devtools.timeline.frame"])
    page.wait_for_timeout(2000)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    browser.close()
frames = defaultdict(set)
reports = 0
for event in events:
    if event["name"] == "PipelineReporter" and event["ph"] == "b":
        said = event["args"]["frame_reporter"]
        if said["state"].startswith("STATE_PRESENTED"):
            reports += 1
            frame = event["pid"], said["layer_tree_host_id"], said["frame_source"], said["frame_sequence"]
            frames[frame].add((said.get("frame_type", "-"), said["state"]))
twice = [states for states in frames.values() if len(states) == 2]
print("presented:", reports, "reports,", len(frames), "frames; with two reports:", len(twice), twice[:1])
assert len(frames) > 20
if reports == len(frames):
    sys.exit("changed: a frame has one report")
assert {("FORKED", "STATE_PRESENTED_PARTIAL"), ("-", "STATE_PRESENTED_ALL")} in twice
PROGRAM
