"""The parser of every command: jsonargparse with help worth reading and refusals of one line.

>>> parser = command_parser("convert", "Makes a model directory from a GGUF file.", usage="FILE.gguf OUT_DIR")
>>> _ = parser.add_argument("file", type=Path, help="the GGUF file")
>>> parser.parse_args(["model.gguf"]).file
PosixPath('model.gguf')
"""

import argparse
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from paczero.errors import PACZeroError

_GIVEN = re.compile(r".*(?:Got value|Given value): (.*)\Z", re.DOTALL)  # the last one: the outermost type's
_WIDTH = 110
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
    Path: "a path",
}


class _Help(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """States the default of each option, keeps the description's lines, leaves type names to the choices shown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_help_position", 34)
        super().__init__(*args, **kwargs)
        self._width = min(self._width, _WIDTH)

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and heading[0].upper() + heading[1:])

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        default = action.default
        quiet = default is None or default is False or default in ([], argparse.SUPPRESS)
        if quiet or not action.option_strings:
            return text
        if isinstance(default, str) and not (default.strip() and default.isprintable()):
            shown = repr(default).replace("%", "%%")  # a line end would be seen as nothing
            return f"{text} (default: {shown})"
        return f"{text} (default: %(default)s)"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Leaves out `--list+`, by which one value is appended to a list."""
        shown = super()._format_action_invocation(action)
        return re.sub(r", --\S+\+ .*", "", shown)


class CommandParser(ArgumentParser):
    """A parser that raises PACZeroError, in one line, for anything that was typed wrong."""

    value_types: Mapping[str, Any] = types.MappingProxyType({})  # dotted key -> its type, for the message

    def hide(self, names: Iterable[str]) -> None:
        """Leaves the options of these names out of the help."""
        for action in self._actions:
            if action.dest in names:
                action.help = argparse.SUPPRESS

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        options = [name for action in self._actions for name in action.option_strings if not name.endswith("+")]
        raise PACZeroError(explain(message, self.value_types, options)) from ex


Kind = TypeVar("Kind", bound=CommandParser)


def command_parser(command: str, description: str, *, usage: str, kind: type[Kind] = CommandParser) -> Kind:  # type: ignore[assignment]
    """An empty parser for `paczero COMMAND`; the description may hold several lines, such as an example."""
    return kind(
        prog=f"paczero {command}",
        usage=f"paczero {command} {usage}".rstrip(),
        description=description.strip(),
        formatter_class=_Help,
        exit_on_error=False,
        allow_abbrev=False,
        default_env=False,
    )


def explain(message: str, value_types: Mapping[str, Any], options: Iterable[str]) -> str:
    """Turns the parser's message into one line: which key, what was given, what is accepted.

    Args:
        message: what argparse or jsonargparse says, of one or several lines.
        value_types: the type of each setting by its dotted key.
        options: every option of the parser, for the close match of a misspelt one.
    """
    if match := re.match(r'Parser key "([^"]+)":', message):
        key = match[1]
        given = _GIVEN.search(message)
        what = f"{given[1].strip()!r} was given" if given else "the value cannot be used"
        if key in value_types:
            return f"{key}: {what}; expected {expected(value_types[key])}"
        return f"{key}: {what}; {_squeezed(message[match.end() :])}"
    if match := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
        return _unknown((match[1].split() or [""])[0], match[1], options)
    if match := re.match(r"argument (\S+): expected (?:one|at least one) argument", message):
        key = match[1].lstrip("-")
        wanted = expected(value_types[key]) if key in value_types else "one"
        return f"{match[1]}: no value was given; expected {wanted}"
    if match := re.match(r"the following arguments are required: (.*)", message):
        return f"{match[1]}: nothing was given; it is needed, -h says what it is"
    return _squeezed(message)


def _unknown(first: str, everything: str, options: Iterable[str]) -> str:
    if not first.startswith("-"):
        return f"{everything!r} was given where nothing more is expected; quote a text with spaces"
    name = first.partition("=")[0]
    return f"{name} is no option here{did_you_mean(name, options)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` for a misspelt name, also where only its group is missing; or where to look."""
    names = list(known)
    bare = name.lstrip("-")
    inner = [candidate for candidate in names if candidate.lstrip("-").rpartition(".")[2] == bare]
    near = inner or difflib.get_close_matches(name, names, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(near)}?" if near else "; -h lists those there are"


def expected(kind: Any) -> str:
    """A type in words: `expected(int | None)` is `a whole number or null`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(expected(part) for part in arguments)
    if kind is list or origin is list:
        return "a list of texts such as '[a, b]'" if arguments == (str,) else "a list of whole numbers such as '[1, 2]'"
    if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        return "a mapping such as '{key: value}'"
    return _WORDS[kind] if kind in _WORDS else str(getattr(kind, "__name__", kind))


def _squeezed(message: str) -> str:
    return " ".join(message.split())
