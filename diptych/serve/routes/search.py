"""Searching: POST and GET /v1/search, /v1/similar/{id}, uploads."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from diptych.serve.library.files.thumbnails import width_of
from diptych.serve.library.files.uploads import ID
from diptych.serve.library.items import one
from diptych.serve.model.pictures import within_deadline
from diptych.serve.routes.asking import (
    CursorQuery,
    Page,
    PageSize,
    answered,
    filters_from_query,
    picture_body,
    sent_pictures,
)
from diptych.serve.service import Library, OfLibrary, Served, Service
from diptych.serve.web.answers import Found, UploadAnswer
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import LIMIT, SearchBody

router = APIRouter(route_class=Route, tags=["search"])
Filters = Annotated[dict[str, Any], Depends(filters_from_query)]
_Modality = Literal["picture", "text", "both"]


@router.post("/search", response_model=Found)
def search(body: SearchBody, served: Served, library: OfLibrary) -> Response:
    """Find what fits texts, pictures and vectors, each with its weight."""
    return _found(served, library, body.model_dump())


@router.get("/search", response_model=Found)
def search_text(
    served: Served,
    library: OfLibrary,
    filters: Filters,
    q: Annotated[str, Query(min_length=1, max_length=100_000)],
    modality: _Modality = "picture",
    relevant: bool = False,
    threshold: Annotated[float | None, Query(ge=-1000, le=1000, allow_inf_nan=False)] = None,
    copies: bool = False,
    diverse: Annotated[float, Query(ge=0, le=1)] = 0.0,
    offset: Page = 0,
    limit: PageSize = LIMIT,
    cursor: CursorQuery = None,
) -> Response:
    """Find what fits one text."""
    return _found_by(
        served, library, filters, terms=[{"text": q}], modality=modality, relevant=relevant, threshold=threshold,
        copies=copies, diverse=diverse, offset=offset, limit=limit, cursor=cursor,
    )  # fmt: skip


@router.get("/similar/{id:int}", response_model=Found)
def similar(
    id: Annotated[int, Path(ge=1, le=2**53)],
    served: Served,
    library: OfLibrary,
    filters: Filters,
    copies: bool = False,
    diverse: Annotated[float, Query(ge=0, le=1)] = 0.0,
    offset: Page = 0,
    limit: PageSize = LIMIT,
    cursor: CursorQuery = None,
) -> Response:
    """Find what is like an item of the index."""
    with library.pool.reading() as index:
        modality = one(index, id).modality
    return _found_by(
        served, library, filters, terms=[{"item": id}], modality=modality, copies=copies, diverse=diverse,
        offset=offset, limit=limit, cursor=cursor,
    )  # fmt: skip


def _found_by(served: Service, library: Library, filters: Filters, **fields: Any) -> Response:
    """The answer to a search whose fields came in an address."""
    body = SearchBody.model_validate(fields)
    return _found(served, library, body.model_dump() | {"filters": filters})


def _found(served: Service, library: Library, wanted: dict[str, Any]) -> Response:
    started = time.perf_counter()
    page = library.searching.page(wanted, served.view)
    took_ms = round((time.perf_counter() - started) * 1000, 1)
    ranking = page.ranking
    return answered(
        {
            "hits": page.hits, "total": ranking.total, "next_offset": page.next_offset, "cursor": page.cursor,
            **ranking.facts, "version": ranking.state, "took_ms": took_ms,
        }
    )  # fmt: skip


@router.post("/uploads", response_model=UploadAnswer, status_code=201, openapi_extra=picture_body())
async def upload(request: Request, served: Served, library: OfLibrary) -> Response:
    """Keep a picture to search by."""
    (content,) = await sent_pictures(request, most=1)
    kept = await run_in_threadpool(library.uploads.add, content)
    thumbnail = f"{served.view.prefix}/v1/uploads/{kept.id}/thumbnail"
    return answered({"id": kept.id, "width": kept.width, "height": kept.height, "thumbnail": thumbnail}, 201)


@router.get("/uploads/{id}/thumbnail", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
def upload_thumbnail(
    id: Annotated[str, Path(pattern=ID)],
    served: Served,
    library: OfLibrary,
    width: Annotated[int, Query(ge=1, le=10_000)] = 320,
) -> Response:
    """A picture that was uploaded, small."""
    jpeg, width = library.uploads.jpeg(id), width_of(width)
    if width < 1280:
        jpeg = within_deadline(served.decoders.whole(jpeg, width)).jpeg or b""
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "Content-Disposition": "inline"}
    return Response(jpeg, media_type="image/jpeg", headers=headers)
