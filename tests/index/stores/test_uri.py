"""Addresses of stores, which may contain a password, and what may be shown of them."""

import pytest

from diptych.errors import ArgumentError
from diptych.index.stores.uri import StoreURI, hidden, is_store_uri


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("postgresql://host/db", "postgresql://host/db", "diptych"),
        ("postgres://host/db#photos", "postgresql://host/db", "photos"),
        ("POSTGRESQL:///db?host=/run/x#a_1", "postgresql:///db?host=/run/x", "a_1"),
        ("milvus://host:19530/photos", "milvus://host:19530", "photos"),
        ("milvus://host:19530", "milvus://host:19530", "diptych"),
        ("milvus://host/photos/?db=one", "milvus://host?db=one", "photos"),
        ("milvus:///folder/file.db", "milvus:///folder/file.db", "diptych"),
        ("milvus:///folder/file.db#photos", "milvus:///folder/file.db", "photos"),
    ],
)
def test_an_address_has_a_name(text: str, address: str, name: str) -> None:
    assert StoreURI.parse(text)[1:3] == (address, name)
    assert is_store_uri(text)


@pytest.mark.parametrize("text", ["photos/", "/a/b", "s3://bucket", "file:///a", "C:\\pictures", "", "milvus", None, 3])
def test_a_folder_is_no_address(text: object) -> None:
    assert not is_store_uri(text)


@pytest.mark.parametrize(
    "text", ["photos/", "s3://user:geheim@bucket", "postgresql://h/d#a b", "milvus://h/" + "a" * 41]
)
def test_what_is_no_address_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        StoreURI.parse(text)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:ge%2Fheim@host/db#photos",
        "postgresql://host/db?user=me&password=ge%2Fheim&sslmode=require#photos",
        "postgresql://me:ge%2Fheim@one:1,two:2/db#photos",
        "milvus://root:ge%2Fheim@host:19530/photos",
        "milvus://host:19530/photos?token=ge%2Fheim",
        "milvus://:ge%2Fheim@host:19530/photos",
    ],
)
def test_no_password_is_shown(text: str) -> None:
    parsed = StoreURI.parse(text)
    shown = f"{parsed} {parsed!r} {[parsed]} {hidden('it said ge/heim and ge%2Fheim', parsed.secrets)}"
    assert "heim" not in shown
    assert "host" in shown or "one:1" in shown
    assert "photos" in shown
    assert "***" in str(parsed)
    assert "ge%2Fheim" in parsed.address
