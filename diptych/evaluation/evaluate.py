"""Evaluates models on the data sets of a suite and writes a report, as `diptych evaluate` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from diptych.embedder import Embedder, load
from diptych.errors import CheckpointError
from diptych.evaluation.report.page import write_report
from diptych.evaluation.results import ResultRow
from diptych.evaluation.suite import run
from diptych.evaluation.suite_file import read_suite
from diptych.extras import require

BUNDLED = "bundled"
# Takes the names of stages; the context has a function for each, which is called with (done, total) pictures.
Progress: TypeAlias = Callable[[Sequence[str]], AbstractContextManager[Sequence[Callable[[int, int], None]]]]


class Evaluation(NamedTuple):
    """The rows of all models, data sets and tasks (see `diptych.evaluation.results`), the errors of models that could
    not be opened, and the path of the report."""

    rows: list[ResultRow]
    unopened: dict[str, CheckpointError]
    report: Path


def evaluate(
    models: str | Sequence[str],
    suite: str | os.PathLike[str],
    out: str | os.PathLike[str] = "evaluation",
    *,
    allow_outside: bool = False,
    open_model: Callable[[str], Embedder] = load,
    command: Callable[[str], str] = lambda name: "",
    progress: Progress = lambda titles: nullcontext(()),
    on_row: Callable[[ResultRow], None] = lambda row: None,
    on_error: Callable[[CheckpointError], None] = lambda error: None,
) -> Evaluation:
    """Evaluate models ("bundled", folders, checkpoints or hub ids) on the data sets of a suite file, see
    `diptych.evaluation.suite_file`.

    The folder `out` gets results.jsonl, with a row as soon as it is computed, and report.html. Existing rows are not
    computed again, so an interrupted evaluation continues. `allow_outside` also reads files outside a data set's
    folder. `command` gives the command that reproduces a model's rows, `on_row` is called with each new row, and
    `on_error` with the error of a model that cannot be opened, which is raised if it is the only model. Needs
    matplotlib and scipy. Raises ArgumentError for a suite that is invalid, and IndexBusyError if another process writes
    to `out`.
    """
    require("measuring models", "matplotlib", "scipy")
    names = [models] if isinstance(models, str) else list(models)
    entries = read_suite(suite, allow_outside=allow_outside)
    rows, unopened = list[ResultRow](), dict[str, CheckpointError]()
    try:
        for name in names:
            try:
                model = open_model(name)
            except CheckpointError as error:
                if len(names) < 2:
                    raise
                unopened[name] = error
                on_error(error)
                continue
            with progress([f"{name} · {entry.name}" for entry in entries]) as bars:
                rows += run(model, entries, out, name=name, command=command(name), progress=bars, on_row=on_row)
    except KeyboardInterrupt:
        with suppress(OSError, ValueError):
            write_report(out)
        raise
    return Evaluation(rows, unopened, write_report(out))
