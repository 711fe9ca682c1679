"""diptych search"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.auto_update import FailureReport
from diptych.cli.exit_codes import FAILED, NOTHING
from diptych.cli.filters import filter_options, filters_of
from diptych.cli.options import (
    failures_json,
    model_options,
    print_json,
    print_status,
    remembered_links_option,
    report_failures,
    report_refused,
    report_truncated,
    truncate_option,
    write_input_sheet,
    write_picture,
)
from diptych.cli.search_targets import FolderTarget, SearchTarget, open_targets, updated
from diptych.cli.search_words import no_such_option, split_text_and_folders
from diptych.cli.sections import Sectioned
from diptych.cli.terms import OPTIONS, in_order, query_of
from diptych.cli.trusting import trust_option
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.failures import Failure
    from diptych.index.filters.filters import Filters
    from diptych.index.local import LocalIndex
    from diptych.index.remote import StoreIndex
    from diptych.index.search.query import Query, UnseenWords
    from diptych.index.search.results import Hit, SearchResult
    from diptych.index.search.search import SearchModality

_ORDER = "diptych.terms"
_MODALITIES: dict[str, SearchModality] = {"pictures": "picture", "texts": "text", "both": "both"}


class _Search(Sectioned):
    """Keeps the order of the terms, and gives a hint for words that begin with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            ctx.meta[_ORDER] = [parameter.name for parameter in order if parameter.name in OPTIONS]
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if hint := no_such_option(error, args):
                raise click.UsageError(hint, ctx) from None
            raise


SECTIONS = {
    "What to search for": ("texts", "images", "minus", "minus_images", "clipboard", "weights", "truncate"),
    "Which hits": ("limit", "find", "relevant", "threshold", "diverse", "copies"),
    "Which files": (
        "since", "until", "file_dates", "box", "near", "camera", "path", "min_width", "min_height", "min_megapixels",
        "orientation", "kind",
    ),
    "Results": ("only_paths", "nul", "protocol", "sheet", "sheet_size", "show_input", "open_count", "as_json"),
    "Index": ("index_dir", "update", "follow_links", "trust"),
    "Model": ("model", "yes", "engine", "device", "activation"),
}  # fmt: skip


