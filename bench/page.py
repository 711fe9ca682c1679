"""How does the page feel over 100,000 pictures: first results, frames dropped while it scrolls, the tab's memory?

    python bench/page.py [--pictures N] [--scroll N] [--speed PX_PER_S] [--width PX] [--quick] [--json]

`diptych serve` answers in a process of its own, Debian's Chromium shows the page on the same cores. The files are links
to 64 drawn scenes of several shapes, the vectors of their catalog are random: what is measured is the page and the
service, not the model's taste; a query's words go through the bundled model. First results: from the last key to the
first frame with a picture of the new results, the page's rest of 180 ms before it asks included, once the server is
ready. Dropped frames: as Chromium traces them (PipelineReporter) in a gesture at --speed through --scroll pictures,
whose thumbnails nobody has seen before. Memory: the private and shared part (PSS) of the tab's process after it, and
what is left of it once the system is short of memory: Chromium keeps decoded pictures until then. --quick has few
pictures: its rows are no measurements.
"""

import json
import re
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from linked_library import library
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright
from services import diptych_service, running
from table import Row, arguments, report

QUESTION = "How does the page feel over many pictures?"
QUERIES = ("two dogs run over snow", "a black cat", "people at the beach", "a red house", "a man on a bicycle", "grass")
FIRST_RESULTS = """(words) => new Promise((resolve) => {
  const input = document.querySelector("#search input[type=text]");
  const old = new Set(document.querySelectorAll(".cell"));
  let last = 0;
  input.addEventListener("keydown", () => (last = performance.now()));
  const look = () => {
    const ready = [...document.querySelectorAll(".cell.ready .likeness")];
    const fresh = ready.some((each) => !old.has(each.closest(".cell")));
    if (last && fresh && input.value === words) resolve(performance.now() - last);
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""
EVERYTHING = """() => new Promise((resolve) => {
  const look = () => {
    const done = !document.querySelector(".cell .likeness") && document.querySelector(".cell.ready");
    if (done) resolve(true);
    else requestAnimationFrame(look);
  };
  look();
})"""
CATEGORIES = "cc,benchmark,disabled-by-default-devtools.timeline.frame"


def first_results(page: Page, queries: int) -> list[float]:
    """Seconds from the last key to the first picture."""
    box, spent = page.get_by_role("combobox", name="Search by words"), []
    for words in QUERIES[:queries]:
        box.fill("")
        page.evaluate(EVERYTHING)
        handle = page.evaluate_handle("(words) => ({ done: (" + FIRST_RESULTS + ")(words) })", words)
        box.press_sequentially(words, delay=30)
        spent.append(page.evaluate("(handle) => handle.done", handle) / 1000)
    return spent


def scrolled(page: Page, session: CDPSession, pictures: int, speed: int) -> tuple[int, int, int]:
    """Frames that were wanted, that were dropped, and that came with a part of the view not drawn yet, scrolling
    through so many pictures."""
    height = page.evaluate("document.querySelector('.grid').offsetHeight")
    total = int(page.locator(".cell[role=option]").first.get_attribute("aria-setsize") or 1)
    events: list[dict[str, Any]] = []
    session.on("Tracing.dataCollected", lambda said: events.extend(said["value"]))
    done: list[object] = []
    session.on("Tracing.tracingComplete", lambda said: done.append(said))
    session.send("Tracing.start", {"categories": CATEGORIES, "transferMode": "ReportEvents"})
    gesture = {
        "x": 600,
        "y": 500,
        "yDistance": -int(height * pictures / total),
        "speed": speed,
        "gestureSourceType": "mouse",
    }
    session.send("Input.synthesizeScrollGesture", gesture)
    session.send("Tracing.end")
    while not done:
        page.wait_for_timeout(50)
    return frames(events)


def frames(events: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Frames that should have shown a change, and those of them that did not come. A frame may have two reports, of
    what the compositor moved and of what the page drew anew; it came if either was shown."""
    states: dict[tuple[int, int], set[str]] = {}
    incomplete: set[tuple[int, int]] = set()
    for each in events:
        said = each.get("args", {}).get("frame_reporter") if each.get("name") == "PipelineReporter" else None
        if said and (said["state"] != "STATE_DROPPED" or said.get("affects_smoothness")):
            frame = (said["frame_source"], said["frame_sequence"])
            states.setdefault(frame, set()).add(said["state"])
            if said.get("has_missing_content"):
                incomplete.add(frame)
    wanted = [each - {"STATE_NO_UPDATE_DESIRED"} for each in states.values()]
    return sum(map(bool, wanted)), sum(each == {"STATE_DROPPED"} for each in wanted), len(incomplete)


def memory_mb(browser: Browser) -> float:
    """The largest process of a tab, as PSS."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    sizes = [pss(int(each["id"])) for each in processes if each["type"] == "renderer"]
    return max(sizes)


def pss(process: int) -> float:
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024 / 1e6  # type: ignore[index]


def measured(address: str, options: Any) -> list[Row]:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": options.width, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(address)
        page.wait_for_selector(".cell.ready")
        spent = first_results(page, 2 if options.quick else len(QUERIES))
        session = page.context.new_cdp_session(page)
        page.get_by_role("combobox", name="Search by words").fill("")
        page.evaluate(EVERYTHING)
        wanted, dropped, incomplete = scrolled(page, session, options.scroll, options.speed)
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(2000)
        heap = {each["name"]: each["value"] for each in _metrics(session)}["JSHeapUsedSize"] / 1e6
        if not wanted:
            raise SystemExit("Chromium traced no frame")
        rows = [
            Row("first results after typing, median", statistics.median(spent), "s"),
            Row("first results after typing, slowest", max(spent), "s"),
            Row(f"frames wanted, scrolling through {options.scroll:,}", wanted, "frames"),
            Row("frames dropped", dropped, "frames"),
            Row("frames dropped, share", 100 * dropped / wanted, "%"),
            Row("frames with a part not drawn yet", incomplete, "frames"),
            Row("memory of the tab (PSS)", memory_mb(browser), "MB"),
            Row("memory of its scripts", heap, "MB"),
        ]
        session.send("Memory.simulatePressureNotification", {"level": "critical"})
        page.wait_for_timeout(2000)
        rows.append(Row("memory of the tab, where it is short", memory_mb(browser), "MB"))
        browser.close()
    return rows


def _metrics(session: CDPSession) -> list[dict[str, Any]]:
    session.send("Performance.enable")
    return session.send("Performance.getMetrics")["metrics"]


def main() -> None:
    """Measure and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--pictures", type=int, help="how many there are (100,000)")
    parser.add_argument("--scroll", type=int, help="through how many the page scrolls (5,000)")
    parser.add_argument("--speed", type=int, default=3000, help="of the gesture, in pixels per second (3,000)")
    parser.add_argument("--width", type=int, default=1280, help="of the page, in pixels (1,280)")
    options = parser.parse_args()
    options.pictures = options.pictures or (80 if options.quick else 100_000)
    options.scroll = options.scroll or (40 if options.quick else 5000)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "photographs"
        library(folder, options.pictures)
        service = diptych_service("diptych serve", "/v1/ready", [str(folder), "--no-update"], bfloat16=True)
        service.environment["XDG_CACHE_HOME"] = str(Path(work) / "cache")  # all thumbnails are to be made
        with running([service]):
            rows = measured(service.address, options)
    question = f"{QUESTION}: {options.pictures:,} of them, {options.speed:,} px/s"
    report(question, rows, as_json=options.as_json, inputs=json.loads(json.dumps(vars(options))))


if __name__ == "__main__":
    main()
