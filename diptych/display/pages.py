"""HTML pages, made only by the template engine, which escapes all values."""

from __future__ import annotations

from pathlib import Path

from diptych.display.escaping import escape_control_characters


def page(template: Path, **values: object) -> str:
    """A template filled in. Texts among the values are escaped for HTML and as for a terminal: they contain no
    bidirectional controls or invisible characters."""
    import jinja2  # imported here, because a search needs none

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(template.parent),
        trim_blocks=True, lstrip_blocks=True, finalize=_visible,
    )  # fmt: skip
    return environment.get_template(template.name).render(**values)


def _visible(value: object) -> object:
    return escape_control_characters(value, lines=True) if type(value) is str else value
