"""Addresses of stores, which may contain a password, and what may be shown of them."""

import pytest

from diptych.errors import ArgumentError
from diptych.index.stores.uri import StoreURI, hidden, is_store_uri, without_passwords


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
    "text",
    [
        "photos/",
        "s3://user:geheim@bucket",
        "mysql://user:gehe/geheim@h/d",
        "postgresql+psycopg://user:geheim@h/d",
        "postgresql://h/d#a b",
        "milvus://h/" + "a" * 41,
        # where an end of the password is what a client would take for a host, a port, a name or a setting
        "postgresql://user:gehe#geheim@h/d",
        "postgresql://user:gehe?geheim@h/d",
        "postgresql://user:gehe?a=geheim@h/d",
        "postgresql://user:geheim/gehe@h/d",
        "postgresql://user:gehe@geheim@h/d",
        "postgresql://h:geheim/d",
        "milvus://user:gehe/geheim@h:1/n",
        "milvus://user:gehe#geheim@h:1/n",
        "milvus://user:gehe?geheim@h:1/n",
    ],
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
        "milvus://ge%2Fheim@host:19530/photos",
        "postgresql://host/db?options=-c%20a.b%3Dge%2Fheim&password=ge%2Fheim#photos",
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "postgresql://postgres:postgres@localhost/postgres#photos",
            "postgresql://postgres:***@localhost/postgres#photos",
        ),
        ("postgresql://me:5@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("milvus://root:Milvus@host:19530/milvus", "milvus://root:***@host:19530#milvus"),
        ("postgresql://me@one:1,[::1]:2/db?user=a@b", "postgresql://me@one:1,[::1]:2/db?user=a@b"),
        ("postgresql:///db?host=/run/x", "postgresql:///db?host=/run/x"),
    ],
)
def test_what_is_no_secret_is_shown(text: str, shown: str) -> None:
    assert str(StoreURI.parse(text)) == shown


def test_an_address_of_a_driver_is_not_taken_for_a_folder() -> None:
    assert is_store_uri("postgresql+psycopg://me:geheim@host/db")
    assert is_store_uri("postgres+asyncpg://host/db")


def test_passwords_in_a_message_are_hidden() -> None:
    said = "Directory 'mysql://me:ge#he@im/geheim@host/db' does not exist; s3://bucket and http://host:80/x do."
    assert without_passwords(said) == (
        "Directory 'mysql://me:***@host/db' does not exist; s3://bucket and http://host:80/x do."
    )
