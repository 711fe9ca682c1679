"""diptych search"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from diptych.cli.exit_codes import FAILED, NOTHING
from diptych.cli.filters import filter_options, filters_of
from diptych.cli.freshness import Left, brought_up_to_date
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    print_json,
    remembered_links_option,
    report_failures,
    report_refused,
    say,
    say_cut,
    truncate_option,
    write_input_sheet,
    write_picture,
)
from diptych.cli.sections import Sectioned
from diptych.cli.terms import OPTIONS, in_order, query_of
from diptych.cli.trusting import opened, report_unremembered, trust_option
from diptych.cli.words import no_such_option, told_apart

if TYPE_CHECKING:
    from diptych.failures import Failure
    from diptych.index.local import LocalIndex
    from diptych.index.search.filters import Filters
    from diptych.index.search.query import Query
    from diptych.index.search.results import Found, Hit
    from diptych.index.search.search import Wanted

_ORDER = "diptych.terms"
_FOUND: dict[str, Wanted] = {"pictures": "picture", "texts": "text", "both": "both"}


class _Search(Sectioned):
    """Keeps the order in which terms came, and says what to do about words that begin with a dash."""

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
    "What to look for": ("texts", "images", "minus", "minus_images", "clipboard", "weights", "truncate"),
    "Which hits": ("limit", "find", "relevant", "diverse", "copies"),
    "Which files": (
        "since", "until", "file_dates", "box", "camera", "path", "min_width", "min_height", "min_megapixels",
        "orientation", "kind",
    ),
    "Results": ("only_paths", "nul", "asked", "sheet", "sheet_size", "show_input", "opened", "as_json"),
    "Index": ("place", "update", "follow_links", "trust"),
    "Model": ("model", "engine", "device", "activation"),
}  # fmt: skip


@click.command("search", cls=_Search, sections=SECTIONS)
@click.argument("words", nargs=-1, metavar="[TEXT] [FOLDER]...")
@click.option(
    "--text", "texts", multiple=True, metavar="TEXT", help="One more sentence; may be repeated, as all terms."
)
@click.option("--image", "images", multiple=True, metavar="FILE", help="A picture (or URL) to be like; - reads stdin.")
@click.option("--minus", multiple=True, metavar="TEXT", help="A sentence to be unlike.")
@click.option("--minus-image", "minus_images", multiple=True, metavar="FILE", help="A picture to be unlike.")
@click.option("--clipboard", is_flag=True, help="The picture or text in the clipboard.")
@click.option("--weights", metavar="1,0.5", help="A number for each term, in the order of the terms, TEXT first.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=1), help="How many hits to print.")
@click.option("--find", default="pictures", show_default=True, type=click.Choice(list(_FOUND)), help="What to find.")
@click.option("--relevant", is_flag=True, help="Only what stands out; may say that nothing like that is here.")
@click.option(
    "--diverse",
    default=0.0,
    metavar="0..1",
    type=click.FloatRange(0, 1),
    help="How unlike each other the hits should be.",
)
@click.option("--copies", is_flag=True, help="Copies, links and the RAW or HEIC beside a JPEG as hits of their own.")
@filter_options
@click.option("--index", "place", metavar="DIR", help="Where the index is; by default in FOLDER/.diptych.")
@click.option(
    "--update/--no-update", default=None, help="Look for new and changed files first; by default up to 10,000 files."
)
@remembered_links_option
@click.option(
    "--paths", "only_paths", is_flag=True, help="Print paths alone, one a line, odd ones quoted; for scripts: -0."
)
@click.option("-0", "nul", is_flag=True, help="Print paths alone as they are, with a NUL after each: for xargs -0.")
@click.option(
    "--previews", "asked", default="auto", show_default=True, help="Small pictures in the terminal.",
    type=click.Choice(["auto", "kitty", "iterm2", "sixel", "blocks", "none"]),
)  # fmt: skip
@click.option(
    "--sheet", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures found as one picture."
)
@click.option(
    "--sheet-size", default=160, show_default=True, metavar="PX", type=click.IntRange(32, 2048),
    help="How wide and high each picture of --sheet is.",
)  # fmt: skip
@click.option("--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write them as the model sees them.")
@click.option("--open", "opened", metavar="COUNT", type=click.IntRange(min=1), help="Open the best COUNT hits.")
@trust_option
@truncate_option
@model_options
@click.pass_context
def command(ctx: click.Context, **options: Any) -> int:
    """Find what fits TEXT best, and any pictures or texts given with it, among the pictures under FOLDER (by default
    the current one), or under several. They are indexed the first time; an index of a folder above serves as well.

    \b
    diptych search "two dogs run over snow" ~/Pictures --sheet found.png
    diptych search ~/Pictures --image dog.jpg --minus "snow" --weights 1,0.5
    diptych search "a dog" ~/Pictures /mnt/archive --path "*.jpg"

    TEXT may be left out where another term is given, or stand behind the folders; words that begin with a dash come
    after --. TEXT - reads stdin: each line is a sentence, or all of it is a picture. Terms are added up, each times
    its weight.
    """
    options["order"] = ctx.meta[_ORDER]
    return _search(**options)


def _search(words: tuple[str, ...], order: list[str], **options: Any) -> int:
    """Parse, search, print."""
    text, folders = told_apart(words, has_terms=bool(order))
    values = {name: options[name] for name in OPTIONS} | {"clipboard": [None]}
    query = query_of(in_order(text, order, values), options["weights"])
    filters = filters_of(options)
    if options["place"] and len(folders) > 1:
        raise click.UsageError("--index goes with one FOLDER; search the others by themselves.")
    with _opened(folders or ["."], options) as places:
        failures, before = Left.of_all(brought_up_to_date(*place, options["update"]) for place in places)
        found = _found(places, query, filters, options)
        if options["truncate"]:
            say_cut(places[0].index.model, [term.value for term in query.terms if term.kind == "text"])
        code = report_failures(failures, before)
        report_refused(found.refused)
        _print(found, query, failures, options)
        if options["relevant"] and found.hits and found.standing is None:
            say(f"--relevant says nothing about {found.searched} items; all hits are shown")
        if not found.hits:
            code = _nothing(places, found, failures, options["find"], filters)
        _write(places[0].index, query, found.hits, options)
    return code


class _Place(NamedTuple):
    """An index, and the folder as it was typed."""

    index: LocalIndex
    folder: str

    def typed(self, path: Path) -> Path | None:
        """A file as below the folder that was typed; None where it lies elsewhere."""
        below = self.index.folder
        return Path(self.folder) / path.relative_to(below) if path.is_relative_to(below) else None


@contextmanager
def _opened(folders: Sequence[str], options: Mapping[str, Any]) -> Iterator[list[_Place]]:
    """The indexes of these folders, all of one model: what is not indexed yet will be with that of the others."""
    from diptych.index.search.search import check_one_model

    opener = cache(partial(open_model, **{name: options[name] for name in ("device", "activation", "engine")}))
    with ExitStack() as stack:
        places: list[_Place] = []
        for folder in folders:
            index = opened(
                folder, model=options["model"], index=options["place"], follow_links=options["follow_links"],
                open_model=opener, trust=options["trust"],
            )  # fmt: skip
            report_unremembered(index, options["follow_links"])
            if not any(index.folder.is_relative_to(other.folder) and index.root == other.root for other, _ in places):
                places.append(_Place(stack.enter_context(index), folder))
        there = [index for index, _ in places if index.exists]
        if there and len(places) > 1:
            check_one_model(there)
            for at, (index, folder) in enumerate(places):
                if not index.exists:
                    index = opened(folder, model=there[0].any_model, follow_links=options["follow_links"])
                    places[at] = _Place(stack.enter_context(index), folder)
        yield places


def _found(places: Sequence[_Place], query: Query, filters: Filters, options: Mapping[str, Any]) -> Found:
    """The hits, with paths as the folders were typed."""
    from diptych.index.search.search import search_all

    found = search_all(
        [place.index for place in places], query, limit=options["limit"], modality=_FOUND[options["find"]],
        filters=filters, relevant=options["relevant"], diverse=options["diverse"], truncate=options["truncate"],
        copies=options["copies"],
    )  # fmt: skip

    def typed(path: Path) -> Path:
        return next(filter(None, (place.typed(path) for place in places)), path)

    hits = [hit._replace(path=typed(hit.path), copies=tuple(map(typed, hit.copies))) for hit in found.hits]
    return found._replace(hits=hits)


def _nothing(
    places: Sequence[_Place], found: Found, failures: Mapping[str, Failure], find: str, filters: Filters
) -> int:
    """Say why there are no hits; the exit code."""
    counts = [place.index.counts() for place in places]
    available = {"pictures": sum(one.pictures for one in counts), "texts": sum(one.texts for one in counts)}
    folder = ", ".join(place.folder for place in places)
    if found.standing is not None and found.cut is not None:
        say(
            f"nothing like that here: the best hits stand {found.standing:+.1f} deviations from what other sentences "
            f"reach on these {found.searched:,}, and {found.cut:+.1f} is wanted. Without --relevant they are shown."
        )
    elif here := sum(count for kind, count in available.items() if find in (kind, "both")):
        say(f"none of the {here:,} {find if find != 'both' else 'items'} in the index pass the filters.")
        _say_dates(places, filters)
    elif failures:
        return FAILED
    elif find == "pictures":
        say(f"no pictures in {folder}; wanted JPEG, PNG, WebP, HEIC, RAW or video files there or below.")
    else:
        say(f"no {'pictures or texts' if find == 'both' else find} in {folder}.")
    return NOTHING


def _say_dates(places: Sequence[_Place], filters: Filters) -> None:
    """That dates were asked for, and how many files say theirs."""
    from diptych.index.search.filters import count_dated

    if not (filters.since or filters.until) or filters.file_dates:
        return
    counts = [count_dated(index.catalog, filters.within(index.under)) for index, _ in places]
    files, dated = (sum(numbers) for numbers in zip(*counts, strict=True))
    if dated < files:
        few = f"{dated:,} of these {files:,} files say when they were" if dated else "no file here says when it was"
        say(f"{few} taken. --file-dates goes by the time of a file's last change where it is silent.")


def _print(found: Found, query: Query, failures: Mapping[str, Failure], options: Mapping[str, Any]) -> None:
    from diptych.cli import previews, results

    if options["as_json"]:
        terms = [
            {term.kind: term.value if isinstance(term.value, str) else "-", "weight": term.weight}
            for term in query.terms
        ]
        hits = [results.hit_json(hit) for hit in found.hits]
        told = {"standing": found.standing, "cut": found.cut} if options["relevant"] else {}
        print_json(
            {"terms": terms, "searched": found.searched, **told, "hits": hits, "failures": failures_json(failures)}
        )
    elif options["only_paths"] or options["nul"]:
        results.print_paths(found.hits, exact=options["nul"])
    elif sys.stdout.isatty() or options["asked"] not in ("auto", "none"):
        results.rows(found.hits, previews.choose(options["asked"]))
    else:
        results.plain_lines(found.hits)


def _write(index: LocalIndex, query: Query, hits: list[Hit], options: Mapping[str, Any]) -> None:
    """The pictures that were asked for beside the printed results."""
    from diptych.cli import results

    pictures = [hit for hit in hits if hit.kind == "picture"]
    if options["sheet"] and hits:
        from diptych.display.plots import contact_sheet, file_name

        size_px = options["sheet_size"]
        named = [f"{rank}.  {hit.score:.3f}\n{file_name(hit.path)}" for rank, hit in enumerate(hits, start=1)]
        pictures_of = zip((results.picture_of(hit, size_px) for hit in hits), named, strict=True)
        tiles = [(picture, name) for picture, name in pictures_of if picture]
        sheet = contact_sheet(tiles, title=_asked(query), lines=3, size_px=size_px)
        write_picture(options["sheet"], sheet.save)
    if options["show_input"] and pictures:
        there = [hit.path for hit in pictures if results.is_file(hit.path)]
        for path in sorted({hit.path for hit in pictures}.difference(there)):
            say(f"not shown: {path} is not there any more, or is no file")
        write_input_sheet(options["show_input"], index.model, there)
    if options["opened"]:
        results.open_files(list(dict.fromkeys(hit.path for hit in hits))[: options["opened"]])


def _asked(query: Query) -> str:
    """A query in a line, for people: "a dog" - 0.5 snow.jpg."""
    from diptych.display.plots import file_name, shortened

    parts = []
    for term in query.terms:
        value = term.value
        is_path = isinstance(value, (str, os.PathLike)) and term.kind == "picture"
        said = shortened(str(value)) if term.kind == "text" else file_name(value) if is_path else f"a {term.kind}"
        size = "" if abs(term.weight) == 1 else f"{abs(term.weight):g} "
        parts.append(f"{'-' if term.weight < 0 else '+'} {size}{said}")
    return "  ".join(parts).removeprefix("+ ")
