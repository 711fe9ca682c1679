"""Which archives are meant: files, folders, patterns, addresses, and lists of paths as Common Crawl publishes them."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from diptych.data.sources import object_storage
from diptych.data.sources.opening import matching_files
from diptych.data.sources.shards import expand_braces
from diptych.errors import DataError
from diptych.untrusted.links import walk
from diptych.untrusted.regular_files import read_file

ENDINGS = (".warc", ".warc.gz", ".wat", ".wat.gz")
BASE = "https://data.commoncrawl.org/"
_LISTS = (".paths", ".paths.gz")
_MAX_LIST_BYTES = 64 << 20
_WEB = re.compile(r"https?://", re.I)


def archives_in(specs: Sequence[str], base: str = BASE) -> list[str]:
    """The archives that these name, each once, in order: a file; the WARC and WAT files of a folder; a pattern (`*`,
    `{00000..00009}`); an address of https:// or s3://, with braces; or a list, *.paths or *.paths.gz, whose lines are
    paths below `base`. Raises DataError where one names nothing."""
    found = dict[str, None]()
    for spec in specs:
        names = list(_named(spec, base))
        is_plain = not (_WEB.match(spec) or object_storage.is_object_address(spec) or {*spec} & {*"*?[{"})
        if not names and is_plain and not os.path.exists(spec):
            raise DataError(f"{spec} does not exist; wanted an archive, a folder of them, a pattern, or an address.")
        if not names:
            raise DataError(f"{spec} contains no archives; wanted files that end in {', '.join(ENDINGS)}.")
        found.update(dict.fromkeys(names))
    return list(found)


def _named(spec: str, base: str) -> Iterator[str]:
    if object_storage.is_object_address(spec):
        yield from object_storage.matching(spec, ENDINGS)
    elif _WEB.match(spec):
        yield from expand_braces(spec)
    elif spec.lower().endswith(_LISTS) and os.path.isfile(spec):
        yield from (base.rstrip("/") + "/" + line.lstrip("/") for line in _lines(Path(spec)))
    elif os.path.isdir(spec):
        paths = sorted(os.path.join(here, name) for here, _, names in walk(Path(spec)) for name in names)
        yield from (os.path.abspath(path) for path in paths if path.lower().endswith(ENDINGS))
    else:
        paths = [spec] if os.path.isfile(spec) else matching_files(spec)
        yield from (os.path.abspath(path) for path in paths)


def _lines(path: Path) -> Iterator[str]:
    content = read_file(path, _MAX_LIST_BYTES)
    if path.name.lower().endswith(".gz"):
        try:
            with gzip.open(path) as file:
                content = file.read(_MAX_LIST_BYTES)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} is damaged ({error}); download it again.") from error
    return (line for line in content.decode("utf-8", "replace").split() if line)
