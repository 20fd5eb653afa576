"""The one way in which pages and model cards are rendered from Jinja templates."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.utils.formatting import percent

if TYPE_CHECKING:
    import jinja2


def template(name: str, *folders: Path, **filters: Callable[..., Any]) -> "jinja2.Template":
    """A template that refuses names without a value.

    Args:
        name: the template's file. In `*.html.j2` every value is escaped; in any other file, such as Markdown, none is.
        folders: where it and the files that it includes lie.
        filters: functions that the template may call, beside `percent`.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not name.endswith(".html.j2"),
    )
    environment.filters |= {"percent": percent, **filters}
    return environment.get_template(name)
