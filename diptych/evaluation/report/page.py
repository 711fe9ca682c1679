"""Writes the report of an evaluation: OUT/report.html, one self-contained file, from OUT/results.jsonl."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.display.pages import page
from diptych.evaluation.report.result_rows import Problems, Result, read_results, unique
from diptych.evaluation.report.sections import ReportSection, plain, sections_of
from diptych.evaluation.report.tables import summary
from diptych.storage.atomic import atomic_write

if TYPE_CHECKING:
    from markupsafe import Markup

REPORT, TEMPLATE, STYLE = "report.html", "report.html.jinja", "report.css"


def write_report(out: str | os.PathLike[str]) -> Path:
    """Writes OUT/report.html from OUT/results.jsonl and the files that its rows name, and returns its path.

    The same results give the same bytes. The page lists problems (an incomplete line, a missing picture) and leaves
    these items out. Raises FileNotFoundError if there are no results.
    """
    folder = Path(out)
    problems = Problems()
    results = read_results(folder, problems)
    good = [result for result in results if not result.row["error"]]
    datasets = unique(result.row["dataset"] for result in results)
    sections = [(name, sections_of(name, good, problems)) for name in datasets]
    style = _style(sections)
    html = page(
        Path(__file__).with_name(TEMPLATE),
        facts=_facts,
        style=style,
        policy=_policy(style),
        models=_models(results),
        summary=summary(good, problems),
        datasets=sections,
        errors=[(result.title, str(result.row["error"])) for result in results if result.row["error"]],
        skipped=[(result.title, _left_out(result.row)) for result in good if result.row["failures"]],
        results=len(good),
        problems=[("", problem) for problem in problems.found],  # last, because rendering the sections adds to it
    )
    with atomic_write(folder / REPORT) as temporary:
        temporary.write_bytes(html.encode("utf-8", "replace"))
    return folder / REPORT


def _style(datasets: Sequence[tuple[str, Sequence[ReportSection]]]) -> Markup:
    """The page's CSS: report.css and, for each width of a plot, its minimum width on a phone."""
    from markupsafe import Markup

    widths = sorted({plot.width_px for _, sections in datasets for section in sections for plot in section.plots})
    rules = "".join(f".w{width} {{ min-width: {round(0.58 * width)}px; }}\n" for width in widths)
    return Markup(Path(__file__).with_name(STYLE).read_text(encoding="utf-8") + rules)


def _policy(style: str) -> str:
    """The content security policy: a browser applies this style and shows embedded pictures, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _models(results: list[Result]) -> list[tuple[str, str]]:
    """Each model with its fingerprint."""
    return list({result.label: (result.label, str(result.row["fingerprint"])) for result in results}.values())


def _left_out(row: Mapping[str, Any]) -> str:
    """The number of skipped pictures by reason, and the messages of the first ones."""
    counts = ", ".join(f"{plain(count)} {reason}" for reason, count in row["failures"].items())
    messages = row["details"].get("left_out")
    return ". ".join([counts, *map(str, messages if isinstance(messages, list) else ())])


def _facts(result: Result) -> list[tuple[str, str]]:
    """The facts that are needed to reproduce a row."""
    row = result.row
    seconds = row["seconds"]
    facts = {
        "command": row["command"],
        "model": row["model"],
        "fingerprint": row["fingerprint"],
        **{f"setting: {name}": plain(value) for name, value in result.settings.items()},
        "measured on": "" if row["count"] is None else f"{row['count']} items",
        "version": row["version"] and f"diptych {row['version']}",
        "engine": row["engine"],
        "started": row["started"],
        "took": "" if seconds is None else f"{seconds} s",
    }
    return [(name, str(value)) for name, value in facts.items() if value not in ("", None)]
