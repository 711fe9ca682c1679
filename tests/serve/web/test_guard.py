"""Who is answered, and what every answer carries."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from diptych.errors import ArgumentError
from diptych.serve.settings import ServeSettings

TOKEN = "a long enough token"


@pytest.fixture
def guarded(serve) -> TestClient:
    """Asks for a token."""
    return serve(token=TOKEN)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST"])
def test_a_browser_here_may_use_any_of_this_machine_s_names(alone: TestClient, host: str) -> None:
    assert alone.get("/v1/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8000", "192.168.1.7:8000", "", "[::1", "[::2]"]
)
def test_another_site_s_name_for_this_machine_is_refused(alone: TestClient, host: str) -> None:
    answer = alone.get("/v1/health", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "HostError")


def test_names_of_the_server_in_a_network() -> None:
    settings = ServeSettings(host="0.0.0.0", token=TOKEN, hosts=("photos.example",))
    assert all(map(settings.answers_to, ("192.168.1.7", "[fe80::1]", "photos.example", "PHOTOS.example.", "localhost")))
    assert not any(map(settings.answers_to, ("evil.example", "", "photos.example.evil.example")))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "myhost"])
def test_a_server_for_other_machines_needs_a_token(host: str) -> None:
    with pytest.raises(ArgumentError, match="a token is needed"):
        ServeSettings(host=host)
    ServeSettings(host=host, token=TOKEN)
    with pytest.raises(ArgumentError, match="shorter"):
        ServeSettings(host=host, token="short")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_a_server_for_this_machine_needs_none(host: str) -> None:
    assert ServeSettings(host=host).is_loopback


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost:8000.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_site_s_page_may_not_ask(alone: TestClient, headers: dict, method: str) -> None:
    answer = alone.request(method, "/v1/models", headers={"Host": "localhost:8000", **headers})
    assert (answer.status_code, answer.json()["code"]) == (403, "OriginError")


def test_a_link_from_another_site_opens_the_page(alone: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert alone.get("/", headers=headers).status_code == 200
    assert alone.post("/", headers=headers).status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost:8000"}, {"Sec-Fetch-Site": "same-origin"}])
def test_the_own_page_and_programs_may_ask(alone: TestClient, headers: dict) -> None:
    assert alone.get("/v1/models", headers={"Host": "localhost:8000", **headers}).status_code == 200


def test_a_named_site_may_ask(serve) -> None:
    client = serve(cors=("https://a.example",))
    answer = client.get("/v1/models", headers={"Origin": "https://a.example"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    asked = client.options(
        "/v1/embed", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    )
    assert asked.status_code == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert client.get("/v1/models", headers={"Origin": "https://b.example"}).status_code == 403


def test_no_site_is_named_by_default(alone: TestClient) -> None:
    assert not [name for name in alone.get("/v1/models").headers if name.startswith("access-control")]


# --- the token


def test_without_the_token_nothing_is_answered_but_health(guarded: TestClient) -> None:
    """And the page's own files, which are the same everywhere: the page asks for the token."""
    for path in ("/v1/models", "/v1/openapi.json", "/v1/items", "/v1/metrics", "/v1/none", "/v1/errors"):
        answer = guarded.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "TokenError"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert guarded.get("/v1/health").status_code == 200
    assert guarded.get("/").headers["content-type"].startswith("text/html")
    assert guarded.get("/", params={"token": "another one"}).status_code == 401
    assert guarded.get("/none").status_code == 404


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"])
def test_another_token_is_refused(guarded: TestClient, given: str) -> None:
    assert guarded.get("/v1/models", headers={"Authorization": given.encode("latin-1")}).status_code == 401


def test_programs_send_the_token(guarded: TestClient) -> None:
    assert guarded.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/v1/models", headers={"Authorization": f"bearer  {TOKEN}"}).status_code == 200


def test_the_page_exchanges_it_for_a_cookie(guarded: TestClient) -> None:
    answer = guarded.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    shared = guarded.get("/", params={"q": "a dog", "token": TOKEN, "like": ["3", "4"]}, follow_redirects=False)
    assert shared.headers["location"] == "/?q=a+dog&like=3&like=4"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/v1/models").status_code == 200, "the client sends the cookie"
    guarded.delete("/v1/session")
    assert guarded.get("/v1/models").status_code == 401
    assert guarded.post("/v1/session", json={"token": TOKEN}).status_code == 204
    assert guarded.get("/v1/models").status_code == 200


def test_a_wrong_token_makes_no_session(guarded: TestClient) -> None:
    assert guarded.get("/", params={"token": "wrong"}, follow_redirects=False).status_code == 401
    assert guarded.post("/v1/session", json={"token": "wrong"}).status_code == 401
    assert guarded.get("/v1/models", headers={"Cookie": "diptych_8000=wrong"}).status_code == 401


def test_the_cookie_does_not_help_another_site(guarded: TestClient) -> None:
    guarded.get("/", params={"token": TOKEN})
    assert (
        guarded.post("/v1/embed", json={"texts": ["a"]}, headers={"Origin": "http://evil.example"}).status_code == 403
    )


# --- limits


def test_a_body_that_is_too_large_is_refused_before_it_is_read(serve) -> None:
    client = serve(max_body_bytes=1000)
    answer = client.post("/v1/embed", content=b" " * 1001, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "TooLargeError")

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    for path in ("/v1/embed", "/v1/embeddings", "/v1/search"):
        answer = client.post(path, content=pieces(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "TooLargeError")


@pytest.mark.parametrize("path", ["/v1/../../etc/passwd", "/..%2f..%2fetc/passwd", "/page/../app.py", "/%00", "//etc"])
def test_no_path_of_a_request_reaches_the_disk(alone: TestClient, path: str) -> None:
    answer = alone.get(f"http://localhost:8000{path}")
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_a_deadline_is_kept(alone: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = alone.post("/v1/embed", json={"texts": ["a"]}, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.json()["code"]) == (504, "DeadlineError")
    assert alone.post("/v1/embed", json={"texts": ["a"]}, headers={"Prefer": "wait=20"}).status_code == 200


# --- what every answer carries


@pytest.mark.parametrize("path", ["/", "/v1/health", "/v1/none", "/v1/embed"])
def test_every_answer_has_its_headers(alone: TestClient, path: str) -> None:
    headers = alone.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/none", 404), ("GET", "/v1/embed", 405), ("GET", "/v1/items", 404), ("POST", "/v1/embed", 415)],
)
def test_every_error_has_one_form(alone: TestClient, method: str, path: str, status: int) -> None:
    answer = alone.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["instance"] == path
    assert {"type", "title", "detail", "message", "code", "problem", "remedy", "argument", "reason"} <= problem.keys()
    assert problem["code"] in {one["code"] for one in alone.get("/v1/errors").json()}


def test_a_bug_is_an_answer_that_tells_nothing_of_it(serve, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(indexed)

    def fail(*_: object) -> None:
        raise KeyError("/home/secret")

    monkeypatch.setattr("diptych.serve.library.browsing.facets", fail)
    answer = client.get("/v1/facets")
    assert (answer.status_code, answer.json()["code"]) == (500, "ServerError")
    assert "secret" not in answer.text


def test_the_log_has_a_line_for_each_request(serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "diptych.access"):
        serve(access_log=True).get("/v1/health?token=secret")
    line = json.loads(caplog.messages[-1])
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/health", 422)
    assert "secret" not in json.dumps(line)
