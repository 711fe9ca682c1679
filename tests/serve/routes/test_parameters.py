"""What a route takes behind the `?`."""

import pytest
from starlette.testclient import TestClient

import diptych
from diptych.serve.routes import overview
from tests.conftest import TESTS


@pytest.mark.parametrize(
    ("address", "named", "remedy"),
    [
        ("search?q=a&limt=1", "'limt'", "Did you mean limit? The parameters are box, "),
        ("search?q=a&relevnt=1&Limit=2", "'relevnt', 'Limit'", "Did you mean relevant and limit? The parameters are "),
        ("items?qqqqq=a", "'qqqqq'", "The parameters are box, "),
        ("items?limit=1&a1=&b1=&c1=&d1=", "'a1', 'b1', 'c1' and 1 more", "The parameters are box, "),
        ("server?%1b%5b31m=1", r"'\x1b[31m'", "This address takes no parameters."),
        ("uploads/u_1/thumbnail?widht=3", "'widht'", "Did you mean width? The parameters are width."),
        ("embed?normalize=1", "'normalize'", "This address takes no parameters."),
    ],
)
def test_a_parameter_that_a_route_lacks_is_named(client: TestClient, address: str, named: str, remedy: str) -> None:
    answer = client.post("/v1/embed?normalize=1", json={}) if "embed" in address else client.get(f"/v1/{address}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "RequestError"
    assert problem["problem"] == f"there is no parameter {named}."
    assert problem["remedy"].startswith(remedy)


def test_the_documented_parameters_are_those_that_are_taken(client: TestClient) -> None:
    """Every one is known to its route: what is wrong with the values of some is said of them."""
    for path, methods in client.get("/v1/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            names = {each["name"]: "1" for each in operation.get("parameters", []) if each["in"] == "query"}
            if names and "/events" not in path:
                answer = client.request(method, path.replace("{id}", "1"), params=names)
                assert "no parameter" not in answer.text, (method, path)


def test_the_documentation_shows_this_version() -> None:
    text = (TESTS.parent / "docs" / "serve.md").read_text(encoding="utf-8")
    assert f'`GET /v1/server` → `{{"version": "{diptych.__version__}",' in text


def test_the_page_keeps_its_own_address(client: TestClient) -> None:
    assert client.get("/?q=a+house&like=17&anything=1").status_code == 200
    assert client.get("/code/api.js?anything=1").status_code == 200


def test_a_map_by_a_method_that_is_not_installed_is_refused_each_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: False)
    monkeypatch.setattr(overview, "picture_map", lambda *arguments: pytest.fail("it was begun"))
    for path in ["/v1/map", "/v1/map/regions"] * 2:
        answer = client.get(path, params={"method": "umap"})
        assert (answer.status_code, answer.json()["code"]) == (501, "MissingExtraError")
        assert "pip install 'diptych[map]'" in answer.json()["detail"]
