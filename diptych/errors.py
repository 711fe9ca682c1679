"""All errors that this package raises on purpose, as one tree, and the wording of their messages.

A message may refer to an argument. Each interface words that reference in its own way: `truncate=True` in Python,
`--truncate` on the command line.

DiptychError
    ArgumentError
        ArgumentTypeError
    MissingExtraError
    CheckpointError
        HubError
    TokenizerError
    TokenizerFileError
    CleaningError
    ImageError
    TextError
    ReaderProcessError
    DataError
    CheckpointNotSavedError
    WorkerLostError
    SearchIndexError
        IndexDirectoryError
            IndexNotWritableError
        IndexBusyError
        IndexModelError
        IndexUntrustedError
        IndexDamagedError
            IndexUnsafeError
            IndexNewerError
        StoreError
            StoreLostError
    ClusterError
    QueryError
    FilterError
    PatternError
    VectorFilesError
    FileError
    JSONError
    FetchError
    TooSlowError
    OutputError
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from diptych.deprecation import RenamedAttribute

# --- wording


class Setting(NamedTuple):
    """A reference to an argument of this library in a message.

    `value` None stands for the argument itself, and a word in capitals for a value that the reader chooses. `call` is
    the function that takes the argument, if it is not the one that raised, such as "index.update".
    """

    name: str
    value: object = None
    call: str = ""


MessageParts: TypeAlias = "str | Sequence[str | Setting]"
Wording: TypeAlias = Callable[[Setting], str]


def python_wording(setting: Setting) -> str:
    """A setting as a caller writes it in Python."""
    name, value, call = setting
    displayed = value if isinstance(value, str) and value.isupper() else repr(value)
    argument = name if value is None else f"{name}={displayed}"
    return f"{call}({argument})" if call else argument


def format_message(parts: MessageParts, wording: Wording = python_wording) -> str:
    """The parts as one text; `wording` formats each setting."""
    listed = [parts] if isinstance(parts, str) else parts
    return "".join(part if isinstance(part, str) else wording(part) for part in listed)


def warn(parts: MessageParts) -> None:
    """Issue a Python warning with this message."""
    warnings.warn(format_message(parts), stacklevel=3)


# --- the root, arguments, extras


class DiptychError(Exception):
    """The root of all errors that this package raises on purpose: the input or the environment is at fault, not the
    program.

    `problem` states the given and the expected input, `remedy` the next step ("" if `problem` includes it), and
    `argument` names the argument at fault, if there is one. `str(error)` formats both for Python,
    `error.format(wording)` for another interface.
    """

    argument: str | None = None
    remedy: MessageParts = ""
    worded = RenamedAttribute("worded", "format")

    def __init__(self, problem: MessageParts = "", *, remedy: MessageParts = "", argument: str | None = None):
        super().__init__(problem)
        self.problem = problem
        if remedy:
            self.remedy = remedy
        if argument:
            self.argument = argument

    def format(self, wording: Wording = python_wording) -> str:
        """The complete message; `wording` formats each argument."""
        return " ".join(format_message(parts, wording) for parts in (self.problem, self.remedy) if parts)

    def __str__(self) -> str:
        return self.format()


class ArgumentError(DiptychError, ValueError):
    """An argument has a value that cannot be used, or contradicts another argument."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument has a type that cannot be used."""


class MissingExtraError(DiptychError, ImportError):
    """A library of an optional extra is not installed. The message names the `pip install` command."""


# --- models and tokenizers


class CheckpointError(DiptychError, ValueError):
    """A file, folder or hub id cannot be read as a model, or a format cannot hold the model."""


class HubError(CheckpointError):
    """The hub does not provide the model: it is unknown, gated or out of reach."""


class TokenizerError(DiptychError, ValueError):
    """A model's tokenizer is missing or does not fit the model, or a text has more tokens than the model reads."""


class TokenizerFileError(DiptychError, ValueError):
    """A tokenizer.json is invalid or exceeds the limits for untrusted files."""


class CleaningError(DiptychError, ValueError):
    """A model's folder names an unknown text cleaning step."""


# --- pictures, texts, training data


class ImageError(DiptychError, ValueError):
    """A picture cannot be used. `reason` is short and countable, `source` names the picture, `detail` explains.

    Reasons: "missing", "a folder", "no permission", "empty file", "not an image", "truncated", "damaged",
    "too large", "needs a package", "download failed", "unsupported array", "unsupported type".
    """

    def __init__(self, reason: str, source: str, detail: str) -> None:
        super().__init__(f"{source}: {reason}.", remedy=detail)
        self.args = reason, source, detail  # the arguments that unpickling passes
        self.reason, self.source, self.detail = reason, source, detail


