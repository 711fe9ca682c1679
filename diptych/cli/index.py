"""diptych index"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.actions import ActionCommand
from diptych.cli.exit_codes import NOTHING, OK, PARTLY
from diptych.cli.interruption import interrupt_on_sigterm
from diptych.cli.names import quoted
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    print_json,
    print_status,
    remembered_links_option,
    report_failures,
    report_refused,
    report_reread,
    report_skipped,
    stages,
)
from diptych.cli.terminal import print_result
from diptych.cli.trusting import opened, report_links_not_remembered, trust_option
from diptych.display.counting import counted
from diptych.engines import EngineName
from diptych.errors import PatternError, SearchIndexError

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex
    from diptych.index.update.precomputed import PrecomputedVectors
    from diptych.index.update.results import UpdateResult

# Action on an index -> module that has its `command`
ACTIONS = {"duplicates": "diptych.cli.duplicates", "copy": "diptych.cli.index_copy"}

_SHARDS = "diptych.cli.index_shards"

MAX_NAMED = 3  # files that were read only in part


def of_shards(args: Sequence[str]) -> bool:
    """Whether these arguments index shards: --into, --cluster or --engine ray is among them."""
    names = [arg.partition("=")[0] for arg in args]
    ray = any(pair == ("--engine", "ray") for pair in pairwise(args)) or "--engine=ray" in args
    return ray or "--into" in names or "--cluster" in names


class _IndexCommand(ActionCommand):
    """`diptych index FOLDER`, or `diptych index ACTION ...`. A folder with the name of an action is ./ACTION."""

    ACTIONS = ACTIONS

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if (not args or args[0] not in ACTIONS) and of_shards(args):
            shards = importlib.import_module(_SHARDS).command
            return shards.make_context(info_name, args, parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)


def _checked(_context: click.Context, _parameter: click.Parameter, patterns: tuple[str, ...]) -> tuple[str, ...]:
    from diptych.media.scanning.path_patterns import Patterns

    try:
        Patterns(patterns)
    except PatternError as error:
        raise click.BadParameter(str(error)) from None
    return patterns


@click.command("index", cls=_IndexCommand)
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--watch", is_flag=True, help="Keep running and index every change, until Ctrl-C.")
@click.option("--reindex", is_flag=True, help="Embed everything again, with another model if --model names one.")
@click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    callback=_checked,
    help="Leave out these files or folders. Repeatable, remembered; '' forgets.",
)
@click.option("--hidden/--no-hidden", default=None, help="Include files and folders with a leading dot. Remembered.")
@remembered_links_option
@click.option(
    "--index", "index_dir", metavar="DIR", type=click.Path(file_okay=False), help="Store the index in DIR, not FOLDER."
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
    help="Use these precomputed vectors: an .npy file, or a folder of them.",
)
@click.option(
    "--paths",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The paths of those vectors: a text file with one per line, or Parquet.",
)
@trust_option
@model_options
def command(
    folder: str, watch: bool, reindex: bool, exclude: tuple[str, ...], hidden: bool | None, follow_links: bool | None,
    index_dir: str | None, wait_s: float, vectors: str | None, paths: str | None, trust: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Make or update the index of FOLDER (by default the current one), stored in FOLDER/.diptych. If the index of a
    folder above covers FOLDER, that part of it is updated.

    New and changed files are read and embedded, renamed files are followed, and deleted files are removed. An
    interrupted run resumes.

    With --into INDEX, the pictures of tar shards or Parquet files become an index, also on a cluster:
    `diptych index --engine ray --help`.

    \b
    diptych index ~/Pictures
    diptych index ~/Pictures --exclude "*.gif" --exclude drafts/ --watch
    diptych index duplicates ~/Pictures     pictures that are nearly the same
    diptych index copy ~/Pictures postgresql://localhost/media
    diptych index ./duplicates              a folder of that name
    """
    from diptych.index.update.precomputed import open_precomputed

    if paths and not vectors:
        raise click.UsageError("--paths names the rows of --vectors, which is missing.")
    if watch and (reindex or vectors):
        raise click.UsageError("--watch cannot be combined with --reindex or --vectors; run these first.")
    opener = partial(open_model, device=device, activation=activation, engine=engine)
    rules = {"exclude": exclude or None, "hidden": hidden, "follow_links": follow_links}
    settings = {"model": model, "index": index_dir, "open_model": opener, "trust": trust, **rules}
    with interrupt_on_sigterm(), opened(folder, **settings) as index:
        if not reindex:
            report_links_not_remembered(index, follow_links)
        if watch:
            return _watch(index, as_json)
        if vectors and index.subfolder:
            raise click.UsageError(f"{folder} is in the index of {index.root}; name that folder with --vectors.")
        precomputed = open_precomputed(vectors, paths, index.root) if vectors else None
        if index.subfolder:
            part = "all of it is embedded again" if reindex else f"only {folder} is updated"
            print_status(f"{folder} is in the index of {index.root}; {part}")
        if reindex and (damage := index.damage):
            print_status(
                f"{damage} Everything is embedded again. The index may have lost its --exclude patterns and, unless "
                "--model names one, its model"
            )
        before = _previously_excluded(index) if exclude else ()
        with stages("scanning", "indexing", "building the search structure") as (scanning, advance, on_build):
            scanning(0, 0)
            done = index.update(
                progress=advance, reindex=reindex, precomputed=precomputed, wait_s=wait_s, on_wait=print_status,
                on_build=on_build,
            )  # fmt: skip
        if exclude and (dropped := [pattern for pattern in before if pattern not in exclude]):
            print_status(f"no longer left out, because --exclude replaces earlier patterns: {', '.join(dropped)}")
        if index.rules.exclude and not exclude:
            print_status(f"left out as before: {', '.join(index.rules.exclude)} (--exclude '' includes everything)")
        return _report(index, done, as_json, precomputed)


