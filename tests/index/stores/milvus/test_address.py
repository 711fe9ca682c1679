"""Which Milvus a URI names; passwords are in no text."""

import pytest

from diptych.errors import ArgumentError
from diptych.index.stores.milvus.address import MilvusAddress
from diptych.index.stores.uri import StoreURI


def address(text: str) -> MilvusAddress:
    return MilvusAddress.of(StoreURI.parse(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("milvus:///a%20b/c.db#x", MilvusAddress("/a b/c.db")),
        ("milvus://host/name", MilvusAddress("", "host", 19530)),
        ("milvus://[::1]:1234/name", MilvusAddress("", "::1", 1234)),
        ("milvus://me:p%40ss@host:1/name", MilvusAddress("", "host", 1, "me:p@ss")),
        ("milvus://host:1/n?token=a%3Ab&secure=true&database=d", MilvusAddress("", "host", 1, "a:b", "d", True)),
        ("milvus://host:1/n?user=me&password=p", MilvusAddress("", "host", 1, "me:p")),
    ],
)
def test_an_address_has_parts(text: str, found: MilvusAddress) -> None:
    assert tuple(address(text)) == tuple(found)


@pytest.mark.parametrize(
    "text",
    ["milvus://u:hunter2@h:1/a/b", "milvus:///folder/file", "milvus:///.db", "milvus://u:hunter2@h:1x/n",
     "milvus://u:hunter2@h/n?retries=3", "milvus://u:hunter2@h:99999/n"],
)  # fmt: skip
def test_what_names_no_milvus_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"wanted") as raised:
        address(text)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_texts_show_no_token() -> None:
    found = address("milvus://me:hunter2@host:1/n")
    assert "hunter2" not in f"{found} {found!r}"
