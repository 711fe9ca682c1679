"""diptych index"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import NOTHING, OK
from diptych.cli.names import quoted
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    print_json,
    remembered_links_option,
    report_failures,
    report_refused,
    report_reread,
    report_skipped,
    say,
    stages,
)
from diptych.cli.terminal import tell
from diptych.cli.trusting import opened, report_unremembered, trust_option
from diptych.engines import EngineName
from diptych.errors import PatternError, SearchIndexError

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex
    from diptych.index.update.precomputed import Given
    from diptych.index.update.results import Updated

ACTIONS = {"duplicates": "diptych.cli.duplicates"}  # what else is done with an index: word -> module with a command

MOST_NAMED = 3  # of the files that were read in part


class _Index(click.Command):
    """`diptych index FOLDER`, or `diptych index ACTION ...`; a folder that is called as an action is ./ACTION."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and (action := self.action(args[0])):
            return action.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def action(self, word: str) -> click.Command | None:
        """What else is done with an index under this word; None where it is none."""
        return importlib.import_module(ACTIONS[word]).command if word in ACTIONS else None


def _checked(_context: click.Context, _parameter: click.Parameter, patterns: tuple[str, ...]) -> tuple[str, ...]:
    from diptych.media.path_patterns import Patterns

    try:
        Patterns(patterns)
    except PatternError as error:
        raise click.BadParameter(str(error)) from None
    return patterns


