"""Errors as RFC 9457's problem documents, made from the fields of `diptych.errors`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response

from diptych import errors
from diptych.errors import DiptychError, Setting, format_message

MEDIA_TYPE = "application/problem+json"
# What only a server can raise: name -> title
SERVER_ERRORS = {
    "RequestError": "The request is not understood.",
    "NotFoundError": "There is nothing of this name.",
    "TokenError": "The token is missing or wrong.",
    "OriginError": "The page of another site asks.",
    "HostError": "The server is called by a name that is not its own.",
    "NotOfferedError": "The server was not started with this.",
    "TooLargeError": "The request is larger than the server takes.",
    "BusyError": "Too much waits for the model.",
    "DeadlineError": "The answer would come after the deadline.",
    "NotReadyError": "The index or the model is not there yet.",
    "NotStoredError": "The server cannot write to its disk.",
    "ServerError": "The server has failed; its log says why.",
}
# The status of an error where it differs from 422; a class covers its subclasses
_STATUS: dict[type[DiptychError], int] = {
    errors.IndexBusyError: 503,
    errors.SearchIndexError: 503,
    errors.ReaderProcessError: 503,
    errors.MissingExtraError: 501,
    errors.CheckpointError: 503,
    errors.TokenizerFileError: 503,
}


class RequestProblem(Exception):
    """An error of the server's own kinds (SERVER_ERRORS), with its status."""

    def __init__(
        self, status: int, error: str, problem: str, *, remedy: str = "", argument: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(problem)
        self.status, self.error, self.problem, self.remedy = status, error, problem, remedy
        self.argument, self.headers = argument, dict(headers or {})


def not_found(problem: str) -> RequestProblem:
    """404."""
    return RequestProblem(404, "NotFoundError", problem)


def invalid(problem: str, argument: str | None = None) -> RequestProblem:
    """422."""
    return RequestProblem(422, "RequestError", problem, argument=argument)


def busy(problem: str, retry_s: int = 1) -> RequestProblem:
    """429."""
    return RequestProblem(429, "BusyError", problem, remedy="Try again.", headers={"Retry-After": str(retry_s)})


@contextmanager
def gone_as_missing(what: str) -> Iterator[None]:
    """An item or upload of many that is gone costs itself alone: its problem becomes an ImageError."""
    try:
        yield
    except RequestProblem as problem:
        if problem.error != "NotFoundError":
            raise
        raise errors.ImageError("missing", what, problem.problem) from problem


@contextmanager
def storing(what: str, folder: str) -> Iterator[None]:
    """What is written within it goes to this folder of the user's. Raises RequestProblem (507) where that is not
    possible; the log has the path."""
    try:
        yield
    except OSError as error:
        logging.getLogger("diptych.serve").warning("%s was not kept: %s", what, error)
        raise RequestProblem(
            507,
            "NotStoredError",
            f"{what} cannot be kept ({error.strerror}).",
            remedy=f"The server's user needs a {folder} folder that can be written, on a disk with room.",
        ) from error


def problem_of(error: Exception) -> tuple[dict[str, Any], int, dict[str, str]]:
    """The document, status and headers of an error."""
    if isinstance(error, RequestProblem):
        fields = {"problem": error.problem, "remedy": error.remedy, "argument": error.argument, "reason": None}
        return document(error.error, error.status, **fields), error.status, error.headers
    if isinstance(error, DiptychError):
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)
        fields = {
            "problem": format_message(error.problem, _worded), "remedy": format_message(error.remedy, _worded),
            "argument": error.argument, "reason": getattr(error, "reason", None),
        }  # fmt: skip
        return document(type(error).__name__, status, **fields), status, {"Retry-After": "1"} if status == 503 else {}
    return document("ServerError", 500, problem="The server has failed.", remedy="Its log says why."), 500, {}


def document(error: str, status: int, *, problem: str, remedy: str = "", **fields: Any) -> dict[str, Any]:
    """The problem document."""
    detail = " ".join(filter(None, (problem, remedy)))
    extra = {"argument": None, "reason": None, **fields}
    titled = {"type": f"/v1/errors#{error}", "title": _title(error), "status": status, "detail": detail}
    return titled | {"code": error, "message": detail, "problem": problem, "remedy": remedy} | extra


def problem_response(error: Exception, instance: str) -> Response:
    """The answer to a request that failed."""
    content, status, headers = problem_of(error)
    content["instance"] = instance
    return Response(encoded(content), status, headers, MEDIA_TYPE)


def encoded(content: object) -> bytes:
    """JSON in UTF-8. What cannot be encoded, such as stray bytes in a file's name, becomes a replacement character."""
    try:
        return to_json(content, inf_nan_mode="null")  # four times as fast as the standard library's, for vectors
    except PydanticSerializationError:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def known_errors() -> list[dict[str, str]]:
    """All errors, each with what it means."""
    own = [{"code": name, "title": title} for name, title in SERVER_ERRORS.items()]
    classes = (value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DiptychError))
    return own + [{"code": kind.__name__, "title": _title(kind.__name__)} for kind in classes]


def _title(error: str) -> str:
    if error in SERVER_ERRORS:
        return SERVER_ERRORS[error]
    return " ".join((getattr(errors, error, DiptychError).__doc__ or "").split()).partition(". ")[0].rstrip(".") + "."


def _worded(setting: Setting) -> str:
    """A setting of the library as a field of a request."""
    name, value, _ = setting
    if value is None:
        return name
    return f"{name}={value if isinstance(value, str) and value.isupper() else json.dumps(value, default=str)}"
