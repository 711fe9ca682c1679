"""Indexes that came from elsewhere: --trust, the question at a terminal, and what `diptych doctor` says of trust."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import NOTHING, OK
from diptych.cli.options import print_json, say
from diptych.cli.terminal import ask
from diptych.cli.wording import notice
from diptych.errors import IndexUntrustedError

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex

MOST_LISTED = 10
_HOW = {"made": "made", "accepted": "accepted", "earlier": "accepted as made by an earlier version"}

trust_option = click.option(
    "--trust", is_flag=True, help="Accept an index that was not made here, with the model that it names; for good."
)


def opened(folder: str, *, opens_model: bool = True, **settings: Any) -> LocalIndex:
    """`diptych.open_index`, at a terminal after the question whether a stranger's index is to be trusted. Raises
    IndexUntrustedError where that is wanted and not said, before anything is done, if `opens_model`."""

    settings["notice"] = lambda words: say(notice(words))
    try:
        return _checked(folder, opens_model, settings)
    except IndexUntrustedError as error:
        if not sys.stdin.isatty() or not sys.stderr.isatty():  # a script is not asked
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
    say(notice(error.problem))
    return ask("Trust it, for good? [y/N]") in ("y", "yes")


def report_unremembered(index: LocalIndex, follow_links: bool | None) -> None:
    """Say that links are followed this once, in an index that is not this user's."""
    if follow_links and index.exists and not index.trust.is_known():
        say("links are followed this once, for the index was neither made nor accepted here; --trust has it remembered")


def forget(index: LocalIndex, as_json: bool) -> int:
    """Have the index be a stranger's from now on; the exit code."""
    was_known = index.trust.revoke()
    if as_json:
        print_json({"index": str(index.place), "forgotten": was_known})
    elif was_known:
        say(f"{index.place} is no index of yours any more; --trust accepts it again")
    else:
        say(f"{index.place} was neither made nor accepted here")
    return OK if was_known else NOTHING


def trust_in(index: LocalIndex) -> str:
    """Whether an index is known here, and how it came to be, in words."""
    from diptych.index.model import BUNDLED

    is_bundled = False
    record = index.trust.signed if index.damage else index.trust.record  # of a damaged one its identity can be read
    with suppress(ValueError):
        is_bundled = not index.damage and index.catalog.facts().get("model") == BUNDLED
    if record is None:
        why = "it has changed" if index.trust.is_altered else "it was neither made nor accepted here"
        return f"none, for {why}" + ("; the bundled model wants none" if is_bundled else "")
    elsewhere = "" if record.path == str(index.place) else f", when it was {record.path}"
    return f"{_HOW.get(record.how, record.how)} here on {record.at.replace('T', ' at ')}{elsewhere}"


def known_indexes() -> dict[str, str]:
    """The indexes that this user made or accepted, the last first, as facts for `diptych doctor`."""
    from diptych.index.trust import trusted_indexes
    from diptych.storage import configuration

    try:
        kept = trusted_indexes.records()[::-1]
        facts = {"indexes": f"{len(kept):,} made or accepted here, as {configuration.folder()} has it"}
    except trusted_indexes.TROUBLE as error:
        return {"indexes": f"your configuration cannot be read ({trusted_indexes.describe_error(error)})"}
    for number, one in enumerate(kept[:MOST_LISTED], start=1):
        facts[f"index {number}"] = f"{one.path}, {_HOW.get(one.how, one.how)} on {one.at.replace('T', ' at ')}"
    return facts
