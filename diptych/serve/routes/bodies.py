"""Bodies that are not JSON: a picture file, or a form with some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diptych.serve.web.problems import RequestProblem

if TYPE_CHECKING:
    from fastapi import Request

_TYPES = ("image/", "application/octet-stream")
MOST_FIELDS = 16


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
    elif kind.startswith(_TYPES):
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
