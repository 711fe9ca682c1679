"""Bodies in JSON, read under limits."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from diptych.errors import JSONError
from diptych.serve.web.problems import RequestProblem
from diptych.untrusted.json import parse_json

MOST_VALUES = 1_000_000  # of a body: lists, objects, and what is in them
_MOST_NAMED = 3  # parameters that are not known
LONG = 100_000  # bytes; the server's own thread reads less in a millisecond or two
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


async def aside(size: int, function: Callable[..., T], *arguments: Any, most: int = LONG) -> T:
    """The result of a function, called in a thread where it would hold up other requests: where what it gets is larger
    than `most`, in bytes or characters."""
    return await run_in_threadpool(function, *arguments) if size > most else function(*arguments)


async def json_of(request: Request) -> Any:
    """The value of a JSON body. Raises RequestProblem (400)."""
    body = await request.body()
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise RequestProblem(400, "RequestError", f"the body has more than {MOST_VALUES:,} values.")
    try:
        return await aside(len(body), parse_json, body)
    except JSONError as error:
        raise RequestProblem(400, "RequestError", f"the body is not JSON: {error}.") from error


def validated(model: type[Model], value: Any) -> Model:
    """A body as a model. Raises RequestValidationError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None


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
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if needs_json and kind != "application/json":
                problem = f"the Content-Type is {kind[:100] or 'missing'!r}; wanted application/json."
                raise RequestProblem(415, "RequestError", problem)
            return await handler(_Request(request.scope, request.receive))

        return answer


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
