"""Vectors for programs: POST /v1/embed, and what OpenAI's clients ask for."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from diptych.errors import ImageError
from diptych.serve.library.items import one, stored_vectors
from diptych.serve.model.pictures import decoded_base64
from diptych.serve.routes.asking import answered, decimal, prefers, sent_pictures, unsupported
from diptych.serve.routes.openai_form import picture_inputs, text_inputs
from diptych.serve.service import Served, Service, library_of
from diptych.serve.web.answers import Vectors
from diptych.serve.web.deadline import DEADLINE, remaining_s, too_late
from diptych.serve.web.problems import RequestProblem, gone_as_missing, invalid
from diptych.serve.web.requests import LONG_STRING, Route, aside, json_body, kind_of
from diptych.serve.web.schemas import EmbedBody, EmbeddingsBody, Picture

router = APIRouter(route_class=Route, tags=["embed"])
_FLOATS = "application/octet-stream"
_MOST_AT_ONCE = 2_000  # characters that are tokenised between two requests
_NUMBER = 11  # bytes of a number in JSON
_BODY = {"schema": {"$ref": "#/components/schemas/EmbedBody"}}
_OPENAI_BODY = {"schema": {"$ref": "#/components/schemas/EmbeddingsBody"}}
_Content = bytes | np.ndarray | ImageError


class _Embedded(NamedTuple):
    """A vector for each input, None for those that failed, by index: (reason, detail)."""

    vectors: list[np.ndarray | None]
    failures: dict[int, tuple[str, str]]
    truncated: int = 0  # texts that were cut to the model's context
    tokens: int = 0  # of texts


@router.post(
    "/embed",
    response_model=Vectors,
    responses={200: {"content": {_FLOATS: {"schema": {"type": "string", "format": "binary"}}}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": _BODY,
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["picture"],
                        "properties": {
                            "picture": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                        },
                    }
                },
            },
        }
    },
)
async def embed(request: Request, served: Served) -> Response:
    """The vectors of texts or pictures."""
    kind = kind_of(request)
    if kind.startswith("multipart/form-data"):
        contents = await sent_pictures(request, most=served.settings.max_pictures)
        embedded = await embedded_pictures(served, contents)
    elif kind == "application/json":
        embedded = await _embedded(request, served, await json_body(request, EmbedBody))
    else:
        raise unsupported(kind, "application/json or multipart/form-data")
    if prefers(request, _FLOATS):
        return _packed(embedded)
    return await aside(_NUMBER * served.model.dim * len(embedded.vectors), _listed, served, embedded)


async def _embedded(request: Request, served: Service, body: EmbedBody) -> _Embedded:
    if body.texts is not None:
        check_count(len(body.texts), served.settings.max_texts, "texts")
        return await embedded_texts(served, body.texts, truncate=body.truncate)
    pictures = body.pictures or []
    check_count(len(pictures), served.settings.max_pictures, "pictures")
    contents = [await _content(request, served, picture, number) for number, picture in enumerate(pictures)]
    return await embedded_pictures(served, contents)


async def _content(request: Request, served: Service, picture: Picture, number: int) -> _Content:
    """The bytes of a picture, or the vector that is known of it, or why there is neither."""
    try:
        with gone_as_missing(f"picture {number}"):
            return await _found(request, served, picture, number)
    except ImageError as error:
        return error


async def _found(request: Request, served: Service, picture: Picture, number: int) -> bytes | np.ndarray:
    """The same. Raises ImageError, and RequestProblem for an item or an upload that is gone."""
    if picture.data is not None:
        return await aside(len(picture.data), decoded_base64, picture.data, f"pictures.{number}.data", most=LONG_STRING)
    if picture.url is not None:
        return await run_in_threadpool(served.pictures.fetched, picture.url, f"pictures.{number}.url")
    library = library_of(request)
    if picture.upload is not None:
        return (await run_in_threadpool(library.uploads.get, picture.upload)).vector

    def stored(id: int) -> np.ndarray:
        with library.pool.reading() as index:
            return stored_vectors(index, [one(index, id).id])[0]

    return await run_in_threadpool(stored, picture.item or 0)


def check_count(count: int, most: int, what: str) -> None:
    """Raises RequestProblem (422) for more inputs than a request may have."""
    if count > most:
        raise invalid(f"the request has {count:,} {what}; at most {most:,} are taken.", what)


async def embedded_texts(served: Service, texts: Sequence[str], *, truncate: bool) -> _Embedded:
    """The vectors of texts, without those that cannot be embedded."""
    failed = await aside(_length(texts), _failures, served, texts, truncate, most=_MOST_AT_ONCE)
    good = [text for index, text in enumerate(texts) if index not in failed]
    tokens = await aside(_length(good), partial(served.model.tokenize, good, truncate=True), most=_MOST_AT_ONCE)
    rows = iter(await in_time(served.model.queue.texts(tokens, DEADLINE.get())))
    vectors = [None if index in failed else next(rows) for index in range(len(texts))]
    return _Embedded(vectors, failed, tokens.truncated, int(tokens.mask.sum()))


def _failures(served: Service, texts: Sequence[str], truncate: bool) -> dict[int, tuple[str, str]]:
    return {
        index: (failure.reason, failure.message)
        for _, failures in served.model.text_failures(texts, truncate=truncate)
        for index, failure in failures.items()
    }


def _length(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


async def embedded_pictures(served: Service, contents: Sequence[_Content]) -> _Embedded:
    """The vectors of pictures by their bytes, without those that cannot be read."""
    squares = dict[int, np.ndarray]()
    failed = {
        index: (content.reason, content.detail)
        for index, content in enumerate(contents)
        if isinstance(content, ImageError)
    }
    numbers = [index for index, content in enumerate(contents) if isinstance(content, bytes)]
    with served.pictures.decoding([content for content in contents if isinstance(content, bytes)]) as decoding:
        for index, future in zip(numbers, decoding, strict=True):
            try:
                squares[index] = (await in_time(future)).square
            except ImageError as error:
                failed[index] = error.reason, error.detail
    rows = iter(await in_time(served.model.queue.pictures(list(squares.values()), DEADLINE.get())))
    vectors: list[np.ndarray | None] = [content if isinstance(content, np.ndarray) else None for content in contents]
    for index in squares:
        vectors[index] = next(rows)
    return _Embedded(vectors, failed)


async def in_time(future: Any) -> Any:
    """The result of a thread's future, within the deadline of the request."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), remaining_s())
    except TimeoutError:
        raise too_late() from None


