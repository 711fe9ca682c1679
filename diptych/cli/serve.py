"""diptych serve"""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from diptych.cli.exit_codes import OK
from diptych.cli.options import model_options, open_model, print_json, print_status, remembered_links_option
from diptych.cli.sections import Sectioned
from diptych.cli.terminal import print_error, print_result
from diptych.cli.trusting import opened, trust_option
from diptych.cli.wording import message_of
from diptych.index.stores.uri import is_store_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diptych.serve.library.index_pool import AnyIndex
    from diptych.serve.settings import ServeSettings

SECTIONS = {
    "Where": ("host", "port", "root_path", "hosts", "cors", "proxies", "certificate", "key"),
    "What": ("originals", "allow_urls", "pictures", "update", "index_dir", "follow_links", "trust"),
    "Safety and limits": ("token", "deadline_s", "max_body", "thumbnail_cache", "processes", "access_log"),
    "Model": ("model", "yes", "engine", "device", "activation", "as_json"),
}
TOKEN_ENV = "DIPTYCH_TOKEN"


class _FolderOrAddress(click.Path):
    """A folder that exists, or the address of a store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if is_store_uri(value) else super().convert(value, param, ctx)


@click.command("serve", cls=Sectioned, sections=SECTIONS)
@click.argument("folder", required=False, type=_FolderOrAddress(exists=True, file_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="The port; 0 takes any free one."
)
@click.option("--token", envvar=TOKEN_ENV, help=f"What to ask programs and the page for; also {TOKEN_ENV}.")
@click.option("--root-path", default="", metavar="PATH", help="The path below which a proxy shows the server.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A further name of the server in URLs.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="A site whose pages may ask, such as https://a.example.")
@click.option("--proxy", "proxies", multiple=True, metavar="ADDRESS", help="A proxy whose forwarded headers count.")
@click.option("--certificate", metavar="PEM", type=click.Path(exists=True, dir_okay=False), help="For https.")
@click.option("--key", metavar="PEM", type=click.Path(exists=True, dir_okay=False), help="The key of --certificate.")
@click.option("--originals", is_flag=True, help="Let the page show and play the files themselves.")
@click.option("--allow-urls", is_flag=True, help="Fetch pictures that requests name by a public address.")
@click.option(
    "--pictures", metavar="DIR", type=click.Path(exists=True, file_okay=False),
    help="Where the pictures of an index at an address are; without it none are shown.",
)  # fmt: skip
@click.option(
    "--update/--no-update", default=True, show_default=True, help="Index new and changed files, now and as they come."
)
@click.option("--index", "index_dir", metavar="DIR", help="The index directory; by default FOLDER/.diptych.")
@click.option(
    "--deadline", "deadline_s", default=30.0, show_default=True, metavar="SECONDS", type=click.FloatRange(1, 3600),
    help="The longest that a request takes.",
)  # fmt: skip
@click.option(
    "--max-body", default=64, show_default=True, metavar="MB", type=click.IntRange(1, 1024), help="Of one request."
)
@click.option(
    "--thumbnail-cache", default=2048, show_default=True, metavar="MB", type=click.IntRange(min=1),
    help="Thumbnails kept on disk.",
)  # fmt: skip
@click.option(
    "--generator", metavar="FOLDER", type=click.Path(), help="What draws pictures; by default the bundled generator."
)
@click.option("--processes", metavar="N", type=click.IntRange(1, 64), help="Processes that decode; one per core.")
@click.option("--access-log", is_flag=True, help="Write a line of JSON on stderr for each request.")
@remembered_links_option
@trust_option
@model_options
def command(folder: str | None, **options: Any) -> int:
    """Serve a page that finds the pictures of FOLDER, and an API for programs. Without FOLDER the API embeds texts and
    pictures. FOLDER may be the address of an index on a server, such as postgresql://HOST/DATABASE#NAME.

    Only this machine can ask, unless --host says otherwise; then a token is needed. A folder without an index is
    indexed in the background, and what is there is found already.

    \b
    diptych serve ~/Pictures
    diptych serve ~/Pictures --host 0.0.0.0 --token "$(openssl rand -hex 16)"
    diptych serve --model clip-vit-b-32
    diptych serve postgresql://localhost/media#photos --pictures ~/Pictures
    """
    from diptych.extras import require

    require("diptych serve", "fastapi", "uvicorn", "python_multipart")
    from diptych.serve.running import bound, check_certificate, check_proxies, serve, spare_memory
    from diptych.serve.service import open_service

    spare_memory()
    settings = _settings(options)
    if bool(options["certificate"]) != bool(options["key"]):
        raise click.UsageError("--certificate and --key belong together.")
    certificate = (options["certificate"], options["key"]) if options["certificate"] else None
    proxies = [each.strip() for given in options["proxies"] for each in given.split(",")]
    check_proxies(proxies)
    if certificate:
        check_certificate(*certificate)
    sock = bound(settings.host, settings.port)  # before what takes a while
    model = _model(folder, options)
    model.engine.numpy_calls = 0
    model.engine.kept_towers |= {"image", "patches"}  # a server is there for long: memory matters more than disk
    opener = None if folder is None else partial(_open_index, folder, options)
    service = open_service(model, settings, open_index=opener, worded=partial(message_of, command=command))
    with ExitStack() as logs:
        for name in ("diptych.serve", "diptych.access") if settings.access_log else ("diptych.serve",):
            logs.enter_context(_on_stderr(name))
        if service.library is not None and options["update"]:
            service.library.updating.start()
        on_start = partial(_report, settings, options["as_json"])
        serve(service, on_start, sock=sock, certificate=certificate, proxies=",".join(proxies))
    return OK


@contextmanager
def _on_stderr(name: str) -> Iterator[None]:
    """The lines of this log are printed within it."""
    log, handler = logging.getLogger(name), _ToStderr()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _ToStderr(logging.Handler):
    """Prints each line of a log on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        print_status(record.getMessage())
        if record.exc_info and record.exc_info[0] is not None:
            print_error("".join(traceback.format_exception(*record.exc_info)).rstrip())


