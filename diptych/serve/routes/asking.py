"""What several routes share: filters from a URL, pages, bodies of pictures, answers in JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query, Request
from fastapi.responses import Response

from diptych.serve.web.problems import RequestProblem, encoded
from diptych.serve.web.requests import validated
from diptych.serve.web.schemas import BOX, MOST, NEAR, FilterBody

PROBLEM: dict[str, Any] = {
    "description": "An error (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys(
    (400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504, 507), PROBLEM
)
Page = Annotated[int, Query(ge=0, le=2**31)]
PageSize = Annotated[int, Query(ge=1, le=MOST)]
CursorQuery = Annotated[str | None, Query(max_length=80)]
_PICTURE_TYPES = ("image/", "application/octet-stream")
MOST_FIELDS = 16
_Short = Annotated[str | None, Query(max_length=200)]


def answered(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(encoded(content), status, headers, "application/json")


def decimal(vector: np.ndarray) -> list[float]:
    """A float32 vector as numbers of nine digits, which are the same float32 when they are read."""
    scale = 10.0 ** np.clip(8 - np.floor(np.log10(np.maximum(np.abs(vector, dtype=np.float64), 1e-14))), 0, 22)
    return (np.round(vector * scale) / scale).tolist()


def prefers(request: Request, kind: str) -> bool:
    """Whether a request wants an answer of this kind: it is the first that its Accept header names."""
    return request.headers.get("accept", "").split(",")[0].partition(";")[0].strip().lower() == kind


def has_tag(request: Request, tag: str) -> bool:
    """Whether the asker has the answer with this ETag already (If-None-Match)."""
    known = request.headers.get("if-none-match", "").split(",")
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in known)


async def filters_from_query(
    since: Annotated[str | None, Query(max_length=40)] = None,
    until: Annotated[str | None, Query(max_length=40)] = None,
    file_dates: bool = False,
    box: Annotated[str | None, Query(pattern=BOX)] = None,
    near: Annotated[str | None, Query(pattern=NEAR)] = None,
    camera: _Short = None,
    path: Annotated[str | None, Query(max_length=1000)] = None,
    min_width: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    min_height: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    min_megapixels: Annotated[float | None, Query(ge=0, le=1e6, allow_inf_nan=False)] = None,
    orientation: Literal["landscape", "portrait", "square"] | None = None,
    kind: Literal["picture", "video", "text"] | None = None,
) -> dict[str, Any]:
    """The filters of a URL, as in a body; `box` and `near` are numbers between commas. FastAPI would call a plain
    function in another thread."""
    given: dict[str, Any] = {
        "since": since, "until": until, "file_dates": file_dates, "camera": camera, "path": path,
        "min_width": min_width, "min_height": min_height, "min_megapixels": min_megapixels,
        "orientation": orientation, "kind": kind, "box": _numbers(box), "near": _numbers(near),
    }  # fmt: skip
    return validated(FilterBody, given).model_dump()


def _numbers(text: str | None) -> list[float] | None:
    return None if text is None else [float(part) for part in text.split(",")]


def picture_body() -> dict[str, Any]:
    """How OpenAPI describes the body of one picture."""
    file = {"type": "string", "format": "binary"}
    properties = {"file": file}
    form = {"type": "object", "required": ["file"], "properties": properties}
    kinds = {"image/*": file, "application/octet-stream": file, "multipart/form-data": form}
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"requestBody": {"required": True, "content": content}}


async def sent_pictures(request: Request, *, most: int) -> list[bytes]:
    """The bytes of the picture files in a body: one as it is, or the parts of a form. Raises RequestProblem."""
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("multipart/form-data"):
        found = await _parts(request, most)
    elif kind.startswith(_PICTURE_TYPES):
        found = [await request.body()]
    else:
        raise unsupported(kind, "image/*, application/octet-stream or multipart/form-data")
    if not found or not all(found):
        raise RequestProblem(422, "RequestError", "the body holds no picture.", remedy="Send the bytes of a file.")
    if len(found) > most:
        raise RequestProblem(422, "RequestError", f"the form has {len(found)} pictures; at most {most} are taken.")
    return found


def unsupported(kind: str, wanted: str) -> RequestProblem:
    """415."""
    return RequestProblem(415, "RequestError", f"the Content-Type is {kind[:100] or 'missing'!r}; wanted {wanted}.")


async def _parts(request: Request, most: int) -> list[bytes]:
    """The files of a form, whatever their fields are called."""
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    try:
        async with request.form(max_files=most + 1, max_fields=MOST_FIELDS) as form:
            return [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    except HTTPException as error:
        raise RequestProblem(400, "RequestError", f"the form is not understood ({error.detail}).") from error
