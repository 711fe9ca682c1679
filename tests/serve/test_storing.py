"""A server whose folders cannot be written."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.serve.conftest import Serve


def test_what_cannot_be_kept_is_said_and_the_rest_is_answered(
    serve: Serve, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of both folders, which stops root as well."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setattr("diptych.serve.service._cache", lambda name: blocked / name)
    monkeypatch.setattr("diptych.storage.user.configuration.folder", lambda: blocked / "diptych")
    client = serve(indexed)
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "olive").save(file, "PNG")
    upload = client.post("/v1/uploads", content=file.getvalue(), headers={"Content-Type": "image/png"})
    album = client.post("/v1/albums", json={"name": "Best", "items": [1]})
    for answer, folder in ((upload, "cache"), (album, "configuration")):
        assert (answer.status_code, answer.json()["code"]) == (507, "NotStoredError")
        assert f"needs a {folder} folder" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
    id = client.get("/v1/items").json()["items"][0]["id"]
    assert client.get(f"/v1/thumbnails/{id}").status_code == 200, "drawn again each time"
    assert client.get("/v1/search?q=a+house").json()["hits"]
