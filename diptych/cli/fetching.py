"""What is said and asked before a model is fetched from the hub: its size and license, --yes, the question."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.terminal import ask, bars_paused, print_status

if TYPE_CHECKING:
    from diptych.checkpoint.hub import Download

Command = TypeVar("Command", bound=Callable[..., Any])
_YES = "diptych.yes"  # a key of click's context


def _remember(context: click.Context, _parameter: click.Parameter, is_given: bool) -> None:
    context.meta[_YES] = is_given


yes_option = click.option(
    "--yes",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Fetch a model from the hub without being asked.",
)


@contextmanager
def asking_before_fetching() -> Iterator[None]:
    """Within it, a model that is not in the hub's cache is announced before it is fetched; at a terminal the user is
    asked. No bar is drawn meanwhile, because the hub's client draws its own."""
    from diptych.checkpoint.hub import asking

    with bars_paused(), asking(_is_wanted):
        yield


def _is_wanted(download: Download) -> bool:
    print_status(description(download))
    context = click.get_current_context(silent=True)
    is_one_of_many = int(os.environ.get("WORLD_SIZE", "1")) > 1  # processes of one run
    if (context and context.meta.get(_YES)) or is_one_of_many or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return ask("Fetch it? [Y/n]") in ("", "y", "yes")


def description(download: Download) -> str:
    """One sentence: what will be fetched, how much, and its license. What the hub leaves open, the table of pretrained
    models may have."""
    from diptych.checkpoint.pretrained.names import model_of_id

    known = model_of_id(download.repo_id)
    size_bytes = download.size_bytes or (known.download_mb * 1_000_000 if known else None)
    size = "of unknown size" if size_bytes is None else megabytes(size_bytes / 1e6)
    license_name = download.license or (known.license if known else None) or "not named on its page"
    what = f" ({known.architecture})" if known else ""
    return f"{download.repo_id}{what} is not in the cache of the hub; to fetch: {size}; license: {license_name}"


def megabytes(count: float) -> str:
    """A size, of which `count` is in megabytes, with three digits."""
    return f"{count / 1000:.3g} GB" if count >= 1000 else f"{count:.3g} MB"
