"""Bodies in JSON, read under limits."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from diptych.errors import JSONError
from diptych.serve.web.problems import RequestProblem
from diptych.untrusted.json import parse_json

MOST_VALUES = 1_000_000  # of a body: lists, objects, and what is in them
_MOST_NAMED = 3  # parameters that are not known
# Bytes; the server's own thread reads less in a millisecond or two, of base64 and of few and long strings ten times as
# much as of JSON with many values.
LONG, LONG_STRING = 100_000, 1_000_000
_MANY = 1000
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


async def aside(size: int, function: Callable[..., T], *arguments: Any, most: int = LONG) -> T:
    """The result of a function, called in a thread where it would hold up other requests: where what it gets is larger
    than `most`, in bytes or characters."""
    return await run_in_threadpool(function, *arguments) if size > most else function(*arguments)


async def json_of(request: Request) -> Any:
    """The value of a JSON body. Raises RequestProblem (400)."""
    body = await request.body()
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > MOST_VALUES:
        raise RequestProblem(400, "RequestError", f"the body has more than {MOST_VALUES:,} values.")
    try:
        return await aside(len(body), parse_json, body, most=LONG if values > _MANY else LONG_STRING)
    except JSONError as error:
        raise RequestProblem(400, "RequestError", f"the body is not JSON: {error}.") from error


def validated(model: type[Model], value: Any) -> Model:
    """A body, or the fields behind a `?`, as a model. Raises RequestValidationError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(found) from None


async def json_body(request: Request, model: type[Model]) -> Model:
    """The body of a request as a model. Raises RequestProblem (415 or 400) and RequestValidationError."""
    _check_is_json(request)
    return validated(model, await json_of(request))


def kind_of(request: Request) -> str:
    """The Content-Type, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_is_json(request: Request) -> None:
    if (kind := kind_of(request)) != "application/json":
        problem = f"the Content-Type is {kind[:100] or 'missing'!r}; wanted application/json."
        raise RequestProblem(415, "RequestError", problem)


class _Request(Request):
    """A request whose JSON is read under limits."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = await json_of(self)
        return self._json


class Route(APIRoute):
    """A route whose bodies are read under limits, and only as JSON if they say that they are. A parameter that it does
    not have is an error, like an unknown field of a body."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()
        needs_json = self.body_field is not None
        parameters = sorted(_parameters(self.dependant))

        async def answer(request: Request) -> Response:
            _check_parameters(request.query_params, parameters)
            if needs_json:
                _check_is_json(request)
            return await handler(_Request(request.scope, request.receive))

        return answer


class DirectRoutes:
    """POST to routes that are asked hundreds of times a second. FastAPI spends more time on finding and preparing one
    of these than they need for a text, so they are asked before it. They take a request and the service, and no
    parameters; `answer_error` answers for the `errors` that they raise."""

    def __init__(
        self, app: ASGIApp, routes: Mapping[str, APIRoute], service: Any,
        errors: tuple[type[Exception], ...], answer_error: Callable[[Request, Exception], Awaitable[Response]],
    ):  # fmt: skip
        self._app, self._routes, self._service = app, routes, service
        self._errors, self._answer_error = errors, answer_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(get_route_path(scope)) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope.update(app=self._app, route=route)
        request = Request(scope, receive)
        try:
            _check_parameters(request.query_params, [])
            response = await route.endpoint(request, self._service)
        except self._errors as error:
            response = await self._answer_error(request, error)
        await response(scope, receive, send)


def _parameters(dependant: Dependant) -> set[str]:
    """The names that a route takes behind the `?`."""
    return {field.alias for field in dependant.query_params}.union(*map(_parameters, dependant.dependencies))


def _check_parameters(given: Iterable[str], known: list[str]) -> None:
    """Raises RequestProblem (422) with the names that are not known."""
    unknown = [name for name in dict.fromkeys(given) if name not in known]
    if not unknown:
        return
    named = ", ".join(f"{name[:80]!r}" for name in unknown[:_MOST_NAMED])
    more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
    near = [each for name in unknown[:_MOST_NAMED] for each in difflib.get_close_matches(name[:80].lower(), known, n=1)]
    hint = f"Did you mean {' and '.join(dict.fromkeys(near))}? " if near else ""
    there = f"The parameters are {', '.join(known)}." if known else "This address takes no parameters."
    problem = f"there is no parameter {named}{more}."
    raise RequestProblem(422, "RequestError", problem, remedy=f"{hint}{there}", argument=unknown[0][:80])
