"""Trust in indexes from elsewhere: --trust, the question at a terminal, and the lines that `diptych doctor` prints."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import NOTHING, OK
from diptych.cli.options import print_json, print_status
from diptych.cli.terminal import ask
from diptych.cli.wording import notice
from diptych.errors import IndexUntrustedError

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex

MAX_LISTED = 10
_HOW = {"made": "made", "accepted": "accepted", "earlier": "accepted as made by an earlier version"}

trust_option = click.option(
    "--trust", is_flag=True, help="Accept an index that was not made here, and the model that it names, permanently."
)


def opened(folder: str, *, opens_model: bool = True, **settings: Any) -> LocalIndex:
    """`diptych.open_index`. At a terminal, ask first whether to trust an untrusted index. Raises IndexUntrustedError,
    before anything is done, if trust is needed (for the model, with `opens_model`) and not given."""
    settings["notice"] = lambda words: print_status(notice(words))
    try:
        return _checked(folder, opens_model, settings)
    except IndexUntrustedError as error:
        if not sys.stdin.isatty() or not sys.stderr.isatty():  # not at a terminal
            raise
        if not _is_accepted(error):
            raise IndexUntrustedError("the index is not trusted.", remedy=error.remedy) from error
    return _checked(folder, opens_model, settings | {"trust": True})


def _checked(folder: str, opens_model: bool, settings: dict[str, Any]) -> LocalIndex:
    from diptych.index.local import open_index

    index = open_index(folder, **settings)
    try:
        if opens_model or settings.get("trust"):
            index.check_trusted()
    except BaseException:
        index.close()
        raise
    return index


def _is_accepted(error: IndexUntrustedError) -> bool:
    print_status(notice(error.problem))
    return ask("Trust it, permanently? [y/N]") in ("y", "yes")


def report_links_not_remembered(index: LocalIndex, follow_links: bool | None) -> None:
    """Report that an untrusted index does not remember to follow links."""
    if follow_links and index.exists and not index.trust.is_known():
        print_status("links are followed this time only, because the index is not trusted; --trust remembers them")


def revoke(index: LocalIndex, as_json: bool) -> int:
    """Make the index untrusted; the exit code."""
    was_known = index.trust.revoke()
    if as_json:
        print_json({"index": str(index.index_dir), "forgotten": was_known})
    elif was_known:
        print_status(f"{index.index_dir} is not trusted any more; --trust accepts it again")
    else:
        print_status(f"{index.index_dir} was neither made nor accepted here")
    return OK if was_known else NOTHING


def trust_in(index: LocalIndex) -> str:
    """Whether an index is trusted, and since when and why."""
    from diptych.index.model import BUNDLED

    is_bundled = False
    record = index.trust.signed if index.damage else index.trust.record  # the identity of a damaged index is readable
    with suppress(ValueError):
        is_bundled = not index.damage and index.catalog.facts().get("model") == BUNDLED
    if record is None:
        why = "it has changed" if index.trust.is_altered else "it was neither made nor accepted here"
        return f"none, because {why}" + ("; the bundled model needs none" if is_bundled else "")
    elsewhere = "" if record.path == str(index.index_dir) else f", as {record.path}"
    return f"{_HOW.get(record.how, record.how)} here on {record.at.replace('T', ' at ')}{elsewhere}"


def known_indexes() -> dict[str, str]:
    """The indexes that this user made or accepted, the latest first, as facts for `diptych doctor`."""
    from diptych.index.trust import trusted_indexes
    from diptych.storage.user import configuration

    try:
        records = trusted_indexes.records()[::-1]
        facts = {"indexes": f"{len(records):,} made or accepted here, recorded in {configuration.folder()}"}
    except trusted_indexes.TROUBLE as error:
        return {"indexes": f"your configuration cannot be read ({trusted_indexes.describe_error(error)})"}
    for number, record in enumerate(records[:MAX_LISTED], start=1):
        how = _HOW.get(record.how, record.how)
        facts[f"index {number}"] = f"{record.path}, {how} on {record.at.replace('T', ' at ')}"
    return facts
