"""What several commands share: options, opening the model, progress, and saying what went wrong."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.names import escaped_json
from diptych.cli.terminal import progress as progress
from diptych.cli.terminal import say as say
from diptych.cli.terminal import stages as stages
from diptych.cli.terminal import tell_json
from diptych.cli.wording import failure_message, notice
from diptych.errors import ArgumentError, ImageError, Setting
from diptych.untrusted.links import LEADS_OUT

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.engines import EngineName
    from diptych.failures import Failure

_MOST_NAMED = 3
Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
truncate_option = click.option("--truncate", is_flag=True, help="Cut texts that are longer than the model reads.")

# In two kinds: what an index remembers has a way back
follow_links_option = click.option(
    "--follow-links", is_flag=True, help="Take in what links lead out of a folder to; by default these are left out."
)
outside_option = click.option(
    "--allow-outside",
    is_flag=True,
    help="Read files outside of the data's folder, where a table names them or a link leads to them; by default these "
    "are left out and counted.",
)
remembered_links_option = click.option(
    "--follow-links/--no-follow-links",
    default=None,
    help="Take in what links lead out of the folder to; by default these are left out. Remembered.",
)

activation_option = click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="What the model was trained with, where a weights file without a configuration does not say: quick_gelu for "
    "OpenAI's models, gelu for most others.",
)


def model_options(command: Command) -> Command:
    """--model, --engine, --device, --activation and --json."""
    for option in (
        json_option,
        activation_option,
        click.option("--device", help="cuda, mps or cpu; by default the first of these that is here."),
        click.option(
            "--engine",
            type=click.Choice(["openvino", "pytorch"]),
            help="What runs the model: by default PyTorch on GPUs and OpenVINO on processors.",
        ),
        click.option(
            "--model", metavar="MODEL", help="A model folder, a checkpoint, a hub id, or bundled, the default."
        ),
    ):
        command = option(command)
    return command


def open_model(
    model: str | None, device: str | None, activation: str | None, engine: EngineName | None = None
) -> Embedder:
    """Load the model and say on stderr what runs where."""
    from diptych.embedder import load

    embedder = load(model, device=device, activation=activation, engine=engine)
    say(f"{model or 'bundled model'} · {embedder.engine.describe()}")
    for note in embedder.notes:
        say(note)
    return embedder


def print_json(result: Mapping[str, Any]) -> None:
    """One object on stdout, in Unicode: the stray bytes of a file's name come as \\udc80 to \\udcff. Lists of numbers
    stand on one line, and numbers have as many digits as float32 has."""
    is_unicode = sys.stdout.encoding.lower().startswith("utf")
    tell_json(escaped_json(_json(result, not is_unicode, "\n"), terminal=sys.stdout.isatty()))


def _json(value: Any, ascii_only: bool, newline: str) -> str:
    inside = f"{newline} "
    if isinstance(value, Mapping) and value:
        keys = (json.dumps(str(key), ensure_ascii=ascii_only) for key in value)
        lines = (f"{key}: {_json(each, ascii_only, inside)}" for key, each in zip(keys, value.values(), strict=True))
        return f"{{{inside}{f',{inside}'.join(lines)}{newline}}}"
    if isinstance(value, (list, tuple)) and value:
        is_flat = not any(isinstance(each, (Mapping, list, tuple, str)) for each in value)
        lines = [_json(each, ascii_only, inside) for each in value]
        return f"[{', '.join(lines)}]" if is_flat else f"[{inside}{f',{inside}'.join(lines)}{newline}]"
    if isinstance(value, float):
        value = float(f"{value:.9g}")
    return json.dumps(value, ensure_ascii=ascii_only, default=str, allow_nan=False)


def report_skipped(skipped: Mapping[str, int]) -> None:
    """Say how many files were left out by choice, by reason, on stderr."""
    parts = sorted(
        ((reason, count) for reason, count in skipped.items() if reason != LEADS_OUT), key=lambda part: -part[1]
    )
    if parts:
        say("not looked at: " + ", ".join(f"{count:,} {reason}" for reason, count in parts))
    report_links(skipped.get(LEADS_OUT, 0))


def report_refused(refused: Collection[str]) -> None:
    """Say what an index holds that is no file of its folder, on stderr; in doubt, someone else put it there."""
    if refused:
        some = ", ".join(islice(refused, _MOST_NAMED)) + (", ..." if len(refused) > _MOST_NAMED else "")
        say(f"left out {len(refused):,} entries of the index that are no files of its folder: {some}")


def report_links(count: int) -> None:
    """Say how many links lead out of a folder and were not followed, and what follows them, on stderr."""
    if count:
        follows = Setting("follow_links", True, "diptych.open_index")
        one = ["1 link leads out of the folder and was not followed; ", follows, " follows it"]
        more = [f"{count:,} links lead out of the folder and were not followed; ", follows, " follows them"]
        say(notice(one if count == 1 else more))


def report_reread(reread: Mapping[str, int]) -> None:
    """Say which files were read again because this version reads them better, by kind, on stderr."""
    if reread:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in reread.items())
        say(f"{sum(reread.values()):,} files are read better by this version and were read again: {kinds}")


def report_failures(failures: Mapping[Any, Failure], before: int = 0) -> int:
    """Name what was left out, by reason, on stderr; the exit code that follows. The last `before` of them were named
    before, and are counted alone."""
    if not failures:
        return OK
    counts = Counter(failure.reason for failure in failures.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    known = f" ({before} of them as before: diptych doctor FOLDER names all)" if before else ""
    say(f"left out {len(failures)}: {reasons}{known}")
    new = list(failures.values())[: len(failures) - before]
    for failure in new[:5]:
        say(f"  {failure_message(failure)}")
    if len(new) > 5:
        say(f"  and {len(new) - 5} more (--json names all)")
    return PARTLY


def failures_json(failures: Mapping[Any, Failure]) -> dict[str, str]:
    """What was left out, with why, for --json."""
    return {str(key): failure_message(failure) for key, failure in failures.items()}


def pictures_in(places: tuple[str, ...], *, follow_links: bool = False) -> list[Any]:
    """Files and URLs as they are, and every picture of a folder; links that lead out of it are counted on stderr, or
    followed."""
    from diptych.media.images import find_images

    found, left = list[Any](), list[Path]()
    follows = (lambda path: True) if follow_links else None
    for place in places:
        found += find_images(place, follows=follows, left=left) if os.path.isdir(place) else [place]
    report_links(len(left))
    return found


def lines_of(path: str) -> list[str]:
    """The lines of a text file that hold anything, without the space around them."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{path} is no text in UTF-8; wanted a text file with one entry a line.") from None
    return [line for line in map(str.strip, text.splitlines()) if line]


