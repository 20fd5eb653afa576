"""Shows the `>>>` examples of docstrings as code, wherever they stand in the docstring."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?m)^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*)*")
_DIRECTIVE = re.compile(r"\s+# doctest: \+SKIP$", re.M)


class FencedDoctests(griffe.Extension):
    """Fences each example, unless the docstring has a section of examples."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None and "Examples:\n" not in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    def fence(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"{indent}```pycon\n{_DIRECTIVE.sub('', found[0])}\n{indent}```"

    return _EXAMPLE.sub(fence, text)
