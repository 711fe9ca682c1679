"""Browsing, thumbnails and original files."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych
from diptych.serve.library import browsing
from diptych.serve.library.files.originals import Span, span_of
from diptych.serve.web.problems import RequestProblem
from tests.drawn_files import video


def all_items(client: TestClient, **options: object) -> list[dict]:
    return client.get("/v1/items", params=options).json()["items"]


def test_every_file_is_listed_once_in_the_order_that_is_asked_for(client: TestClient) -> None:
    assert [item["path"] for item in all_items(client, sort="path", order="asc")] == ["0.png", "1.png", "below/2.png"]
    assert [item["path"] for item in all_items(client, sort="path", order="desc")] == ["below/2.png", "1.png", "0.png"]
    assert [item["path"] for item in all_items(client, kind="text")] == ["notes.txt"]
    sizes = [item["size"] for item in all_items(client, sort="size")]
    assert sizes == sorted(sizes, reverse=True)


def test_a_list_is_read_page_by_page(client: TestClient) -> None:
    first = client.get("/v1/items", params={"sort": "path", "order": "asc", "limit": 2}).json()
    assert (len(first["items"]), first["total"], first["next_offset"]) == (2, 3, 2)
    params = {"sort": "path", "order": "asc", "limit": 2, "offset": 2, "cursor": first["cursor"]}
    last = client.get("/v1/items", params=params).json()
    assert ([item["path"] for item in last["items"]], last["next_offset"]) == (["below/2.png"], None)
    assert client.get("/v1/items", params={"offset": 99}).json()["items"] == []


def test_an_item_has_its_frames_copies_and_texts(serve, several: Path, tiny: diptych.Embedder) -> None:
    (several / "0.txt").write_text("a caption of its own\n")
    (several / "copy.png").write_bytes((several / "0.png").read_bytes())
    diptych.open_index(several, model=tiny).update()
    client = serve(several)
    (item,) = all_items(client, path="0.png")
    details = client.get(f"/v1/items/{item['id']}").json()
    assert details["copies"] == ["copy.png"]
    assert [text["text"] for text in details["texts"]] == ["a caption of its own"]
    assert details["caption"] == "a caption of its own"
    assert details["frames"] == []
    assert (details["width"], details["height"], details["folder"]) == (64, 48, "")


def test_items_are_looked_up_without_those_that_are_gone(client: TestClient) -> None:
    ids = [item["id"] for item in all_items(client)]
    found = client.post("/v1/items/lookup", json={"ids": [ids[1], 10**6, ids[0]]}).json()["items"]
    assert [item["id"] for item in found] == [ids[1], ids[0]]
    assert client.get("/v1/items/1000000").json()["code"] == "NotFoundError"


def test_facets_count_what_the_filters_select(client: TestClient) -> None:
    facets = client.get("/v1/facets").json()
    assert facets["kinds"] == {"picture": 3, "text": 1}
    assert facets["folders"] == [{"path": "", "count": 3}, {"path": "below", "count": 1}]
    assert client.get("/v1/facets", params={"kind": "text"}).json()["total"] == 1


def test_a_subfolder_shows_its_own_files_alone_by_their_paths_in_it(serve, several: Path, tiny) -> None:
    (several / "below" / "deep").mkdir()
    Image.new("RGB", (33, 33), "red").save(several / "below" / "deep" / "red.png")
    (several / "below" / "copy.png").write_bytes((several / "below" / "2.png").read_bytes())
    diptych.open_index(several, model=tiny).update()
    client = serve(several / "below")
    listed = all_items(client, sort="path", order="asc")
    paths = ["2.png", "copy.png", "deep/red.png"]
    assert [(item["path"], item["folder"]) for item in listed] == list(zip(paths, ("", "", "deep"), strict=True))
    assert [all_items(client, path=item["path"]) for item in listed] == [[item] for item in listed]
    assert client.get("/v1/facets").json()["folders"] == [{"path": "", "count": 2}, {"path": "deep", "count": 1}]
    assert client.get(f"/v1/items/{listed[0]['id']}").json()["copies"] == ["copy.png"]
    found = client.get("/v1/search", params={"q": "a house"}).json()["hits"]
    assert {hit["path"]: hit["copies"] for hit in found} == {"2.png": ["copy.png"], "deep/red.png": []}
    for kind in ("paths", "csv"):
        body = {"items": [item["id"] for item in listed], "format": kind}
        lines = client.post("/v1/exports", json=body).text.splitlines()
        assert [line.partition(",")[0] for line in lines[-3:]] == paths
    outside = [item["id"] for item in all_items(serve(several), path="0.png")]
    assert client.get(f"/v1/items/{outside[0]}").status_code == 404
    assert client.get(f"/v1/thumbnails/{outside[0]}").status_code == 404


def test_a_list_follows_files_that_get_another_name_or_date(serve, several: Path, tiny) -> None:
    """Their items stay, and what was known of them does not."""
    client = serve(several)
    (item,) = all_items(client, path="0.png")
    search = {"terms": [{"text": "a house"}], "filters": {"path": "zoo/**"}}
    assert client.post("/v1/search", json=search).json()["total"] == len(all_items(client, path="zoo/**")) == 0
    version = client.get("/v1/index").json()["version"]
    (several / "zoo").mkdir()
    (several / "0.png").rename(several / "zoo" / "last.png")
    diptych.open_index(several, model=tiny).update()
    assert client.get("/v1/index").json()["version"] != version
    assert [one["id"] for one in all_items(client, path="zoo/**")] == [item["id"]]
    assert [hit["path"] for hit in client.post("/v1/search", json=search).json()["hits"]] == ["zoo/last.png"]
    assert all_items(client, sort="path", order="asc")[-1]["id"] == item["id"]
    since = {"since": "2001", "until": "2001", "file_dates": True}
    assert all_items(client, **since) == []
    os.utime(several / "zoo" / "last.png", (1_000_000_000, 1_000_000_000))
    diptych.open_index(several, model=tiny).update()
    assert [one["id"] for one in all_items(client, **since)] == [item["id"]]


# --- thumbnails


def test_a_thumbnail_is_the_whole_picture_upright_and_never_enlarged(serve, tmp_path: Path, tiny) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # turned by a quarter
    Image.new("RGB", (1000, 500), "green").save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (50, 20), "green").save(tmp_path / "small.png")
    diptych.open_index(tmp_path, model=tiny).update()
    client = serve(tmp_path)
    sizes = {}
    for item in all_items(client):
        answer = client.get(item["thumbnail"], params={"width": 300})
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as picture:
            sizes[item["name"]] = picture.size
    assert sizes == {"turned.jpg": (160, 320), "small.png": (50, 20)}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "I;16", "1"])
def test_thumbnails_of_pictures_of_every_kind_look_alike(serve, tmp_path: Path, tiny, mode: str) -> None:
    """White above, black below; transparent is white."""
    drawn = np.zeros((64, 64), np.uint8)
    drawn[:32] = 255
    grey = Image.fromarray(drawn)
    if mode == "I;16":
        Image.fromarray(drawn.astype(np.uint16) * 257).save(tmp_path / "a.png")
    elif mode in ("RGBA", "LA"):
        seen = grey.convert(mode)
        seen.putpixel((5, 5), (0, 0, 0, 0)[-len(mode) :])
        seen.save(tmp_path / "a.png")
    else:
        grey.convert("RGB").convert(mode).save(tmp_path / "a.tif")
    diptych.open_index(tmp_path, model=tiny).update()
    client = serve(tmp_path)
    (item,) = all_items(client)
    with Image.open(io.BytesIO(client.get(item["thumbnail"]).content)) as picture:
        assert (picture.mode, picture.size) == ("RGB", (64, 64))
        pixels = np.asarray(picture).astype(int)
    assert pixels[2:30].min() > 200
    assert pixels[34:].max() < 50


def test_the_caption_of_a_film_shows_its_first_frame(serve, tmp_path: Path, tiny) -> None:
    video(tmp_path / "film.mp4", [(255, 0, 0), (0, 0, 255)], seconds_each=3, metadata={"comment": "red, then blue"})
    diptych.open_index(tmp_path, model=tiny).update()
    client = serve(tmp_path)
    (hit,) = client.get("/v1/search", params={"q": "red", "modality": "text"}).json()["hits"]
    assert (hit["kind"], hit["text"]) == ("video", "red, then blue")
    with Image.open(io.BytesIO(client.get(hit["thumbnail"]).content)) as picture:
        red, _, blue = np.asarray(picture).mean(axis=(0, 1))
    assert red > 200 > 50 > blue
    assert client.post("/v1/locate", json={"picture": {"item": hit["id"]}, "phrase": "red"}).status_code == 200


def test_a_thumbnail_is_made_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    item, thumbnails = all_items(client)[0], client.service.library.thumbnails
    first = client.get(item["thumbnail"]).content
    made = thumbnails.made
    assert client.get(item["thumbnail"]).content == first
    assert client.get(item["thumbnail"], params={"width": 310}).content == first, "widths are rounded up"
    assert thumbnails.made == made


def test_a_browser_keeps_a_thumbnail(client: TestClient) -> None:
    item = all_items(client)[0]
    answer = client.get(item["thumbnail"])
    assert "immutable" in answer.headers["cache-control"]
    again = client.get(item["thumbnail"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for known in (f'"other", W/{answer.headers["etag"]}', "*"):
        assert client.get(item["thumbnail"], headers={"If-None-Match": known}).status_code == 304
    assert client.get(item["thumbnail"], headers={"If-None-Match": '"other"'}).status_code == 200
    assert "immutable" not in client.get(f"/v1/thumbnails/{item['id']}").headers["cache-control"]


def test_the_cache_of_thumbnails_is_bounded(serve, several: Path, tiny: diptych.Embedder) -> None:
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(several / f"noise-{number}.png")
    diptych.open_index(several, model=tiny).update()
    client = serve(several, thumbnail_cache_bytes=20_000)
    thumbnails = client.service.library.thumbnails
    for item in all_items(client):
        assert client.get(item["thumbnail"]).status_code == 200
    assert 0 < thumbnails._measured() <= 20_000


def test_servers_that_share_the_cache_stay_within_its_bound_together(
    serve, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.serve.library.files.thumbnails._MEASURED_EACH", 1)
    one, other = (serve(several, thumbnail_cache_bytes=20_000).service.library.thumbnails for _ in range(2))
    for number in range(12):
        (one, other)[number % 2].made += 1
        (one, other)[number % 2]._write(f"ab/{number}.jpg", b"x" * 4000)
        assert one._measured() <= 20_000


def test_a_file_that_is_gone_or_damaged_says_so(serve, several: Path, tiny: diptych.Embedder) -> None:
    Image.new("RGB", (33, 33), "red").save(several / "broken.png")
    diptych.open_index(several, model=tiny).update()
    client = serve(several)
    (item,) = all_items(client, path="broken.png")
    (several / "broken.png").write_bytes(b"no picture any more")
    answer = client.get(item["thumbnail"], params={"width": 640})
    assert (answer.status_code, answer.json()["reason"]) == (422, "not an image")
    (several / "broken.png").unlink()
    assert client.get(item["thumbnail"], params={"width": 640}).json()["reason"] == "missing"
    (text,) = all_items(client, kind="text")
    assert client.get(f"/v1/thumbnails/{text['id']}").status_code == 404


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_that_leads_out_is_neither_drawn_nor_sent(serve, several: Path, tmp_path: Path) -> None:
    client = serve(several, originals=True)
    (item,) = all_items(client, path="1.png")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "secret.png")
    (several / "1.png").unlink()
    (several / "1.png").symlink_to(tmp_path / "secret.png")
    assert client.get(item["original"]).status_code == 404
    assert client.get(item["thumbnail"], params={"width": 1280}).status_code in (404, 422)


# --- originals


def test_original_files_are_sent_only_where_that_is_asked_for(client: TestClient, serve, indexed: Path) -> None:
    item = all_items(client)[0]
    refused = client.get(f"/v1/items/{item['id']}/original")
    assert (refused.status_code, refused.json()["code"]) == (403, "NotOfferedError")
    assert refused.json()["remedy"] == "Start it with --originals."
    open_client = serve(indexed, originals=True)
    item = all_items(open_client)[0]
    answer = open_client.get(item["original"])
    assert answer.content == (indexed / item["path"]).read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"].endswith("sandbox")


def test_a_part_of_a_file_is_sent(serve, indexed: Path) -> None:
    client = serve(indexed, originals=True)
    item = all_items(client)[0]
    whole = (indexed / item["path"]).read_bytes()
    part = client.get(item["original"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    none = client.get(item["original"], headers={"Range": f"bytes={len(whole)}-"})
    assert (none.status_code, none.headers["content-range"]) == (416, f"bytes */{len(whole)}")


def test_an_original_is_sent_again_once_it_has_changed(serve, several: Path) -> None:
    client = serve(several, originals=True)
    (item,) = all_items(client, path="0.png")
    tag = client.get(item["original"]).headers["etag"]
    known = client.get(item["original"], headers={"If-None-Match": tag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    part = {"Range": "bytes=0-3", "If-Range": tag}
    assert client.get(item["original"], headers=part).status_code == 206
    other = b"another file of another length"
    (several / "0.png").write_bytes(other)
    assert client.get(item["original"], headers={"If-None-Match": tag}).content == other
    whole = client.get(item["original"], headers=part)
    assert (whole.status_code, whole.content) == (200, other), "two halves of two files make none"


@pytest.mark.parametrize("path", ["/", "/v1/health", "/v1/items", "/v1/events", "original", "thumbnail", "/v1/nothing"])
def test_head_is_get_without_the_body(serve, indexed: Path, path: str) -> None:
    client = serve(indexed, originals=True)
    address = all_items(client)[0].get(path, path)
    head = client.head(address)
    assert head.content == b""
    if path != "/v1/events":  # an endless stream
        got = client.get(address)
        assert head.status_code == got.status_code
        for name in ("content-length", "content-type", "etag", "cache-control"):
            assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("Bytes=5-9", Span(5, 10)),
        ("bytes=0-", Span(0, 100)),
        ("bytes=5-9", Span(5, 10)),
        ("bytes=90-500", Span(90, 100)),
        ("bytes=-7", Span(93, 100)),
        ("bytes=-700", Span(0, 100)),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
        ("bytes=-", None),
    ],
)
def test_ranges(header: str | None, span: Span | None) -> None:
    assert span_of(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=9-5", "bytes=-0"])
def test_ranges_that_a_file_does_not_have(header: str) -> None:
    with pytest.raises(RequestProblem):
        span_of(header, 100)


def test_the_first_view_is_made_ahead_and_once_for_each_state(
    serve, several: Path, tiny: diptych.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    for name in ("ids_in_order", "facets"):
        real = getattr(browsing, name)
        monkeypatch.setattr(browsing, name, lambda *args, name=name, real=real: made.append(name) or real(*args))
    client = serve(several)
    library = client.service.library
    library.browsing.make_ahead()
    library.browsing.close()  # waits for it
    assert made == ["ids_in_order", "facets"]
    assert len(all_items(client)) == len(all_items(client)) == 3
    assert client.get("/v1/facets").json()["total"] == 4
    assert made == ["ids_in_order", "facets"]
    (several / "0.png").unlink()
    diptych.open_index(several, model=tiny).update()
    assert len(all_items(client)) == 2
    assert client.get("/v1/facets").json()["total"] == 3
    assert made == ["ids_in_order", "facets"] * 2
