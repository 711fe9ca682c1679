"""Shared by several commands: options, opening the model, reports of failures, pictures to write."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.fetching import asking_before_fetching, yes_option
from diptych.cli.names import escaped_json
from diptych.cli.terminal import print_json_text
from diptych.cli.terminal import print_status as print_status
from diptych.cli.terminal import progress as progress
from diptych.cli.terminal import stages as stages
from diptych.cli.wording import failure_message, notice
from diptych.display.counting import counted
from diptych.errors import ArgumentError, ImageError, Setting
from diptych.untrusted.links import LEADS_OUT

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.engines import EngineName
    from diptych.failures import Failure

_MAX_NAMED = 3  # refused entries
_MAX_FAILURES = 5
Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
truncate_option = click.option("--truncate", is_flag=True, help="Cut texts that are longer than the model's context.")

# An index remembers its choice, so there it can also be taken back.
follow_links_option = click.option(
    "--follow-links", is_flag=True, help="Follow links that lead out of a folder; by default they are left out."
)
outside_option = click.option(
    "--allow-outside",
    is_flag=True,
    help="Read files outside the data's folder that a table names or a link leads to; by default they are left out "
    "and counted.",
)
remembered_links_option = click.option(
    "--follow-links/--no-follow-links",
    default=None,
    help="Follow links that lead out of the folder; by default they are left out. Remembered.",
)

activation_option = click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="The model's activation, if its weights file has no configuration: quick_gelu for OpenAI's models, gelu for "
    "most others.",
)


def model_options(command: Command, *, engines: Sequence[str] = ("openvino", "pytorch")) -> Command:
    """--model, --yes, --engine, --device, --activation and --json."""
    runs = "What runs the model; by default PyTorch on a GPU and OpenVINO on a CPU."
    for option in (
        json_option,
        activation_option,
        click.option("--device", help="cuda, mps or cpu; by default the first of these that is available."),
        click.option(
            "--engine",
            type=click.Choice(engines),
            help=runs + (" ray: the same on each worker of a Ray cluster." if "ray" in engines else ""),
        ),
        yes_option,
        click.option(
            "--model",
            metavar="MODEL",
            help="A model folder, a checkpoint, a hub id or a name from `diptych models --pretrained`; by default the "
            "bundled model.",
        ),
    ):
        command = option(command)
    return command


def open_model(
    model: str | None, device: str | None, activation: str | None, engine: EngineName | None = None
) -> Embedder:
    """Load the model and report on stderr which engine runs it on which device."""
    from diptych.embedder import load
    from diptych.engines import NUMPY_CALLS

    with asking_before_fetching():
        embedder = load(model, device=device, activation=activation, engine=engine)
    embedder.engine.numpy_calls = NUMPY_CALLS
    print_status(f"{model or 'bundled model'} · {embedder.engine.label()}")
    for note in embedder.notes:
        print_status(note)
    return embedder


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on stdout, in Unicode. Bytes of a file's name that are not text become \\udc80 to \\udcff. A list
    of numbers is on one line, and a number has as many digits as float32 has."""
    is_unicode = sys.stdout.encoding.lower().startswith("utf")
    print_json_text(escaped_json(_json(result, not is_unicode, "\n"), terminal=sys.stdout.isatty()))


def _json(value: Any, ascii_only: bool, newline: str) -> str:
    inside = f"{newline} "
    if isinstance(value, Mapping) and value:
        keys = (json.dumps(str(key), ensure_ascii=ascii_only) for key in value)
        lines = (f"{key}: {_json(item, ascii_only, inside)}" for key, item in zip(keys, value.values(), strict=True))
        return f"{{{inside}{f',{inside}'.join(lines)}{newline}}}"
    if isinstance(value, (list, tuple)) and value:
        is_flat = not any(isinstance(item, (Mapping, list, tuple, str)) for item in value)
        lines = [_json(item, ascii_only, inside) for item in value]
        return f"[{', '.join(lines)}]" if is_flat else f"[{inside}{f',{inside}'.join(lines)}{newline}]"
    if isinstance(value, float):
        value = float(f"{value:.9g}")
    return json.dumps(value, ensure_ascii=ascii_only, default=str, allow_nan=False)


def report_skipped(skipped: Mapping[str, int]) -> None:
    """Print on stderr how many files were skipped on purpose, by reason."""
    parts = sorted(
        ((reason, count) for reason, count in skipped.items() if reason != LEADS_OUT), key=lambda part: -part[1]
    )
    if parts:
        print_status("skipped: " + ", ".join(f"{count:,} {reason}" for reason, count in parts))
    report_links(skipped.get(LEADS_OUT, 0))


