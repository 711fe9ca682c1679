"""Browsing: items, lists of them, facets, thumbnails, originals."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from diptych.index.catalog.browsing import Order, Sort
from diptych.serve.library import items
from diptych.serve.library.files.originals import CACHING, OriginalFile
from diptych.serve.library.files.thumbnails import width_of
from diptych.serve.routes.asking import CursorQuery, Page, PageSize, answered, filters_from_query, has_tag
from diptych.serve.service import OfLibrary, Served
from diptych.serve.web.answers import ItemDetails, ItemsAnswer, LookupAnswer
from diptych.serve.web.problems import RequestProblem
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import LIMIT, LookupBody

router = APIRouter(route_class=Route, tags=["items"])
Filters = Annotated[dict[str, Any], Depends(filters_from_query)]
Id = Annotated[int, Path(ge=1, le=2**53)]
_FOREVER = "private, max-age=31536000, immutable"


@router.get("/items", response_model=ItemsAnswer)
def list_items(
    served: Served,
    library: OfLibrary,
    filters: Filters,
    sort: Sort = "taken_at",
    order: Order = "desc",
    offset: Page = 0,
    limit: PageSize = LIMIT,
    cursor: CursorQuery = None,
) -> Response:
    """What is there, without a query: one entry for each file."""
    with library.pool.reading() as index:
        cursor, listed = library.browsing.listed(index, filters, sort, order, cursor)
        ids = listed.ids[offset : offset + limit].tolist()
        shown = [served.view.of(item) for item in items.found(index, ids)]
    end = offset + len(ids)
    is_more = bool(ids) and end < len(listed)
    return answered({"items": shown, "total": len(listed), "next_offset": end if is_more else None, "cursor": cursor})


@router.get("/items/{id:int}", response_model=ItemDetails)
def item(id: Id, served: Served, library: OfLibrary) -> Response:
    """An item with its file's picture, its film's frames, its copies and its texts."""
    with library.pool.reading() as index:
        return answered(items.details_of(index, id, served.view))


@router.post("/items/lookup", response_model=LookupAnswer)
def lookup(body: LookupBody, served: Served, library: OfLibrary) -> Response:
    """Items by their ids, without those that are gone."""
    with library.pool.reading() as index:
        return answered({"items": [served.view.of(item) for item in items.found(index, body.ids)]})


@router.get("/facets", response_model=dict[str, Any])
def count_facets(library: OfLibrary, filters: Filters) -> Response:
    """What the filters can select, counted."""
    with library.pool.reading() as index:
        return answered(library.browsing.counted(index, filters))


@router.get(
    "/thumbnails/{id:int}",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "As the browser has it."}},
)
def thumbnail(
    id: Id,
    request: Request,
    library: OfLibrary,
    width: Annotated[int, Query(ge=1, le=10_000)] = 320,
    v: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """An item's picture, upright, small, as JPEG."""
    with library.pool.reading() as index:
        item = items.one(index, id)
    if item.kind == "text":
        raise RequestProblem(404, "NotFoundError", f"item {id} is a text, which has no picture.")
    width = width_of(width)
    tag = f'"{items.version_of(item)}-{item.id}-{width}"'
    headers = {"ETag": tag, "Cache-Control": _FOREVER if v == items.version_of(item) else "private, no-cache"}
    if has_tag(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(library.thumbnails.get(item, width), media_type="image/jpeg", headers=headers)


@router.get(
    "/items/{id:int}/original",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in ("image/*", "video/*", "text/plain", "application/octet-stream")}},
        206: {"description": "A part of the file."},
        304: {"description": "As the browser has it."},
        416: {"description": "The file has no such part."},
    },
)
def original(id: Id, request: Request, served: Served, library: OfLibrary) -> Response:
    """The file of an item, whole or in part (Range), unless it is as the browser has it (If-None-Match)."""
    if not served.settings.originals:
        raise RequestProblem(
            403, "NotOfferedError", "this server shows no original files.", remedy="Start it with --originals."
        )
    with library.pool.reading() as index:
        file = OriginalFile.of(index, items.one(index, id))
    if has_tag(request, file.tag):
        file.close()
        return Response(status_code=304, headers={"ETag": file.tag, "Cache-Control": CACHING})
    is_same = request.headers.get("if-range", file.tag) == file.tag
    return file.response(request.headers.get("range") if is_same else None)
