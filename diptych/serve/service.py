"""All that the routes use, opened once: the model, its queue, the decoders, and the index if a folder is served."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import Depends, Request

from diptych.errors import DiptychError
from diptych.index.local import LocalIndex
from diptych.index.model import source_of
from diptych.media.reading.decoders import DecoderPool
from diptych.serve.library.albums import Albums
from diptych.serve.library.browsing import Browsing
from diptych.serve.library.files.thumbnails import Thumbnails
from diptych.serve.library.files.uploads import Uploads
from diptych.serve.library.index_pool import AnyIndex, IndexPool
from diptych.serve.library.items import ItemView
from diptych.serve.library.jobs import Jobs
from diptych.serve.library.overview.layouts import Layouts
from diptych.serve.library.searching import Searching
from diptych.serve.library.updating import NotUpdating, Updating
from diptych.serve.model.drawings import Drawings
from diptych.serve.model.engine_queue import EngineQueue
from diptych.serve.model.pictures import Pictures
from diptych.serve.model.served_model import ServedModel
from diptych.serve.settings import ServeSettings
from diptych.serve.web.metrics import Metrics
from diptych.serve.web.problems import RequestProblem
from diptych.serve.web.schemas import FilterBody
from diptych.storage.user.cache_folder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from diptych.embedder import Embedder

    OpenIndex = Callable[[ServedModel], AnyIndex]


@dataclass(eq=False)
class Library:
    """A folder that is served."""

    pool: IndexPool
    searching: Searching
    uploads: Uploads
    thumbnails: Thumbnails
    albums: Albums
    updating: Updating | NotUpdating
    jobs: Jobs
    layouts: Layouts
    browsing: Browsing


@dataclass(eq=False)
class Service:
    """What is served. `close` ends its threads and processes."""

    settings: ServeSettings
    model: ServedModel
    decoders: DecoderPool
    pictures: Pictures
    drawings: Drawings
    library: Library | None = None
    metrics: Metrics = field(default_factory=Metrics)
    stopping: threading.Event = field(default_factory=threading.Event)
    is_ready: bool = False
    is_warming_up: bool = False
    streams: int = 0  # of events, that are open

    @property
    def model_name(self) -> str:
        """The name of the model in answers, which tells nothing of the disk."""
        name = source_of(self.model.embedder)
        return os.path.basename(name.rstrip("/")) if os.path.isabs(name) else name

    @property
    def view(self) -> ItemView:
        """How items are shown."""
        subfolder = "" if self.library is None else self.library.pool.subfolder
        return ItemView(self.settings.root_path.rstrip("/"), self.settings.originals, subfolder, self.shows_pictures)

    @property
    def shows_pictures(self) -> bool:
        """Whether the pictures of the library may be read."""
        return self.library is None or self.library.pool.pictures_root is not None

    def warm_up(self) -> None:
        """Have the page's first view made, both towers compiled and the vectors opened, which may have to be built,
        before anybody waits for them."""
        self.is_warming_up = True
        if self.library is not None:
            self.library.browsing.make_ahead()
        size_px = self.model.preprocessing.size_px
        try:
            self.model.queue.texts(self.model.tokenize("a picture")).result()
            self.model.queue.pictures(np.zeros((1, size_px, size_px, 3), np.uint8)).result()
            if self.library is not None:
                self.library.searching.warm_up()
            self.is_ready = not self.stopping.is_set()
        except (DiptychError, RequestProblem) as error:
            logging.getLogger("diptych.serve").error("the model does not answer: %s", error)
        finally:
            self.is_warming_up = False

    def close(self) -> None:
        """End what runs; what waits for the model is embedded first."""
        self.stopping.set()
        self.is_ready = False
        self.drawings.close()
        if self.library is not None:
            self.library.updating.close()
            self.library.layouts.close()
            self.library.jobs.close()
            self.library.searching.close()
            self.library.browsing.close()
        self.model.queue.close(timeout_s=self.settings.deadline_s)
        self.decoders.close()
        if self.library is not None:
            self.library.pool.close()


def open_service(
    model: Embedder, settings: ServeSettings, *, open_index: OpenIndex | None = None, watching: bool = True,
    worded: Callable[[Exception], str] = str,
) -> Service:  # fmt: skip
    """A service of this model. `open_index` opens a copy of the index that is served, with the model that it is given;
    it is called several times. `worded` makes the message of an update that failed, for who started the server. Nothing
    is indexed until `updating.start` is called."""
    queue = EngineQueue(model, most_texts=settings.queue_texts, most_pictures=settings.queue_pictures)
    served = ServedModel(model, queue)
    pool = None if open_index is None else IndexPool(lambda: open_index(served))
    with_links = pool is not None and _follows_links(pool)
    root = None if pool is None else pool.pictures_root
    decoders = DecoderPool(root, model.preprocessing, processes=settings.processes, follow_links=with_links)
    pictures = Pictures(served, decoders, allow_urls=settings.allow_urls)
    service = Service(settings, served, decoders, pictures, Drawings(served, settings.generator))
    if pool is not None and open_index is not None:
        uploads = Uploads(_cache("uploads"), pictures)
        browsing = Browsing(pool, FilterBody().model_dump())
        background = open_index(served.for_background())
        updating = NotUpdating()
        if isinstance(background, LocalIndex):
            updating = Updating(background, watching=watching, after=browsing.make_ahead, worded=worded)
        service.library = Library(
            pool, Searching(pool, served, pictures, uploads), uploads,
            Thumbnails(_cache("thumbnails"), decoders, settings.thumbnail_cache_bytes),
            Albums(pool.name), updating, Jobs(), Layouts(_cache("maps")), browsing,
        )  # fmt: skip
    return service


def _follows_links(pool: IndexPool) -> bool:
    with pool.reading() as index:
        return bool(index.rules.follow_links)


def _cache(name: str) -> Path:
    return cache_folder(name)


def service_of(request: Request) -> Service:
    """The service of an application."""
    return request.app.state.service


def library_of(request: Request) -> Library:
    """The folder that is served. Raises RequestProblem (404) where none is."""
    library = service_of(request).library
    if library is None:
        raise RequestProblem(404, "NotOfferedError", "this server was started without a folder.")
    return library


async def _service(request: Request) -> Service:  # FastAPI would call a plain function in another thread
    return service_of(request)


async def _library(request: Request) -> Library:
    return library_of(request)


Served = Annotated[Service, Depends(_service)]
OfLibrary = Annotated[Library, Depends(_library)]
