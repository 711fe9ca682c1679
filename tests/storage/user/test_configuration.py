"""The user's own configuration: where it lies, who can read it, and what two processes that write at once find."""

import os
import stat
from pathlib import Path

import pytest

from diptych.index.trust import trusted_indexes
from diptych.index.trust.trusted_indexes import TrustRecord
from diptych.storage.user import compiled_cache, configuration
from diptych.storage.user.cache_folder import cache_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "above" / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_where_it_lies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configuration.folder() == home / "above" / "config" / "diptych"
    monkeypatch.setattr("sys.platform", "linux")
    for none in ("", "relative/path"):
        monkeypatch.setenv("XDG_CONFIG_HOME", none)
        assert configuration.folder() == home / "home" / ".config" / "diptych"
    monkeypatch.setattr("sys.platform", "darwin")
    assert configuration.folder() == home / "home" / "Library" / "Application Support" / "diptych"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("APPDATA", str(home / "roaming"))
    assert configuration.folder() == home / "roaming" / "diptych"


@pytest.mark.skipif(os.name != "posix", reason="other systems do not go by HOME")
@pytest.mark.parametrize("home", ["relative", "."])
def test_a_folder_that_one_works_in_is_no_home(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be anybody's: a key, or a compiled model, that lay there would be a stranger's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    for folder in (configuration.folder, lambda: cache_folder("compiled")):
        with pytest.raises(RuntimeError, match="not an absolute path"):
            folder()
    with pytest.raises(RuntimeError):
        trusted_indexes.key()
    compiled_cache.write("a", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions of other systems differ")
def test_nobody_else_reads_it() -> None:
    trusted_indexes.key()
    trusted_indexes.note(TrustRecord(trusted_indexes.new_id(), "/pictures/.diptych", "2026-01-02T03:04:05", "made"))
    there = [configuration.folder().parent, configuration.folder(), *configuration.folder().rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in there if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in there if path.is_file()} == {0o600}
    assert len(there) == 5  # and no half-written file


@pytest.mark.parametrize("has_links", [True, False])
def test_the_first_of_two_who_create_a_file_is_believed_by_both(
    has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no hard links")))
    assert configuration.create("file", b"one") == b"one"
    assert configuration.create("file", b"two") == b"one"
    assert configuration.read("file") == b"one"
    configuration.write("file", b"three")
    assert configuration.read("file") == b"three"
    configuration.remove("file")
    configuration.remove("file")
    assert configuration.read("file") is None


def test_a_key_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    key = trusted_indexes.key()
    assert trusted_indexes.key() == key
    assert len(key.secret) == 32
    assert key.signed(key.checksum("a", 1), "a", 1)
    assert not any(key.signed(key.checksum("a", 1), *said) for said in (("a", "1"), ("a",), ("a", 1, None), ("b", 1)))
    monkeypatch.setenv("XDG_CONFIG_HOME", os.environ["XDG_CONFIG_HOME"] + "-of-another")
    assert trusted_indexes.key().secret != key.secret


def test_records_are_kept_until_they_are_forgotten() -> None:
    later, sooner = (
        TrustRecord(trusted_indexes.new_id(), f"/pictures/{at}", f"{at}-01-01T00:00:00", "accepted", {"dim": 8})
        for at in (2027, 2026)
    )
    assert trusted_indexes.records() == []
    trusted_indexes.note(later)
    trusted_indexes.note(sooner)
    assert trusted_indexes.records() == [sooner, later]
    assert trusted_indexes.record(later.id) == later
    trusted_indexes.revoke(later)
    assert trusted_indexes.record(later.id) is None
    assert not any(trusted_indexes.record(id) for id in ("../key", "", None, 7, "0" * 31, f"{sooner.id}\n"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_key_that_another_may_know_is_none(home: Path) -> None:
    trusted_indexes.key()
    os.chown(configuration.folder() / "key.json", 12345, -1)
    with pytest.raises(PermissionError, match="it belongs to another user"):
        trusted_indexes.key()