def _settings(options: dict[str, Any]) -> ServeSettings:
    from diptych.serve.settings import MEGABYTE, ServeSettings

    names = ("host", "port", "token", "originals", "allow_urls", "deadline_s", "processes", "access_log", "generator")
    return ServeSettings(
        **{name: options[name] for name in names},
        cors=options["cors"], hosts=options["hosts"], root_path=options["root_path"].rstrip("/"),
        max_body_bytes=options["max_body"] * MEGABYTE, thumbnail_cache_bytes=options["thumbnail_cache"] * MEGABYTE,
    )  # fmt: skip


def _model(folder: str | None, options: dict[str, Any]) -> Any:
    """The model that is served: the chosen one, else the index's own."""
    opener = partial(open_model, **{name: options[name] for name in ("device", "activation", "engine")})
    if folder is None:
        return opener(options["model"])
    with _open_index(folder, options, opener=opener) as index:
        return index.model


def _open_index(folder: str, options: dict[str, Any], model: Any = None, opener: Any = None) -> AnyIndex:
    model = options["model"] if model is None else model
    if is_store_uri(folder):
        from diptych.index.remote import StoreIndex

        return StoreIndex.at(
            folder, model=model, open_model=opener, trust=options["trust"], pictures=options["pictures"]
        )
    return opened(
        folder, model=model, index=options["index_dir"], follow_links=options["follow_links"], open_model=opener,
        trust=options["trust"],
    )  # fmt: skip


def _report(settings: ServeSettings, as_json: bool, address: str) -> None:
    if as_json:
        print_json({"address": address, "pid": os.getpid()})
        return
    print_result(address)
    page = address
    if settings.host in ("0.0.0.0", "::"):  # which is all addresses, and none that another machine could open
        page = address.replace(settings.host if ":" not in settings.host else "[::]", socket.gethostname(), 1)
    if settings.token is not None and sys.stderr.isatty():  # a log does not need it
        print_status(f"with its token: {page}?token={quote(settings.token, safe='')}")
    elif page != address:
        print_status(f"for other machines: {page}")
    print_status("stop with Ctrl-C")
