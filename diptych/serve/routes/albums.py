"""Albums, and exports of what was selected or found."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response

from diptych.errors import DiptychError
from diptych.serve.library import exports
from diptych.serve.library.albums import ids_of, shown_album
from diptych.serve.library.items import found
from diptych.serve.routes.asking import answered
from diptych.serve.service import Library, OfLibrary, Served, Service
from diptych.serve.web.answers import AlbumAnswer, AlbumDetails, AlbumsAnswer
from diptych.serve.web.problems import RequestProblem
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import ALBUM_ID, MOST, AlbumBody, AlbumChange, ExportBody

router = APIRouter(route_class=Route, tags=["albums"])
AlbumId = Annotated[str, Path(pattern=ALBUM_ID)]
_COVERS = 8
_KINDS = {
    "paths": ("text/plain; charset=utf-8", "txt"), "csv": ("text/csv; charset=utf-8", "csv"),
    "json": ("application/json", "json"), "sheet": ("image/png", "png"), "links": ("application/zip", "zip"),
}  # fmt: skip


@router.get("/albums", response_model=AlbumsAnswer)
def albums(served: Served, library: OfLibrary) -> Response:
    """All albums, the newest first."""
    _look_for_covers(served, library)
    with library.pool.reading() as index:
        return answered({"albums": library.albums.all(index, served.view)})


@router.post("/albums", response_model=AlbumAnswer, status_code=201)
def add_album(body: AlbumBody, served: Served, library: OfLibrary) -> Response:
    """Save a search or a selection."""
    search = body.search.model_dump() if body.search else None
    with library.pool.reading() as index:
        id = library.albums.add(index, body.name, search, body.items or [])["id"]
    _look_for_covers(served, library)
    with library.pool.reading() as index:
        return answered(shown_album(index, library.albums.get(id), served.view), 201)


@router.get("/albums/{id}", response_model=AlbumDetails)
def album(id: AlbumId, served: Served, library: OfLibrary) -> Response:
    """An album; a selection with its items."""
    return answered(_details(served, library, library.albums.get(id)))


@router.patch("/albums/{id}", response_model=AlbumDetails)
def change_album(id: AlbumId, body: AlbumChange, served: Served, library: OfLibrary) -> Response:
    """Rename an album, change its search, or add to a selection and remove from it."""
    search = body.search.model_dump() if body.search else None
    with library.pool.reading() as index:
        changed = library.albums.change(
            index, id, name=body.name, search=search, add=body.add, remove=body.remove,
            remove_missing=body.remove_missing,
        )  # fmt: skip
    if search is not None:
        _look_for_covers(served, library)
        changed = library.albums.get(id)
    return answered(_details(served, library, changed))


@router.delete("/albums/{id}", status_code=204, response_class=Response)
def delete_album(id: AlbumId, library: OfLibrary) -> Response:
    """Delete an album; no picture is touched."""
    library.albums.delete(id)
    return Response(status_code=204)


def _look_for_covers(served: Service, library: Library) -> None:
    """Give saved searches that have none their best picture as the cover, the newest first; some at a time."""
    with library.pool.reading() as index:
        searches = library.albums.uncovered(index)[: -_COVERS - 1 : -1] if index.exists else []
    for album in searches:
        wanted = album["search"] | {"offset": 0, "limit": 20, "cursor": None}
        try:
            hits = library.searching.page(wanted, served.view).hits
        except (DiptychError, RequestProblem) as problem:
            if getattr(problem, "status", 0) == 503:  # another time
                continue
            hits = []  # such as an upload that is kept no longer
        best = next((hit["id"] for hit in hits if hit["thumbnail"]), None)
        with library.pool.reading() as index:
            library.albums.set_cover(index, album["id"], best)


def _details(served: Service, library: Library, album: dict[str, Any]) -> dict[str, Any]:
    files = album.get("files")
    with library.pool.reading() as index:
        items = None if files is None else found(index, ids_of(index, files))
        shown = shown_album(index, album, served.view)
    missing = 0 if files is None or items is None else len(files) - len(items)
    return shown | {"items": None if items is None else [served.view.of(item) for item in items], "missing": missing}


@router.post(
    "/exports",
    response_class=Response,
    responses={200: {"content": {kind.partition(";")[0]: {} for kind, _ in _KINDS.values()}}},
)
def export(body: ExportBody, served: Served, library: OfLibrary) -> Response:
    """What was selected or found, as a file."""
    ids, scores = _selected(body, served, library)
    with library.pool.reading() as index:
        items = found(index, ids)
        root = index.root
    if body.format == "paths":
        content = exports.path_list(items, root if body.absolute else None, library.pool.subfolder)
    elif body.format == "csv":
        content = exports.table(items, scores, served.view)
    elif body.format == "json":
        content = exports.as_json(items, served.view)
    elif body.format == "links":
        content = exports.links(items, root)
    else:
        title, columns, size_px = body.title, body.columns, body.size_px
        content = exports.sheet(items, library.thumbnails, title=title, columns=columns, size_px=size_px)
    kind, ending = _KINDS[body.format]
    headers = {"Content-Disposition": f'attachment; filename="diptych.{ending}"'}
    return Response(content, media_type=kind, headers=headers)


def _selected(body: ExportBody, served: Service, library: Library) -> tuple[list[int], dict[int, float]]:
    """The ids to export, in their order, and the scores of those that were found."""
    if body.items is not None:
        return list(dict.fromkeys(body.items)), {}
    search = body.search.model_dump() if body.search else None
    if body.album is not None:
        album = library.albums.get(body.album)
        if "files" in album:
            with library.pool.reading() as index:
                return ids_of(index, album["files"]), {}
        search = album["search"]
    ids, scores, offset, cursor = list[int](), dict[int, float](), 0, None
    while search is not None and len(ids) < body.limit:
        wanted = search | {"offset": offset, "limit": min(MOST, body.limit - len(ids)), "cursor": cursor}
        page = library.searching.page(wanted, served.view)
        ids += [hit["id"] for hit in page.hits]
        scores |= {hit["id"]: hit["score"] for hit in page.hits}
        if page.next_offset is None:
            break
        offset, cursor = page.next_offset, page.cursor
    return ids, scores