def report_refused(refused: Collection[str]) -> None:
    """Print on stderr the entries of an index that are not files of its folder: someone else may have added them."""
    if refused:
        some = ", ".join(islice(refused, _MAX_NAMED)) + (", ..." if len(refused) > _MAX_NAMED else "")
        one, several = "entry of the index that is not a file", "entries of the index that are not files"
        print_status(f"left out {counted(len(refused), one, several)} of its folder: {some}")


def report_links(count: int) -> None:
    """Print on stderr how many links lead out of a folder and were not followed, and the flag that follows them."""
    if count:
        setting = Setting("follow_links", True, "diptych.open_index")
        one = ["1 link leads out of the folder and was not followed; ", setting, " follows it"]
        more = [f"{count:,} links lead out of the folder and were not followed; ", setting, " follows them"]
        print_status(notice(one if count == 1 else more))


def report_reread(reread: Mapping[str, int]) -> None:
    """Print on stderr how many files were read again because this version reads them better, by kind."""
    if reread:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in reread.items())
        print_status(f"read {counted(sum(reread.values()), 'file')} again, which this version reads better: {kinds}")


def report_failures(failures: Mapping[Any, Failure], known_count: int = 0) -> int:
    """Print on stderr which inputs were left out, by reason; return the exit code. The last `known_count` of them were
    named by an earlier run: they are only counted, and do not make the code PARTLY."""
    if not failures:
        return OK
    counts = Counter(failure.reason for failure in failures.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    known = f" ({known_count} of them as before: diptych doctor FOLDER lists all)" if known_count else ""
    print_status(f"left out {len(failures)}: {reasons}{known}")
    new = list(failures.values())[: len(failures) - known_count]
    for failure in new[:_MAX_FAILURES]:
        print_status(f"  {failure_message(failure)}")
    if len(new) > _MAX_FAILURES:
        print_status(f"  and {len(new) - _MAX_FAILURES} more (--json lists all)")
    return PARTLY if new else OK


def failures_json(failures: Mapping[Any, Failure]) -> dict[str, str]:
    """The inputs that were left out, each with its message, for --json."""
    return {str(key): failure_message(failure) for key, failure in failures.items()}


def lines_of(path: str) -> list[str]:
    """The lines of a text file without the space around them; empty lines are skipped."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{path} is not UTF-8 text; wanted a text file with one entry per line.") from None
    return [line for line in map(str.strip, text.splitlines()) if line]


def listed(text: str | None, path: str | None, option: str) -> list[str]:
    """The names in `--option A,B` or `--option-file FILE`, without repetitions: a repeated label would share its
    probability. Raises UsageError if both are given."""
    if text is not None and path:
        raise click.UsageError(f"{option} are given twice. Pass --{option} or --{option}-file, not both.")
    names = lines_of(path) if path else [name.strip() for name in (text or "").split(",")]
    return list(dict.fromkeys(name for name in names if name))


def report_truncated(model: Embedder, texts: Sequence[str]) -> None:
    """Print on stderr how many of these texts --truncate has cut."""
    if count := model.tokenize(texts, truncate=True).truncated:
        print_status(f"cut {count} of {len(texts)} texts to the model's {model.config.text.context} tokens")


def write_picture(path: str, save: Callable[[str], object]) -> None:
    """Call `save` to write the file, and report it. An error mentions that the results are printed already."""
    try:
        if not Path(path).suffix:
            raise ArgumentError("its name has no extension")
        with warnings.catch_warnings(record=True, action="default") as warned:
            save(path)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise click.ClickException(
            f"{path} cannot be written ({cause}). The results above are complete. Name a file that ends in .png, in a "
            "folder that exists and is writable."
        ) from error
    if any("Glyph" in str(warning.message) for warning in warned):
        print_status("the font lacks some characters; they are drawn as boxes")
    print_status(f"wrote {path}")


def write_input_sheet(path: str, model: Embedder, pictures: list[Any]) -> None:
    """Write the pictures as the image tower sees them, side by side, as one PNG, without those that Pillow cannot read
    (RAW)."""
    from diptych.display.plots import contact_sheet, file_name

    tiles = []
    for picture in pictures:
        try:
            tiles.append((model.model_input(picture), file_name(picture)))
        except ImageError as error:
            print_status(f"not shown: {error}")
    write_picture(path, contact_sheet(tiles, are_names=True).save)