class TextError(DiptychError, ValueError):
    """A text cannot be embedded: it is empty, too long, not a string, or not Unicode."""


class ReaderProcessError(DiptychError, RuntimeError):
    """A reader process cannot be started, or `close` ended it. The message states which."""


class DataError(DiptychError, ValueError):
    """A source has no usable pairs, or a sample cannot be used. `reason` is short and countable."""

    def __init__(
        self, problem: MessageParts, reason: str = "unusable", *, remedy: MessageParts = "", argument: str | None = None
    ) -> None:
        super().__init__(problem, remedy=remedy, argument=argument)
        self.args = problem, reason  # the arguments that unpickling passes
        self.reason = reason


class CheckpointNotSavedError(DiptychError, OSError):
    """A training checkpoint could not be written. The message names the last one that is complete."""


class WorkerLostError(DiptychError, RuntimeError):
    """Another process of a training run ended, or was silent for too long."""


# --- search indexes


class SearchIndexError(DiptychError, ValueError):
    """An index cannot be used, or not in this way."""


class IndexDirectoryError(SearchIndexError):
    """The directory has no index, none can be created in it, or the folder of the pictures is not mounted."""


class IndexNotWritableError(IndexDirectoryError):
    """The index cannot be written: the disk is full or the permissions forbid it. It may still be searched."""


class IndexBusyError(SearchIndexError):
    """Another process or thread is writing to the index."""


class IndexModelError(SearchIndexError):
    """The index holds vectors of another model. Vectors of two models are never mixed."""


class IndexUntrustedError(SearchIndexError):
    """The index was neither made nor accepted by this user, and the operation needs a trusted index: it would open the
    model or read the pictures that the index names."""


class IndexDamagedError(SearchIndexError):
    """The catalog's file is damaged or is not a catalog."""

    remedy = (
        Setting("repair", True, "diptych.examine"),
        " recovers the readable data and moves the rest aside; ",
        Setting("reindex", True, "index.update"),
        " rebuilds the index.",
    )


class IndexUnsafeError(IndexDamagedError):
    """The index directory contains something that diptych neither wrote nor touches: a link, a device, a FIFO, a
    foreign journal, or foreign tables or triggers."""


class IndexNewerError(IndexDamagedError):
    """The catalog has a format of a later version of diptych."""

    remedy = (
        "Update diptych, or keep the index in another directory with ",
        Setting("index", "DIR"),
        "; ",
        Setting("reindex", True, "index.update"),
        " replaces it with one of this version.",
    )


class StoreError(SearchIndexError):
    """A server that keeps an index cannot be reached, refuses, or fails."""


class StoreLostError(StoreError):
    """A server that keeps an index does not answer, or went away while it was asked."""


class ClusterError(DiptychError, RuntimeError):
    """A Ray cluster that cannot be reached, has no room, or whose workers cannot work."""


class QueryError(DiptychError, ValueError):
    """A query cannot be embedded: it has no terms, an invalid weight, terms that cancel out, or a vector of another
    length."""


class FilterError(DiptychError, ValueError):
    """A filter is invalid, or no item can match it."""


class PatternError(DiptychError, ValueError):
    """A path pattern is invalid, such as [z-a]."""


class VectorFilesError(DiptychError, ValueError):
    """Stored vector files are missing, stale or damaged. They can be rebuilt from their source."""


# --- files and transfers


class FileError(DiptychError, OSError):
    """The path is not that of a regular file, or the file is too large. `reason` is short and countable."""

    def __init__(self, problem: MessageParts, reason: str) -> None:
        super().__init__(problem)
        self.args = problem, reason  # the arguments that unpickling passes
        self.reason = reason


class JSONError(DiptychError, ValueError):
    """A text is not JSON, or exceeds a limit."""


class FetchError(DiptychError, OSError):
    """A transfer failed and a retry would fail too: a redirect or an address is refused, or a limit is reached.
    `reason` is short and countable."""

    def __init__(self, problem: str, reason: str) -> None:
        super().__init__(problem)
        self.args = problem, reason  # the arguments that unpickling passes
        self.reason = reason


class TooSlowError(DiptychError, TimeoutError):
    """A transfer was slower than the lowest rate. A retry may be faster."""


class OutputError(DiptychError, OSError):
    """The output path is a link, or exists and is not a regular file or folder. Nothing was written."""
