#!/usr/bin/env bash
# Playwright's wait_for_function of an expression, on a page whose policy forbids eval, works until it has to wait.
# Playwright 1.65.2 for Python, Chromium 156.0.8078.108 of Debian (at /usr/bin/chromium, not installed here).
# Expected: either the expression is read as page.evaluate reads it, which no Content-Security-Policy forbids, or
# the call fails always.
# Seen: the first look is allowed, every further one throws EvalError: a test passes while the page is fast and
# fails on a slow day, in words about the page's policy. The same condition as a function, "() => ...", waits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[ -x /usr/bin/chromium ] || { echo "chromium is missing: apt-get install chromium" >&2; exit 1; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet playwright==1.65.2
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import sys

from playwright.sync_api import Error, sync_playwright

PAGE = "<!doctype html><title>Pictures</title><script src='/page.js'></script>"
SCRIPT = "document.title = 'Loading'; setTimeout(() => { document.title = 'Loaded' }, 1000)"
POLICY = {"Content-Security-Policy": "script-src 'self'"}


def serve(route):
    if route.request.url.endswith(".js"):
        route.fulfill(body=SCRIPT, content_type="text/javascript")
    else:
        route.fulfill(body=PAGE, content_type="text/html", headers=POLICY)


def waited(condition):
    page = browser.new_page()
    page.route("**/*", serve)
    page.goto("http://127.0.0.1/")
    try:
        page.wait_for_function(condition, timeout=30_000)
        return "passed"
    except Error as error:
        return "EvalError" if "EvalError" in error.message else error.message
    finally:
        page.close()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
    holds = waited("document.title.startsWith('Load')")
    later = waited("document.title === 'Loaded'")
    function = waited("() => document.title === 'Loaded'")
    browser.close()
print("holds already:", holds, "holds later:", later, "holds later, as a function:", function)
assert holds == function == "passed"
if later == "passed":
    sys.exit("changed: an expression waits too")
assert later == "EvalError"
PROGRAM