def _previously_excluded(index: LocalIndex) -> Sequence[str]:
    """The patterns that the index remembers; none if it cannot be read."""

    with suppress(SearchIndexError):
        return index.on_disk.stored_rules.exclude
    return ()


def _watch(index: LocalIndex, as_json: bool) -> int:
    from diptych.index.watching import watch

    def report(done: UpdateResult) -> None:
        _report(index, done, as_json)
        print_status(f"watching {index.folder}; stop with Ctrl-C")

    watch(index, report, on_wait=print_status)
    return OK


def _report(index: LocalIndex, done: UpdateResult, as_json: bool, precomputed: PrecomputedVectors | None = None) -> int:
    """Print what an update did; return the exit code."""
    counts = index.counts()
    vectors = _precomputed_report(index, precomputed) if precomputed else {}
    if as_json:
        update = {**done._asdict(), "failures": failures_json(done.failures)}
        used = {"vectors": vectors} if vectors else {}
        indexed = {f"indexed_{name}": count for name, count in counts._asdict().items()}
        print_json({"index": str(index.index_dir), **update, **used, **indexed})
    else:
        numbers = ("added", "changed", "renamed", "forgotten", "unchanged")
        print_result(", ".join(f"{getattr(done, name):,} {name}" for name in numbers) + f" in {done.seconds:.1f} s")
        files = counts.files - counts.failed
        has = f"{counted(files, 'file')}, {counted(counts.pictures, 'picture')} and {counted(counts.texts, 'text')}"
        where = f"{quoted(index.index_dir)}, of {quoted(index.folder)}" if index.subfolder else quoted(index.index_dir)
        print_result(f"{where}: {has}")
        if vectors:
            parts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in vectors.items() if count)
            print_result(f"vectors: {parts}" + (" (--reindex takes these)" if vectors["of_indexed_files"] else ""))
    report_refused(done.refused)
    report_skipped(done.skipped)
    report_reread(done.reread)
    if done.partial:
        some = ", ".join(f"{path} ({reason})" for path, reason in islice(done.partial.items(), MAX_NAMED))
        more = f", and {len(done.partial) - MAX_NAMED:,} more" if len(done.partial) > MAX_NAMED else ""
        print_status(f"{len(done.partial):,} could only be read in part: {some}{more}")
    if done.unreachable:
        print_status(f"{done.unreachable:,} are in folders that cannot be read now; they stay in the index")
    report_failures(done.failures, done.failed_before)
    if done.failures:
        return PARTLY
    return OK if counts.files else NOTHING


def _precomputed_report(index: LocalIndex, precomputed: PrecomputedVectors) -> dict[str, int]:
    """How many precomputed vectors were used, and how many were not, by reason."""
    known = precomputed.unused & index.catalog.files().keys()
    return {
        "taken": len(precomputed.used),
        "of_indexed_files": len(known),
        "of_no_file_here": len(precomputed.unused) - len(known),
        "not_finite": len(precomputed.invalid),
        "read_otherwise_today": len(precomputed.outdated),
        "repeated": precomputed.repeated,
    }
