"""What was asked to be forgotten is known again, and the file does not say what it was."""

from pathlib import Path

import pytest

from diptych.collect.output.forgotten import Forgotten, Kind
from diptych.errors import ArgumentError, DataError

DIGEST = "0f" * 32


def remembering(out: Path, kind: Kind, text: str) -> Forgotten:
    Forgotten(out).remember([(kind, text)])
    return Forgotten(out)


def test_a_new_folder_has_forgotten_nothing(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path / "new")
    assert not forgotten.covers(url="https://example.org/a.jpg", domain="example.org", sha256=DIGEST)
    assert not len(forgotten)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("https://example.org/a%20b.jpg?x=1", True),
        ("http://EXAMPLE.org:80/a b.jpg?x=1#part", True),
        ("https://example.org./a%20b.jpg?x=1", True),
        ("https://user:word@example.org/a%20b.jpg?x=1", True),
        ("https://example.org:8443/a%20b.jpg?x=1", False),
        ("https://example.org/a%20b.jpg", False),
        ("https://www.example.org/a%20b.jpg?x=1", False),
        ("https://example.org/A%20b.jpg?x=1", False),
        ("https://[broken/", False),
        ("", False),
    ],
)
def test_an_address_is_known_in_its_other_forms(tmp_path: Path, url: str, covered: bool) -> None:
    forgotten = remembering(tmp_path, "url", "https://example.org/a%20b.jpg?x=1")
    assert forgotten.covers(url=url) == covered


@pytest.mark.parametrize(
    ("asked", "url", "covered"),
    [
        ("example.org", "https://example.org/a.jpg", True),
        ("example.org", "http://cdn.images.Example.org:8080/a.jpg", True),
        ("https://example.org/", "https://example.org/a.jpg", True),
        ("example.org", "https://notexample.org/a.jpg", False),
        ("example.org", "https://example.org.evil.net/example.org", False),
        ("cdn.example.org", "https://example.org/a.jpg", False),
        ("bücher.example", "https://xn--bcher-kva.example/a.jpg", True),
        ("127.0.0.1", "http://127.0.0.1:8000/a.jpg", True),
        ("0.0.1", "http://127.0.0.1/a.jpg", False),
        ("[::1]", "http://[::1]:8000/a.jpg", True),
        ("::1", "http://[::1]:8000/a.jpg", True),
        ("2001:db8::2", "http://[2001:db8::2]/a.jpg", True),
    ],
)
def test_a_domain_covers_those_below_it(tmp_path: Path, asked: str, url: str, covered: bool) -> None:
    forgotten = remembering(tmp_path, "domain", asked)
    assert forgotten.covers(url=url) == covered


def test_a_domain_is_known_without_an_address(tmp_path: Path) -> None:
    forgotten = remembering(tmp_path, "domain", "example.org")
    assert forgotten.covers(domain="www.example.org")
    assert not forgotten.covers(domain="example.com")


def test_a_picture_is_known_by_its_digest(tmp_path: Path) -> None:
    forgotten = remembering(tmp_path, "sha256", DIGEST.upper())
    assert forgotten.covers(sha256=DIGEST)
    assert not forgotten.covers(sha256="1" + DIGEST[1:])
    assert not forgotten.covers(url=DIGEST, domain=DIGEST)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("url", "example.org/a.jpg"), ("url", "https:///a.jpg"), ("url", ""), ("domain", ""), ("domain", "a b"),
     ("domain", ".example.org"), ("domain", "example..org"), ("domain", "someone@example.org"),
     ("domain", "https://example.org/a.jpg"), ("sha256", "abc"), ("sha256", "g" * 64)],
)  # fmt: skip
def test_what_is_no_request_is_refused(tmp_path: Path, kind: Kind, text: str) -> None:
    with pytest.raises(ArgumentError, match="wanted"):
        Forgotten(tmp_path).remember([("domain", "example.org"), (kind, text)])
    assert not (tmp_path / "forgotten.json").exists()


def test_the_file_does_not_name_what_was_asked(tmp_path: Path) -> None:
    texts = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        remembering(folder, "url", "https://example.org/portrait.jpg")
        texts.append((folder / "forgotten.json").read_text())
        assert "example" not in texts[-1]
        assert "portrait" not in texts[-1]
    assert texts[0] != texts[1]


def test_memories_of_two_collections_are_joined(tmp_path: Path) -> None:
    remembering(tmp_path / "from", "domain", "example.org")
    remembering(tmp_path / "from", "url", "https://example.com/1.jpg")
    remembering(tmp_path / "into", "sha256", DIGEST)
    for _ in range(2):
        Forgotten(tmp_path / "into").adopt(Forgotten(tmp_path / "from"))
        joined = Forgotten(tmp_path / "into")
        assert joined.covers(url="https://example.org/a.jpg")
        assert joined.covers(url="https://example.com/1.jpg")
        assert joined.covers(sha256=DIGEST)
        assert len(joined) == 3
    remembering(tmp_path / "into", "domain", "example.net")
    assert Forgotten(tmp_path / "into").covers(domain="example.net")
    assert Forgotten(tmp_path / "into").covers(domain="example.org")


@pytest.mark.parametrize("content", ["", "{}", '{"forgotten": [1]}', '{"forgotten": [{"salt": "zz", "hashes": []}]}'])
def test_a_damaged_file_ends_the_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "forgotten.json").write_text(content)
    with pytest.raises(DataError, match="restore it from a copy"):
        Forgotten(tmp_path)