def _first_failure(embedded: _Embedded) -> RequestProblem:
    index, (reason, detail) = next(iter(embedded.failures.items()))
    return RequestProblem(422, "RequestError", f"input {index}: {reason}. {detail}", argument=str(index))


def _listed(served: Service, embedded: _Embedded) -> Response:
    if len(embedded.failures) == len(embedded.vectors):
        raise _first_failure(embedded)
    vectors = [None if vector is None else decimal(vector) for vector in embedded.vectors]
    failures = [
        {"index": index, "reason": reason, "detail": detail} for index, (reason, detail) in embedded.failures.items()
    ]
    facts = {"model": served.model_name, "dim": served.model.dim}
    return answered(facts | {"vectors": vectors, "truncated": embedded.truncated, "failures": failures})


def _packed(embedded: _Embedded) -> Response:
    """Rows of float32; a failure cannot be among them."""
    if embedded.failures:
        raise _first_failure(embedded)
    rows = np.stack([vector for vector in embedded.vectors if vector is not None]).astype("<f4")
    headers = {"Diptych-Rows": str(len(rows)), "Diptych-Dim": str(rows.shape[1])}
    return Response(rows.tobytes(), media_type=_FLOATS, headers=headers)


@router.post(
    "/embeddings",
    response_model=dict[str, Any],
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": _OPENAI_BODY}}},
)
async def openai_embeddings(request: Request, served: Served) -> Response:
    """Vectors in the form of OpenAI's API; pictures as infinity and vLLM take them."""
    body = await json_body(request, EmbeddingsBody)
    pictures = picture_inputs(body)
    if pictures is not None:
        check_count(len(pictures), served.settings.max_pictures, "pictures")
        contents = [await _opened(served, address) for address in pictures]
        embedded = await embedded_pictures(served, contents)
    else:
        texts = text_inputs(body)
        check_count(len(texts), served.settings.max_texts, "texts")
        embedded = await embedded_texts(served, texts, truncate=True)
    if embedded.failures:
        raise _first_failure(embedded)
    rows = _shortened(np.stack([vector for vector in embedded.vectors if vector is not None]), body.dimensions)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(row, body.encoding_format)}
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return answered({"object": "list", "data": data, "model": served.model_name, "usage": usage})


async def _opened(served: Service, address: str) -> bytes:
    if address[:5].lower() == "data:":
        return await aside(len(address), decoded_base64, address, "input", most=LONG_STRING)
    if address[:8].lower().startswith(("http://", "https://")):
        return await run_in_threadpool(served.pictures.fetched, address, "input")
    raise invalid("a picture is a data URI, or an address where the server fetches them.", "input")


def _shortened(rows: np.ndarray, dimensions: int | None) -> np.ndarray:
    """The rows as they are: a vector of this model cannot be cut."""
    if dimensions is not None and dimensions != rows.shape[1]:
        raise invalid(f"dimensions={dimensions}; this model has {rows.shape[1]}.", "dimensions")
    return rows


def _encoded(row: np.ndarray, form: str | None) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return decimal(row)


@router.get("/models", response_model=dict[str, Any])
def models(served: Served) -> Response:
    """The model, as OpenAI's API lists models."""
    return answered({"object": "list", "data": [{"id": served.model_name, "object": "model", "owned_by": "diptych"}]})
