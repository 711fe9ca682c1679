"""HTML, made by the template engine alone: it escapes whatever is put into a page."""

from __future__ import annotations

from pathlib import Path

from diptych.display.escaping import escape_control_characters


def page(template: Path, **values: object) -> str:
    """A template filled in. Every text among the values is escaped, and shown as a terminal shows it: nothing in one
    turns what stands beside it around, or is not seen."""
    import jinja2  # here, for a search needs none

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(template.parent),
        trim_blocks=True, lstrip_blocks=True, finalize=_visible,
    )  # fmt: skip
    return environment.get_template(template.name).render(**values)


def _visible(value: object) -> object:
    return escape_control_characters(value, lines=True) if type(value) is str else value