@click.command("index", cls=_Index)
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--watch", is_flag=True, help="Go on, and index again whenever something changes, until Ctrl-C.")
@click.option("--reindex", is_flag=True, help="Make all vectors anew, with another model if one is named.")
@click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    callback=_checked,
    help="Leave out these files or folders; may be repeated, and is remembered ('' forgets).",
)
@click.option("--hidden/--no-hidden", default=None, help="Take in files and folders with a leading dot; remembered.")
@remembered_links_option
@click.option(
    "--index", "place", metavar="DIR", type=click.Path(file_okay=False), help="Keep the index there, not in FOLDER."
)
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    default=0.0,
    type=click.FloatRange(min=0),
    help="How long to wait while another process updates the index.",
)
@click.option(
    "--vectors",
    metavar="NPY",
    type=click.Path(exists=True),
    help="Take these vectors, made elsewhere: an .npy file, or a folder of them.",
)
@click.option(
    "--paths",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The paths of their rows: a text file of one a line, or Parquet.",
)
@trust_option
@model_options
def command(
    folder: str, watch: bool, reindex: bool, exclude: tuple[str, ...], hidden: bool | None, follow_links: bool | None,
    place: str | None, wait_s: float, vectors: str | None, paths: str | None, trust: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Make or update the index of FOLDER (by default the current one), which lies in FOLDER/.diptych. Where the index
    of a folder above covers it, that one is updated, as far as FOLDER goes.

    What is new or changed is read and embedded, what was renamed is followed, what is gone is forgotten. It may be
    interrupted at any time, and goes on from there.

    \b
    diptych index ~/Pictures
    diptych index ~/Pictures --exclude "*.gif" --exclude drafts/ --watch
    diptych index duplicates ~/Pictures     pictures that are nearly the same
    diptych index ./duplicates              a folder of that name
    """
    from diptych.index.update.precomputed import open_given

    if paths and not vectors:
        raise click.UsageError("--paths names the rows of --vectors, which is missing.")
    if watch and (reindex or vectors):
        raise click.UsageError("--watch goes with neither --reindex nor --vectors; run these first.")
    opener = partial(open_model, device=device, activation=activation, engine=engine)
    rules = {"exclude": exclude or None, "hidden": hidden, "follow_links": follow_links}
    settings = {"model": model, "index": place, "open_model": opener, "trust": trust, **rules}
    with _ended_politely(), opened(folder, **settings) as index:
        if not reindex:
            report_unremembered(index, follow_links)
        if watch:
            return _watch(index, as_json)
        if vectors and index.under:
            raise click.UsageError(f"{folder} is in the index of {index.root}; name that folder with --vectors.")
        given = open_given(vectors, paths, index.root) if vectors else None
        if index.under:
            part = f"all of that is made anew, not {folder} alone" if reindex else f"only {folder} is updated"
            say(f"{folder} is in the index of {index.root}; {part}")
        if reindex and (damage := index.damage):
            say(
                f"{damage} All is made anew; what it left out (--exclude) and, if not named, its model may be forgotten"
            )
        before = _left_out_before(index) if exclude else ()
        with stages("looking the folder over", "indexing", "arranging for search") as (found, advance, arranging):
            found(0, 0)
            done = index.update(
                progress=advance, reindex=reindex, given=given, wait_s=wait_s, on_wait=say, arranging=arranging
            )
        if exclude and (dropped := [each for each in before if each not in exclude]):
            say(f"left out no longer, for --exclude names all that is: {', '.join(dropped)}")
        if index.rules.exclude and not exclude:
            say(f"left out as before: {', '.join(index.rules.exclude)} (--exclude '' takes all in)")
        return _report(index, done, as_json, given)


def _left_out_before(index: LocalIndex) -> Sequence[str]:
    """The patterns that the index remembers; none where it cannot be read."""

    with suppress(SearchIndexError):
        return index.on_disk.noted_rules.exclude
    return ()


def _watch(index: LocalIndex, as_json: bool) -> int:
    from diptych.index.watching import watch

    def report(done: Updated) -> None:
        _report(index, done, as_json)
        say(f"watching {index.folder}; Ctrl-C ends it")

    watch(index, report, on_wait=say)
    return OK


def _report(index: LocalIndex, done: Updated, as_json: bool, given: Given | None = None) -> int:
    """Print what an update did; the exit code that follows."""
    counts = index.counts()
    vectors = _taken(index, given) if given else {}
    if as_json:
        said = {**done._asdict(), "failures": failures_json(done.failures)}
        told = {"vectors": vectors} if vectors else {}
        counted = {f"indexed_{k}": v for k, v in counts._asdict().items()}
        print_json({"index": str(index.place), **said, **told, **counted})
    else:
        numbers = ("added", "changed", "renamed", "forgotten", "unchanged")
        tell(", ".join(f"{getattr(done, name):,} {name}" for name in numbers) + f" in {done.seconds:.1f} s")
        found = counts.files - counts.failed
        where = f"{quoted(index.place)}, of {quoted(index.folder)}" if index.under else quoted(index.place)
        tell(f"{where}: {found:,} files, {counts.pictures:,} pictures and {counts.texts:,} texts")
        if vectors:
            said = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in vectors.items() if count)
            tell(f"vectors: {said}" + (" (--reindex takes these)" if vectors["of_indexed_files"] else ""))
    report_refused(done.refused)
    report_skipped(done.skipped)
    report_reread(done.reread)
    if done.partial:
        some = ", ".join(f"{path} ({what})" for path, what in islice(done.partial.items(), MOST_NAMED))
        more = f", and {len(done.partial) - MOST_NAMED:,} more" if len(done.partial) > MOST_NAMED else ""
        say(f"{len(done.partial):,} could be read in part only: {some}{more}")
    if done.unreachable:
        say(f"{done.unreachable:,} are in folders that cannot be looked into now; they are kept")
    code = report_failures(done.failures, done.failed_before)
    return NOTHING if code == OK and not counts.files else code


def _taken(index: LocalIndex, given: Given) -> dict[str, int]:
    """What became of vectors made elsewhere."""
    known = given.left & index.catalog.files().keys()
    return {
        "taken": len(given.taken),
        "of_indexed_files": len(known),
        "of_no_file_here": len(given.left) - len(known),
        "not_finite": len(given.useless),
        "read_otherwise_today": len(given.outdated),
        "repeated": given.repeated,
    }


@contextmanager
def _ended_politely() -> Iterator[None]:
    """SIGTERM as Ctrl-C: what was done is committed, and readers are ended."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
