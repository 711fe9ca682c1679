"""What is said of a request whose fields are not valid."""

from typing import Any

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "q is missing."),
        ("q=a&limit=ten", "limit is 'ten'; wanted a whole number."),
        ("q=a&limit=0", "limit is '0'; wanted 1 or more."),
        ("q=a&limit=1000", "limit is '1000'; wanted 500 or less."),
        ("q=a&limit=1.5&offset=x", "offset is 'x'; wanted a whole number. limit is '1.5'; wanted a whole number."),
        ("q=a&relevant=perhaps", "relevant is 'perhaps'; wanted true or false."),
        ("q=a&diverse=x%1b", r"diverse is 'x\x1b'; wanted a number."),
        ("q=a&kind=film", "kind is 'film'; wanted 'picture', 'video' or 'text'."),
        ("q=a&box=1,2,3", "box is '1,2,3'; wanted south,west,north,east in degrees."),
        ("q=a&near=here", "near is 'here'; wanted latitude,longitude,km."),
        ("q=a&box=0,0,999,0", "box.2 is 999.0; wanted 360.0 or less."),
        ("q=", "q is ''; wanted a length of 1 or more."),
        ("q=a&camera=" + "b" * 300, f"camera is '{'b' * 60}'… of 300 characters; wanted a length of 200 or less."),
    ],
)
def test_a_parameter_is_named_with_what_came_and_what_was_wanted(client: TestClient, query: str, said: str) -> None:
    answer = client.get(f"/v1/search?{query}")
    assert (answer.status_code, answer.json()["problem"]) == (422, said)


@pytest.mark.parametrize(
    ("path", "body", "argument", "said"),
    [
        ("search", {"terms": []}, "terms", "terms is a list of 0; wanted a length of 1 or more."),
        ("search", {"terms": 3}, "terms", "terms is 3; wanted a list."),
        ("search", {"terms": ["a"]}, "terms.0", "terms.0 is 'a'; wanted an object."),
        (
            "search",
            {"terms": [{"text": "a", "weight": "1"}]},
            "terms.0.weight",
            "terms.0.weight is '1'; wanted a number.",
        ),
        (
            "search",
            {"terms": [{"text": "a", "item": 1}]},
            "terms.0",
            "terms.0: a term is exactly one of text, vector, data, upload, item and url.",
        ),
        (
            "search",
            {"terms": [{"text": "a"}], "limt": 3, "copies": None},
            "copies",
            "copies is null; wanted true or false. 'limt' is not a field.",
        ),
        ("search", {"terms": [{"text": "a"}], "limit": 10**30}, "limit", None),
        ("classify", {"pictures": [{"item": 1}], "labels": 3}, "labels", "labels is 3; wanted a list or an object."),
        (
            "classify",
            {"pictures": [{"item": 1}], "labels": {"cat": "a cat", "dog": 3}},
            "labels.dog",
            "labels.dog is 3; wanted a text or a list.",
        ),
        ("embed", {"texts": []}, "texts", "texts is a list of 0; wanted a length of 1 or more."),
        ("embed", {"pictures": [{"item": "1"}]}, "pictures.0.item", "pictures.0.item is '1'; wanted a whole number."),
        (
            "classify",
            {"pictures": [{"item": 1}], "labels": ["a"], "templates": ["a photo"]},
            "templates.0",
            "templates.0 is 'a photo'; wanted a text with {} in it.",
        ),
        (
            "search",
            {"terms": [{"upload": "u_1"}]},
            "terms.0.upload",
            "terms.0.upload is 'u_1'; wanted an id that POST /v1/uploads gave.",
        ),
        ("items/lookup", {"ids": ["a", "b", "c", "d", "e"]}, "ids.0", None),
        ("items/lookup", [1], "body", "body is a list of 1; wanted an object."),
        ("embed", {"texts": [1]}, "texts.0", "texts.0 is 1; wanted a text."),
        ("embed", {"input": "a"}, "input", "'input' is not a field."),
        ("embed", {"pictures": [{"item": -1}]}, "pictures.0.item", "pictures.0.item is -1; wanted 1 or more."),
        ("embeddings", {"input": 7}, "input", "input is 7; wanted a text or a list."),
        ("embeddings", {}, "body", "body: give either input or messages."),
    ],
)
def test_a_field_is_named_with_what_came_and_what_was_wanted(
    client: TestClient, path: str, body: Any, argument: str, said: str | None
) -> None:
    answer = client.post(f"/v1/{path}", json=body)
    assert (answer.status_code, answer.json()["argument"]) == (422, argument)
    problem = answer.json()["problem"]
    assert problem == said or said is None
    assert "should" not in problem
    if len(body) == 1 and "ids" in body:
        assert problem.endswith("ids.2 is 'c'; wanted a whole number. And 2 more.")


def test_a_method_that_an_address_does_not_take_is_named_with_those_that_it_takes(client: TestClient) -> None:
    answer = client.put("/v1/search")
    assert answer.status_code == 405
    assert answer.json()["detail"] == "'PUT' is not taken here. This address takes GET, HEAD, POST."
    assert answer.headers["allow"] == "GET, HEAD, POST"
