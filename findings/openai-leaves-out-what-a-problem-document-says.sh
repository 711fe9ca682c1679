#!/usr/bin/env bash
# The openai client says nothing of what a server explains, unless it is in a field named "message".
# openai 3.57.0.
# Expected: the standard error body of HTTP (RFC 9457, application/problem+json) is in the text of the exception: its
# "detail" or at least its "title"; or else the whole body, as openai 2.30.0 showed it.
# Seen: only "message" (of "error" or of the whole) is shown. A problem document, FastAPI's {"detail": "..."} and
# {"error": "..."} all read "Error code: 422" in logs and tracebacks, and .message is the same; the words are in .body
# alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openai==3.57.0
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import http.server
import json
import sys
import threading

import openai

REASON = "77 tokens at most, 90 came"
BODIES = {
    "problem": {"type": "https://example.com/too-long", "title": "Too long", "status": 422, "detail": REASON},
    "detail": {"detail": REASON},
    "error": {"error": REASON},
    "message": {"error": {"message": REASON}},
}


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        body = json.dumps(BODIES[form]).encode()
        self.send_response(422)
        self.send_header("Content-Type", f"application/{'problem+' if form == 'problem' else ''}json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def refusal(form):
    try:
        client.embeddings.create(model=form, input="a very long caption")
    except openai.UnprocessableEntityError as error:
        return error
    raise AssertionError("the server refuses everything")


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)
errors = {form: refusal(form) for form in BODIES}
server.shutdown()
for form, error in errors.items():
    print(f"{form}:", [str(error), error.message], "body:", error.body)
    assert REASON in str(error.body)
assert str(errors.pop("message")) == f"Error code: 422 - {REASON}"
if any(REASON in str(error) for error in errors.values()):
    sys.exit("changed: the reason is in the text")
assert {str(error) for error in errors.values()} | {error.message for error in errors.values()} == {"Error code: 422"}
PROGRAM
