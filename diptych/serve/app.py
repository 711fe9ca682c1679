"""The application: routes below /v1, the page at /, and the guard before both."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp

from diptych import __version__
from diptych.errors import DiptychError
from diptych.serve.routes import albums, drawings, embed, items, looking, overview, page, search, state
from diptych.serve.routes.asking import ERRORS
from diptych.serve.service import Service
from diptych.serve.web.answers import Problem
from diptych.serve.web.guard import OPEN_ROUTES, Guard
from diptych.serve.web.head import HeadRequests
from diptych.serve.web.problems import RequestProblem, problem_response
from diptych.serve.web.requests import DirectRoutes
from diptych.serve.web.schemas import EmbedBody, EmbeddingsBody
from diptych.serve.web.validation import invalid_request

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_EXPECTED = (DiptychError, RequestProblem, HTTPException, RequestValidationError, ClientDisconnect)
_ERRORS = {404: "NotFoundError", 413: "TooLargeError"}


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service, which it closes when it shuts down."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.warm_up, daemon=True, name="warm-up").start()
        yield
        service.close()

    app = FastAPI(
        title="Diptych", version=__version__, openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None,
        lifespan=lifespan, redirect_slashes=False,
    )  # fmt: skip
    app.state.service = service
    api = APIRouter(prefix="/v1", responses=ERRORS)
    for module in (embed, search, items, looking, overview, albums, drawings, state):  # they are tried in this order
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(page.page_router())
    for kind in (*_EXPECTED, Exception):
        app.add_exception_handler(kind, _answer_problem)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    routes = [route for route in embed.router.routes if isinstance(route, APIRoute) and route.methods == {"POST"}]
    direct = DirectRoutes(app, {f"/v1{route.path}": route for route in routes}, service, _EXPECTED, _answer_problem)
    return Guard(HeadRequests(direct), service.settings, service.metrics, service.stopping)


async def _answer_problem(request: Request, error: Exception) -> Response:
    problem = _as_problem(error)
    if isinstance(error, HTTPException) and error.status_code == 404:
        problem = _no_route(request.app.state.service.view.prefix)
    if isinstance(problem, RequestProblem) and problem.status == 405:
        problem = _no_method(request.method, _methods_of(request))
    return problem_response(problem, request.url.path)


def _no_route(prefix: str) -> RequestProblem:
    remedy = f"The page is at {prefix}/, the routes for programs are listed at {prefix}/v1/openapi.json."
    return RequestProblem(404, "NotFoundError", "there is nothing at this address.", remedy=remedy)


def _no_method(asked: str, known: list[str]) -> RequestProblem:
    named = ", ".join(known)
    problem, remedy = f"{asked[:20]!r} is not taken here.", f"This address takes {named}."
    return RequestProblem(405, "RequestError", problem, remedy=remedy, headers={"Allow": named})


def _methods_of(request: Request) -> list[str]:
    """The methods of a path; Starlette knows those of the first of its routes."""
    asked = {name: request.scope[name] for name in ("type", "path", "root_path", "headers")}

    def is_known(method: str) -> bool:
        return any(route.matches({**asked, "method": method})[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if is_known("GET" if method == "HEAD" else method)]


def _as_problem(error: Exception) -> Exception:
    """FastAPI's own errors in our words."""
    if isinstance(error, RequestValidationError):
        return invalid_request(error.errors())
    if isinstance(error, ClientDisconnect):  # nobody reads it, but it is counted
        return RequestProblem(400, "RequestError", "the connection ended before the body did.")
    if isinstance(error, HTTPException) and isinstance(error.__cause__, RequestProblem):
        return error.__cause__  # FastAPI says of all that happens while it reads a body that it cannot be parsed
    if isinstance(error, HTTPException):
        phrase = str(error.detail or HTTPStatus(error.status_code).phrase)
        kind = _ERRORS.get(error.status_code, "RequestError")
        return RequestProblem(error.status_code, kind, f"{phrase}.", headers=error.headers)
    return error


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the one form of errors, and with the token where one is needed."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        schemas = document["components"]["schemas"]
        for model in (Problem, EmbedBody, EmbeddingsBody):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, definition in schema.pop("$defs", {}).items():
                schemas.setdefault(name, definition)
            schemas[model.__name__] = schema
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        if app.state.service.settings.token is not None:
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
            for path in OPEN_ROUTES:
                for operation in document["paths"][path].values():
                    operation["security"] = []
        app.openapi_schema = document
    return app.openapi_schema
