"""A server on this machine that speaks the Hugging Face hub's protocol for models and data sets, so that the clients'
own code runs."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

Files = dict[str, bytes]
NOWHERE = "http://127.0.0.1:9"  # where nobody listens


class Hub(ThreadingHTTPServer):
    """Repositories as {id: {file: bytes}}; a data set's id begins with datasets/, and another branch of it is called
    ID@BRANCH. `gated` ones list their files and give none. `asked` is what was fetched, `requests` has
    the paths of all requests. `cards` has what the front matter of a repository's README says. While it is `down` it
    answers nothing but 503."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, Files] = {}
        self.gated: set[str] = set()
        self.cards: dict[str, dict[str, Any]] = {}
        self.tells_sizes = True
        self.asked: list[str] = []
        self.requests: list[str] = []
        self.down = False
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def branch(self, name: str, revision: str) -> str | None:
        """The repository that a revision is, a branch or the commit of one; None where there is none."""
        names = [name, *(key for key in self.repositories if key.startswith(f"{name}@"))]
        return next((key for key in names if revision in (key.partition("@")[2] or "main", commit_of(key))), None)


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A server, as the hub that the client knows, which does not wait before it tries again, with an empty cache."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    server = Hub()
    point_to(server.address, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patient = "huggingface_hub.utils._http.time"  # 23 s before it gives a server up
    monkeypatch.setattr(patient, SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None}))
    yield server
    server.shutdown()
    server.server_close()


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


def commit_of(key: str) -> str:
    """The only commit of a repository, or of a branch of it."""
    return hashlib.sha1(key.encode()).hexdigest()


class Answers(BaseHTTPRequestHandler):
    """/api/models/ID/..., /api/datasets/ID/..., /ID/resolve/REVISION/FILE and /datasets/ID/resolve/REVISION/FILE."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.server.down:
            return self.answer(503)
        if parts[0] == "api":
            kind = "" if parts[1] == "models" else "datasets/"
            return self.tell(kind + "/".join(parts[2:4]), [unquote(part) for part in parts[4:]], body)
        kind = parts.pop(0) + "/" if parts[0] == "datasets" else ""
        return self.give_file(kind + "/".join(parts[:2]), unquote(parts[3]), unquote("/".join(parts[4:])))

    do_HEAD = do_POST = do_GET

    def tell(self, name: str, rest: list[str], body: bytes) -> None:
        """What there is: the repository, the files below a folder, or those of the paths asked for."""
        if name not in self.server.repositories:
            return self.refuse(401, "RepoNotFound")
        what, revision, *path = rest or ["revision", "main"]
        key = self.server.branch(name, revision)
        if key is None:
            return self.refuse(404, "RevisionNotFound")
        files = self.server.repositories[key]
        if what == "tree":
            return self.list_below(files, "/".join(path))
        if what == "paths-info":
            asked = [path.strip("/") for path in parse_qs(body.decode()).get("paths", [])]
            return self.send([entry for entry in entries(files) if entry["path"] in asked])
        has_sizes = self.server.tells_sizes and "blobs=true" in self.path.lower()
        listed = [{"rfilename": path} | ({"size": len(data)} if has_sizes else {}) for path, data in files.items()]
        told = {"id": name.removeprefix("datasets/"), "sha": commit_of(key), "siblings": listed}
        return self.send(told | ({"cardData": self.server.cards[name]} if name in self.server.cards else {}))

    def list_below(self, files: Files, folder: str) -> None:
        start = f"{folder}/" if folder else ""
        below = [entry for entry in entries(files) if entry["path"].startswith(start)]
        if not below:
            return self.refuse(404, "EntryNotFound")
        if "recursive=true" not in self.path.lower():
            below = [entry for entry in below if "/" not in entry["path"][len(start) :]]
        return self.send(below)

    def give_file(self, name: str, revision: str, path: str) -> None:
        if name not in self.server.repositories:
            return self.refuse(401, "RepoNotFound")
        if name in self.server.gated:
            return self.refuse(403, "GatedRepo")
        key = self.server.branch(name, revision)
        if key is None:
            return self.refuse(404, "RevisionNotFound")
        data = self.server.repositories[key].get(path)
        if data is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit_of(key)})
        if self.command == "GET":
            self.server.asked.append(path)
        return self.answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit_of(key)})

    def send(self, said: Any) -> None:
        self.answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code})

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def entries(files: Files) -> list[dict[str, Any]]:
    """Files and the folders that they lie in, as the hub lists them."""
    folders = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
    listed = [{"type": "directory", "path": path, "size": 0, "oid": commit_of(path)} for path in sorted(folders)]
    return listed + [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]
