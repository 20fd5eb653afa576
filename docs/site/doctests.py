"""Examples in docstrings, shown as code: Python's own notation for them stands anywhere in a docstring here."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?m)^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*)*")
_DIRECTIVE = re.compile(r"\s+# doctest: \+SKIP$", re.M)


class FencedDoctests(griffe.Extension):
    """Fences each example, unless a section is made of examples anyway."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None and "Examples:\n" not in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    def fence(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"{indent}```pycon\n{_DIRECTIVE.sub('', found[0])}\n{indent}```"

    return _EXAMPLE.sub(fence, text)
