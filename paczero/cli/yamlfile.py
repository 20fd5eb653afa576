"""Reads the YAML of settings so that what is written is what is meant.

>>> read_yaml("labels: {0: terrible, no: great}", is_text=lambda key: key.startswith("labels."))
{'labels': {'0': 'terrible', 'no': 'great'}}

Plain YAML would make 0 a number, `no` a boolean and `1e-3` a text. Here keys are always the text as written, settings
that are texts stay as written too, and `1e-3` is a number. The safe subset of YAML only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paczero.errors import PACZeroError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's floats: `1e-3` needs no dot."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_LARGEST = 4 * 1024**2  # bytes of one file
_MOST = 100_000  # values of one file
_NULL = "tag:yaml.org,2002:null"


def read_settings_file(path: Path) -> str:
    """The text of a file of settings; a device that never ends is left after the most that settings can be.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        PACZeroError: it is longer than any settings.
    """
    with open(path, "rb") as stream:
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise PACZeroError(f"{str(path)!r} is longer than {_LARGEST:,} bytes; no settings are")
    return data.decode("utf-8")


def _nowhere(key: str) -> bool:
    return False


def read_yaml(text: str, *, is_text: Callable[[str], bool], keep_null: Callable[[str], bool] = _nowhere) -> Any:
    """Parses one YAML document; an empty one is an empty mapping.

    Args:
        text: the document.
        is_text: whether the setting of that dotted key is a text, taken as written (`no` stays `no`).
        keep_null: whether even `null` is a text there (a label's word may be "null").

    Raises:
        PACZeroError: not YAML, a key given twice, a key that is no scalar, or a node that contains itself.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return {} if node is None else _Reader(loader, is_text, keep_null).value(node, "", ())
    except RecursionError as error:
        raise PACZeroError("not the YAML of settings: it is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}" if mark else ""
        raise PACZeroError(f"not YAML{place}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise PACZeroError(f"not YAML: {' '.join(str(error).split())}") from error
    finally:
        if loader is not None:
            loader.dispose()


@dataclass(frozen=True)
class _Reader:
    """Turns nodes into values; `key` is a node's dotted key, `above` the identities of the nodes around it.

    Nodes are counted as they are read: aliases of aliases may stand for billions of them in a few lines.
    """

    loader: _Loader
    is_text: Callable[[str], bool]
    keep_null: Callable[[str], bool]
    seen: list[int] = field(default_factory=lambda: [0])

    def value(self, node: yaml.Node, key: str, above: tuple[int, ...]) -> Any:
        self.seen[0] += 1
        if self.seen[0] > _MOST:
            raise PACZeroError(f"line {node.start_mark.line + 1}: more than {_MOST:,} values, which no settings have")
        if id(node) in above:
            raise PACZeroError(f"line {node.start_mark.line + 1}: {key} contains itself")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key, above)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, key, above) for item in node.value]
        if self.is_text(key) and (node.tag != _NULL or self.keep_null(key)):
            return node.value
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # a date such as 2024-99-99
            raise PACZeroError(f"line {node.start_mark.line + 1}: {key}: {error}") from error

    def _mapping(self, node: yaml.MappingNode, key: str, above: tuple[int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise PACZeroError(f"line {line}: a key must be one word or text")
            name = key_node.value
            if name in result:
                raise PACZeroError(f"line {line}: {name!r} is given twice")
            result[name] = self.value(value_node, f"{key}.{name}" if key else name, above)
        return result