@click.command("search", cls=_Search, sections=SECTIONS)
@click.argument("words", nargs=-1, metavar="[TEXT] [FOLDER]...")
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="One more sentence. All terms are repeatable.")
@click.option("--image", "images", multiple=True, metavar="FILE", help="A picture's path or URL; - reads stdin.")
@click.option("--minus", multiple=True, metavar="TEXT", help="A sentence that hits should not fit.")
@click.option(
    "--minus-image", "minus_images", multiple=True, metavar="FILE", help="A picture that hits should not fit."
)
@click.option("--clipboard", is_flag=True, help="The picture or text in the clipboard.")
@click.option("--weights", metavar="1,0.5", help="One number for each term, in the order of the terms, TEXT first.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=1), help="Number of hits to print.")
@click.option(
    "--find", default="pictures", show_default=True, type=click.Choice(list(_MODALITIES)), help="What to find."
)
@click.option("--relevant", is_flag=True, help="Only relevant hits, or none.")
@click.option(
    "--threshold",
    metavar="RELEVANCE",
    type=float,
    help="As --relevant, with this least relevance instead of the model's (else -0.33; -1.28 for a query of pictures). "
    "0 is what is expected of the query; most lie between -1 and 1.",
)
@click.option(
    "--diverse",
    default=0.0,
    metavar="0..1",
    type=click.FloatRange(0, 1),
    help="How much the hits should differ from each other.",
)
@click.option("--copies", is_flag=True, help="Show duplicates, links and the RAW or HEIC of a JPEG as separate hits.")
@filter_options
@click.option("--index", "index_dir", metavar="DIR", help="The index directory; by default FOLDER/.diptych.")
@click.option(
    "--update/--no-update",
    default=None,
    help="Look for new and changed files first; by default in folders of up to 10,000 files.",
)
@remembered_links_option
@click.option(
    "--paths", "only_paths", is_flag=True, help="Print only paths, one per line, quoted if needed. For scripts use -0."
)
@click.option("-0", "nul", is_flag=True, help="Print only paths, unquoted, with a NUL after each: for xargs -0.")
@click.option(
    "--previews", "protocol", default="auto", show_default=True, help="Small pictures in the terminal.",
    type=click.Choice(["auto", "kitty", "iterm2", "sixel", "blocks", "none"]),
)  # fmt: skip
@click.option(
    "--sheet", metavar="PNG", type=click.Path(dir_okay=False), help="Write the found pictures as one picture."
)
@click.option(
    "--sheet-size", default=160, show_default=True, metavar="PX", type=click.IntRange(32, 2048),
    help="Width and height of each picture of --sheet.",
)  # fmt: skip
@click.option("--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write them as the model sees them.")
@click.option("--open", "open_count", metavar="COUNT", type=click.IntRange(min=1), help="Open the best COUNT hits.")
@trust_option
@truncate_option
@model_options
@click.pass_context
def command(ctx: click.Context, **options: Any) -> int:
    """Find the pictures that fit TEXT and other terms best, in one FOLDER or several (by default the current one). The
    first search indexes them; the index of a folder above is used as well.

    \b
    diptych search "two dogs run over snow" ~/Pictures --sheet found.png
    diptych search ~/Pictures --image dog.jpg --minus "snow" --weights 1,0.5
    diptych search "a dog" ~/Pictures /mnt/archive --path "*.jpg"

    TEXT is optional with other terms, and may follow the folders. Put words that begin with a dash after --. TEXT -
    reads stdin: sentences, one per line, or a picture. The query is the sum of the terms, each times its weight.
    """
    options["order"] = ctx.meta[_ORDER]
    return _search(**options)


def _search(words: tuple[str, ...], order: list[str], **options: Any) -> int:
    """Parse the query, update the indexes, search, print."""
    text, folders = split_text_and_folders(words, has_terms=bool(order))
    values = {name: options[name] for name in OPTIONS} | {"clipboard": [None]}
    query = query_of(in_order(text, order, values), options["weights"])
    filters = filters_of(options)
    if options["index_dir"] and len(folders) > 1:
        raise click.UsageError("--index takes one FOLDER; search the other folders separately.")
    if options["threshold"] is not None:
        options["relevant"] = True
        if not isfinite(options["threshold"]):
            raise click.UsageError(f"--threshold is {options['threshold']}; wanted a finite number, such as -0.5.")
    with open_targets(folders or ["."], options) as targets:
        report = FailureReport.merged(updated(target, options["update"]) for target in targets)
        result = _search_targets(targets, query, filters, options)
        if options["truncate"]:
            report_truncated(targets[0].index.model, [str(term.value) for term in query.terms if term.kind == "text"])
        code = report_failures(*report)
        report_refused(result.refused)
        _print(result, query, report.failures, options)
        if result.unseen and result.unseen.words:
            print_status(_unseen_sentence(result.unseen, options["relevant"]))
        if options["relevant"] and result.hits and result.relevance_z is None:
            print_status(
                f"{counted(result.searched, 'item is', 'items are')} too few for --relevant; all hits are shown"
            )
        if not result.hits:
            code = _report_no_hits(targets, result, report.failures, options["find"], filters)
        _write(targets[0].index, query, result.hits, options)
    return code


def _search_targets(
    targets: Sequence[SearchTarget], query: Query, filters: Filters, options: Mapping[str, Any]
) -> SearchResult:
    """The hits, with paths below the folders as the user typed them."""
    from diptych.index.search.search import search_all

    result = search_all(
        [target.index for target in targets], query, limit=options["limit"], modality=_MODALITIES[options["find"]],
        filters=filters, relevant=options["relevant"], threshold=options["threshold"], diverse=options["diverse"],
        truncate=options["truncate"], copies=options["copies"],
    )  # fmt: skip

    def typed(path: Path) -> Path:
        return next(filter(None, (target.typed(path) for target in targets)), path)

    hits = [hit._replace(path=typed(hit.path), copies=tuple(map(typed, hit.copies))) for hit in result.hits]
    return result._replace(hits=hits)


def _unseen_sentence(unseen: UnseenWords, relevant: bool) -> str:
    """One sentence on the words that the model does not know."""
    *some, last = [f'"{word}"' for word in unseen.words]
    words = f"{', '.join(some)} and {last}" if some else last
    if unseen.all and relevant:
        return f"Nothing relevant: the model has never seen {words} with a picture."
    guess = "these hits are a guess" if unseen.all else "they count for little" if some else "it counts for little"
    return f"The model has never seen {words} with a picture: {guess}."


def _report_no_hits(
    targets: Sequence[SearchTarget], result: SearchResult, failures: Mapping[str, Failure], find: str, filters: Filters
) -> int:
    """Print why there are no hits; return the exit code."""
    counts = [target.index.counts() for target in targets]
    available = {"pictures": sum(count.pictures for count in counts), "texts": sum(count.texts for count in counts)}
    folder = ", ".join(target.folder for target in targets)
    if result.unseen and result.unseen.all and result.searched:
        return NOTHING
    if result.relevance_z is not None and result.threshold is not None:
        rounded_down = result.relevance_z * 100 // 1 / 100  # so that it is seen to be below
        print_status(
            f"Nothing relevant: the relevance of the best hits is {rounded_down:.2f}; the threshold is "
            f"{result.threshold} (change it with --threshold)."
        )
    elif count := sum(count for kind, count in available.items() if find in (kind, "both")):
        print_status(f"none of the {count:,} {find if find != 'both' else 'items'} in the index pass the filters.")
        _report_undated(targets, filters)
    elif failures:
        return FAILED
    elif find == "pictures":
        print_status(f"no pictures in {folder}; wanted JPEG, PNG, WebP, HEIC, RAW or video files there or below.")
    else:
        print_status(f"no {'pictures or texts' if find == 'both' else find} in {folder}.")
    return NOTHING


def _report_undated(targets: Sequence[SearchTarget], filters: Filters) -> None:
    """For a filter by date: print how many files have a date."""
    from diptych.index.filters.filters import count_dated

    if not (filters.since or filters.until) or filters.file_dates:
        return
    folders = [target.index for target in targets if isinstance(target, FolderTarget)]
    counts = [count_dated(index.catalog, filters.within(index.subfolder)) for index in folders]
    files, dated = (sum(numbers) for numbers in zip(*counts, strict=True))
    if dated < files:
        number = f"only {dated:,} of these {files:,} files record" if dated else "no file here records"
        print_status(f"{number} a date. --file-dates uses the time of a file's last change instead.")


def _print(result: SearchResult, query: Query, failures: Mapping[str, Failure], options: Mapping[str, Any]) -> None:
    from diptych.cli import previews, results

    if options["as_json"]:
        terms = [
            {term.kind: term.value if isinstance(term.value, str) else "-", "weight": term.weight}
            for term in query.terms
        ]
        hits = [results.hit_json(hit) for hit in result.hits]
        relevance = {"standing": result.relevance_z, "cut": result.threshold} if options["relevant"] else {}
        unseen = {"unseen_words": result.unseen.words, "all_unseen": result.unseen.all} if result.unseen else {}
        print_json(
            {
                "terms": terms,
                "searched": result.searched,
                **relevance,
                **unseen,
                "hits": hits,
                "failures": failures_json(failures),
            }
        )
    elif options["only_paths"] or options["nul"]:
        results.print_paths(result.hits, exact=options["nul"])
    elif sys.stdout.isatty() or options["protocol"] not in ("auto", "none"):
        results.rows(result.hits, previews.choose(options["protocol"]))
    else:
        results.plain_lines(result.hits)


def _write(index: LocalIndex | StoreIndex, query: Query, hits: list[Hit], options: Mapping[str, Any]) -> None:
    """Write --sheet and --show-input, and open files for --open."""
    from diptych.cli import results

    pictures = [hit for hit in hits if hit.kind == "picture"]
    if options["sheet"] and hits:
        from diptych.display.plots import contact_sheet, file_name

        size_px = options["sheet_size"]
        titles = [f"{rank}.  {hit.score:.3f}\n{file_name(hit.path)}" for rank, hit in enumerate(hits, start=1)]
        titled = zip((results.picture_of(hit, size_px) for hit in hits), titles, strict=True)
        tiles = [(picture, title) for picture, title in titled if picture]
        sheet = contact_sheet(tiles, title=_describe_query(query), lines=2, size_px=size_px, are_names=True)
        write_picture(options["sheet"], sheet.save)
    if options["show_input"] and pictures:
        existing = [hit.path for hit in pictures if results.is_file(hit.path)]
        for path in sorted({hit.path for hit in pictures}.difference(existing)):
            print_status(f"not shown: {path} no longer exists, or is not a file")
        write_input_sheet(options["show_input"], index.model, existing)
    if options["open_count"]:
        results.open_files(list(dict.fromkeys(hit.path for hit in hits))[: options["open_count"]])


def _describe_query(query: Query) -> str:
    """A query in one line, for people: "a dog" - 0.5 snow.jpg."""
    from diptych.display.plots import file_name, shortened

    parts = []
    for term in query.terms:
        value = term.value
        is_path = isinstance(value, (str, os.PathLike)) and term.kind == "picture"
        label = shortened(str(value)) if term.kind == "text" else file_name(value) if is_path else f"a {term.kind}"
        weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g} "
        parts.append(f"{'-' if term.weight < 0 else '+'} {weight}{label}")
    return "  ".join(parts).removeprefix("+ ")