def listed(text: str | None, path: str | None, option: str) -> list[str]:
    """What `--option A,B` or `--option-file FILE` names, each once: a name that stands there twice would share its
    part. Raises UsageError where both came."""
    if text is not None and path:
        raise click.UsageError(f"{option} came twice. Pass --{option} or --{option}-file, not both.")
    found = lines_of(path) if path else [name.strip() for name in (text or "").split(",")]
    return list(dict.fromkeys(name for name in found if name))


def say_cut(model: Embedder, texts: Sequence[str]) -> None:
    """How many of these texts --truncate has shortened."""
    if cut := model.tokenize(texts, truncate=True).cut:
        say(f"cut {cut} of {len(texts)} texts to the {model.config.text.context} tokens that the model reads")


def write_picture(path: str, save: Callable[[str], object]) -> None:
    """Have `save` write the file, and say so. The results are out by then, and an error says that."""
    try:
        if not Path(path).suffix:
            raise ArgumentError("its name has no ending")
        with warnings.catch_warnings(record=True, action="default") as warned:
            save(path)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        todo = "name a file that ends in .png, in a folder that is there and can be written."
        raise click.ClickException(f"{path} cannot be written ({what}). The results above are whole; {todo}") from error
    if any("Glyph" in str(warning.message) for warning in warned):
        say("some letters are not in the font that is drawn with; they became boxes")
    say(f"wrote {path}")


def write_input_sheet(path: str, model: Embedder, pictures: list[Any]) -> None:
    """The pictures as the tower sees them, side by side, in one PNG; without those that Pillow cannot read (RAW)."""
    from diptych.display.plots import contact_sheet, file_name

    tiles = []
    for picture in pictures:
        try:
            tiles.append((model.model_input(picture), file_name(picture)))
        except ImageError as error:
            say(f"not shown: {error}")
    write_picture(path, contact_sheet(tiles).save)
