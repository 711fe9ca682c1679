"""The report of an evaluation: OUT/results.jsonl in, OUT/report.html out, one file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.evaluation.report_parts import parts_of, plain
from diptych.evaluation.report_rows import Problems, Result, read_results, unique
from diptych.evaluation.report_tables import summary

if TYPE_CHECKING:
    import jinja2

REPORT, TEMPLATE = "report.html", "report.html.jinja"


def write_report(out: str | os.PathLike[str]) -> Path:
    """OUT/report.html from OUT/results.jsonl and the files that its rows name; gives its path.

    The same results give the same bytes. What is broken (a torn line, a missing picture) is left out and named in the
    page. Raises FileNotFoundError where there are no results.
    """
    folder = Path(out)
    problems = Problems()
    results = read_results(folder, problems)
    good = [result for result in results if not result.row["error"]]
    datasets = unique(result.row["dataset"] for result in results)
    page = _template().render(
        models=_models(results),
        summary=summary(good, problems),
        datasets=[(name, parts_of(name, good, problems)) for name in datasets],
        errors=[(result.title, str(result.row["error"])) for result in results if result.row["error"]],
        skipped=[(result.title, _left_out(result.row)) for result in good if result.row["failures"]],
        results=len(good),
        problems=[("", said) for said in problems.found],  # last: what makes the parts above adds to it
    )
    path, part = folder / REPORT, folder / f".{REPORT}.part"
    part.write_bytes(page.encode("utf-8", "replace"))
    part.replace(path)
    return path


def _template() -> jinja2.Template:
    import jinja2

    place = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=place, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"facts": _facts}
    return environment.get_template(TEMPLATE)


def _models(results: list[Result]) -> list[tuple[str, str]]:
    """Each model with its fingerprint."""
    return list({result.label: (result.label, str(result.row["fingerprint"])) for result in results}.values())


def _left_out(row: Mapping[str, Any]) -> str:
    """How many pictures, by reason, and what was said of the first ones."""
    counts = ", ".join(f"{plain(count)} {reason}" for reason, count in row["failures"].items())
    said = row["details"].get("left_out")
    return ". ".join([counts, *map(str, said if isinstance(said, list) else ())])


def _facts(result: Result) -> list[tuple[str, str]]:
    """What it takes to repeat a row."""
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
