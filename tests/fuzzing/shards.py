"""Tar shards: headers that lie, members of every type, sidecars of any content, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from .case import Case, write_precious
from .pairs import command, open_one_model, picture
from .values import anything, as_text, damaged, json_with_changes, number, outside, text

Members = list[tuple[tarfile.TarInfo, bytes]]
PACKED = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}
TYPES = (
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE, b"?", b"x", b"g", b"L", b"V",
)  # fmt: skip


class Shards:
    """Two shards of four samples each, of which one is changed."""

    def __init__(self, home: Path):
        self._home = home
        open_one_model(home / "model")

    def case(self, folder: Path, choice: Random) -> Case:
        """One to four changes to the members, then perhaps to the bytes."""
        precious, shards = write_precious(self._home), folder / "shards"
        shards.mkdir()
        (shards / "0.tar").write_bytes(_tar(_members(0), tarfile.GNU_FORMAT))
        members, changes = _members(4), list[str]()
        for _ in range(choice.choice((0, 1, 2, 4))):
            changes.append(choice.choice(CHANGES)(members, precious, choice))
        form = choice.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.PAX_FORMAT))
        try:
            content = _tar(members, form)
        except (ValueError, OverflowError, UnicodeError) as error:
            content = _tar(_members(4), form)
            changes.append(f"but no tar can say so ({str(error)[:60]})")
        if not changes or choice.random() < 0.3:
            content = choice.choice((damaged, _header))(content, choice)
            changes.append("other bytes")
        ending = choice.choice((".tar", ".tar", ".tar", *PACKED))
        content = PACKED[ending](content)
        if ending != ".tar" and choice.random() < 0.3:
            content = damaged(content, choice)
            changes.append(f"other bytes of {ending}")
        (shards / f"1{ending}").write_bytes(content)
        source = choice.choice((shards, shards / f"1{ending}"))
        out = folder / "out"
        return Case([f"1{ending}", *changes], [command(source, out, choice)], [out])


def _members(first: int) -> Members:
    made: Members = []
    for key in range(first, first + 4):
        contents = {
            "png": picture(key),
            "txt": f"a thing {key}\nand another\n".encode(),
            "json": json.dumps({"caption": f"thing {key}", "url": "x", "width": 8}).encode(),
            "cls": str(key % 2).encode(),
        }
        made += [(_info(f"{key:04}.{ending}", content), content) for ending, content in contents.items()]
    return made


def _info(name: str, content: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info


def _tar(members: Members, form: int) -> bytes:
    """As they are, whatever their headers say."""
    file = io.BytesIO()
    for info, content in members:
        file.write(info.tobuf(form, "utf-8", "surrogateescape"))
        file.write(content + bytes(-len(content) % 512))
    file.write(bytes(1024))
    return file.getvalue()


# --- what is changed


def _other_info(members: Members, precious: Path, choice: Random) -> str:
    """One field of a header."""
    info, _ = choice.choice(members)
    field = choice.choice(("name", "name", "size", "size", "type", "linkname", "mtime", "mode", "uid", "pax_headers"))
    if field in ("name", "linkname"):
        name = choice.choice(
            (outside(str(precious), choice), f"{text(choice)[:300]}.png", f"../{info.name}", f"0004/{info.name}")
        )
        setattr(info, field, name)
        if field == "linkname":
            info.type = choice.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
    elif field == "size":
        info.size = choice.choice((0, 1, info.size + 512, 8**11 - 1, 2**62, -1))
    elif field == "type":
        info.type = choice.choice(TYPES)
    elif field == "pax_headers":
        info.pax_headers = {choice.choice(("path", "size", "GNU.sparse.map", "comment")): text(choice)[:2000]}
    else:
        setattr(info, field, abs(int(choice.choice((0, 2**31, 2**40, 7)))))
    return f"{field} of a member is {str(getattr(info, field, ''))[:60]!r}"


def _sidecar(members: Members, precious: Path, choice: Random) -> str:
    """What a sidecar says."""
    places = [at for at, (info, _) in enumerate(members) if info.name.endswith((".json", ".txt", ".cls"))]
    if not places:
        return "no sidecar is left"
    at = choice.choice(places)
    info, before = members[at]
    content = as_text(choice)
    if info.name.endswith(".json") and choice.random() < 0.7:
        value = {"caption": anything(choice), "captions": anything(choice), "text": anything(choice)}
        said = json_with_changes(value, choice)[0] if choice.random() < 0.5 else {"caption": anything(choice)}
        content = json.dumps(said).encode()
    if choice.random() < 0.2:
        content = b'{"caption": ' + b"[" * 50_000 + b"]" * choice.choice((0, 50_000)) + b"}"
    members[at] = _info(info.name, content), content
    return f"{info.name} says {content[:40]!r} ({len(content)} bytes, {len(before)} before)"


def _content(members: Members, precious: Path, choice: Random) -> str:
    """Other bytes in a member, with the size that goes with them."""
    at = choice.randrange(len(members))
    info, before = members[at]
    content = damaged(before, choice)
    members[at] = _info(info.name, content), content
    return f"{info.name} has {len(content)} bytes, {len(before)} before"


def _order(members: Members, precious: Path, choice: Random) -> str:
    """Members come in another order, twice, or not at all."""
    way = choice.randrange(4)
    if way == 0:
        choice.shuffle(members)
    elif way == 1:
        del members[choice.randrange(len(members))]
    elif way == 2:
        members.append(choice.choice(members))
    else:
        members *= 20
    return ("shuffled", "one is gone", "one comes twice", "all come twenty times")[way] if members else "none"


def _ending(members: Members, precious: Path, choice: Random) -> str:
    """A member has another ending."""
    info, _ = choice.choice(members)
    ending = choice.choice((".jpg", ".json", ".txt", ".caption", ".png.txt", ".", "", ".pyd", ".mp4"))
    info.name = info.name.partition(".")[0] + ending
    return f"a member is called {info.name}"


def _header(content: bytes, choice: Random) -> bytes:
    """A field of some header is another, with its sum put right."""
    out = bytearray(content)
    start = 512 * choice.randrange(max(1, len(out) // 512))
    at = start + choice.choice((0, 100, 108, 124, 136, 156, 157, 257, 345))
    said = choice.choice(
        (b"\0", b"7" * 11, b"\x80" + b"\xff" * 11, b"-1", str(number(choice))[:11].encode(), b"\xff\xfe")
    )
    out[at : at + len(said)] = said
    block = out[start : start + 512]
    out[start + 148 : start + 156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    return bytes(out)


CHANGES: tuple[Callable[[Members, Path, Random], str], ...] = (
    _other_info, _other_info, _sidecar, _sidecar, _sidecar, _content, _order, _ending,
)  # fmt: skip
