"""The requests that docs/serve.md begins with are answered."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from tests.serve.conftest import Client

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
SHELL = PAGE.partition("```sh\n")[2].partition("```")[0].splitlines()
SERVER = "http://127.0.0.1:8000"


def asked(client: Client, line: str, picture: Path) -> int:
    """The status of what curl would send."""
    words = shlex.split(line, comments=True)
    address = next(word for word in words if word.startswith(SERVER)).removeprefix(SERVER)
    options = dict(pairwise(words))
    if body := options.get("--json"):
        return client.post(address, json=json.loads(body)).status_code
    if "--data-binary" in words:
        name, value = options["-H"].split(": ")
        return client.post(address, content=picture.read_bytes(), headers={name: value}).status_code
    first = client.get("/v1/items").json()["items"][0]["id"]
    return client.get(re.sub(r"/thumbnails/\d+", f"/thumbnails/{first}", address)).status_code


@pytest.mark.parametrize("line", SHELL)
def test_a_line_of_curl(client: Client, indexed: Path, line: str) -> None:
    picture = next(path for path in sorted(indexed.iterdir()) if path.suffix in (".png", ".jpg"))
    assert asked(client, line, picture) in (200, 201)
