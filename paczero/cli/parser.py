"""The parser of every command: jsonargparse with help worth reading and refusals of one line.

>>> parser = command_parser("convert", "Makes a model directory from a GGUF file.", usage="FILE.gguf OUT_DIR")
>>> _ = parser.add_argument("file", type=Path, help="the GGUF file")
>>> parser.parse_args(["model.gguf"]).file
PosixPath('model.gguf')

Settings from flags and a YAML file, merged: flags win, whatever their order.

>>> parser.parse_args(["--mechanism.subsets", "64", "--config", "recipe.yaml", "--peft.r", "4"]).settings
{'model': …, 'peft': {'peft_type': 'LORA', 'r': 4}, 'mechanism': {'name': 'zpl', 'subsets': 64}}

jsonargparse types the values and writes the help. What it leaves open is done here: the order of file and flags,
single keys of free mappings (`--peft.r 4`, `--task.labels.fresh great`), misspelt keys, and texts that YAML takes for
something else.
"""

import argparse
import difflib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from paczero.config import PACZeroConfig
from paczero.config_io import DataConfig, like, read_settings_file, read_yaml, recipes, setting_types
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


Tree = dict[str, Any]

_SWITCH = frozenset({"true", "false", "yes", "no"})


class SettingsParser(CommandParser):
    """A parser whose options are settings (`value_types`, by dotted key), but for a few such as `--config`.

    `parse_args` returns a namespace with `settings`, the nested values that were given and nothing else; `given`,
    their dotted keys; and one entry for each option that is no setting.

    A file may name others as `base`, one or a list, by paths from where it lies: the later ones win over the earlier,
    the file over them, group by group; a free mapping such as `task.labels` or `peft` is replaced as a whole.

    Attributes:
        aside: keys of a file that are no settings and are left to whoever reads it too.
    """

    aside: frozenset[str] = frozenset()

    def parse_args(self, args: Sequence[str] | None = None, **_: Any) -> Namespace:  # type: ignore[override]
        """Parses flags, then the config file that they may name, and merges them.

        Raises:
            PACZeroError: anything that is no setting, or no value for one.
        """
        argv = _joined(list(sys.argv[1:] if args is None else args), self.value_types, self._known())
        rest, whole, single = self._pulled(argv)
        flags: Tree = super().parse_args(rest, defaults=False).as_dict()
        ours = {key.partition(".")[0] for key in self.value_types}
        others = {a.dest: a.default for a in self._actions if a.dest.partition(".")[0] not in ours | {"help"}}
        others |= {name: flags.pop(name) for name in list(flags) if name not in ours}
        tree = self._from_file(others["config"]) if others.get("config") else {}
        for key, value in whole:
            _merge(tree, self._typed(_nested(key, value)), self._mappings())
        _merge(tree, flags, self._mappings())
        for mapping, inner, value in single:
            _set_inside(tree, mapping, inner, value)
        return Namespace(**others, settings=tree, given=frozenset(_keys(tree, self._mappings())))

    def _mappings(self) -> frozenset[str]:
        """The settings that are free mappings: what is inside them is no setting."""
        return frozenset(key for key, kind in self.value_types.items() if _is_mapping(kind))

    def groups_of_settings(self) -> frozenset[str]:
        """The dotted keys under which settings lie, such as `mechanism`."""
        return frozenset(key.rpartition(".")[0] for key in self.value_types if "." in key)

    def _known(self) -> frozenset[str]:
        return frozenset(a.dest for a in self._actions) | self.value_types.keys() | self.groups_of_settings()

    def _is_text(self, key: str) -> bool:
        return _takes_text(self.value_types.get(key)) or self._is_word(key)

    def _is_word(self, key: str) -> bool:
        """Whether the key lies in a mapping from text to text."""
        of_words = [m for m in self._mappings() if typing.get_args(self.value_types[m]) == (str, str)]
        return any(key.startswith(f"{mapping}.") for mapping in of_words)

    def _yaml(self, text: str, prefix: str = "") -> Any:
        def full(test: Callable[[str], bool]) -> Callable[[str], bool]:
            return lambda key: test(".".join(part for part in (prefix, key) if part))

        return read_yaml(text, is_text=full(self._is_text), keep_null=full(self._is_word))

    def read_overrides(self, text: str) -> Any:
        """A document in which settings stand below other keys (`cells.NAME.…`); texts are as written there too."""

        def below(test: Callable[[str], bool]) -> Callable[[str], bool]:
            def asked(key: str) -> bool:
                parts = key.split(".")
                return any(test(".".join(parts[start:])) for start in range(len(parts)))

            return asked

        return read_yaml(text, is_text=below(self._is_text), keep_null=below(self._is_word))

    def _pulled(self, argv: list[str]) -> tuple[list[str], list[tuple[str, Any]], list[tuple[str, str, Any]]]:
        """Takes out of the arguments the mappings and groups given whole, and single keys of mappings."""
        rest: list[str] = []
        whole: list[tuple[str, Any]] = []
        single: list[tuple[str, str, Any]] = []
        mappings, groups = self._mappings(), self.groups_of_settings()
        queue = iter(argv)
        for token in queue:
            name, equals, value = token.removeprefix("--").partition("=")
            mapping = next((m for m in mappings if name.startswith(f"{m}.")), None)
            if not token.startswith("--") or not (mapping or name in mappings or name in groups):
                rest.append(token)
                continue
            text = value if equals else next(queue, None)
            if text is None or (not equals and text.startswith("--")):
                raise PACZeroError(f"--{name}: no value was given; expected {'a value' if mapping else expected(dict)}")
            try:
                parsed = self._yaml(text, name)
            except PACZeroError as error:
                raise PACZeroError(f"--{name}: {text!r} was given: {error}") from error
            if mapping:
                single.append((mapping, name.removeprefix(f"{mapping}."), parsed))
            else:
                whole.append((name, parsed))
        return rest, sorted(whole, key=lambda item: item[0] in mappings), single

    def _from_file(self, given: str) -> Tree:
        path = Path(given)
        if not path.exists() and given in recipes():
            path = recipes()[given]
        return self._with_bases(path, given, ())

    def _with_bases(self, path: Path, given: str, above: tuple[Path, ...]) -> Tree:
        """The settings of a file over those of the files that it names as `base`, the later over the earlier ones."""
        try:
            if path.resolve() in above:
                raise PACZeroError("base: the file is its own base; expected one that does not lead back to it")
            own = self._yaml(read_settings_file(path))
            if not isinstance(own, dict):
                raise PACZeroError(f"a {type(own).__name__} was given; expected settings, one `key: value` a line")
            tree: Tree = {}
            for base in _bases(own.pop("base", [])):
                _merge(tree, self._with_bases(path.parent / base, base, (*above, path.resolve())), self._mappings())
            own = {key: value for key, value in own.items() if key not in self.aside}
            _merge(tree, self._typed(own), self._mappings())
            return tree
        except OSError as error:
            known = like(given, recipes())
            raise PACZeroError(
                f"{'base' if above else 'config'}: {given!r} cannot be read ({error.strerror}); expected a YAML file "
                + ("beside the one that names it" if above else f"or a recipe ({known})")
            ) from error
        except UnicodeDecodeError as error:
            raise PACZeroError(f"config: {given!r} is not UTF-8 at byte {error.start}; expected YAML") from error
        except PACZeroError as error:
            raise PACZeroError(f"{given}: {error}") from error

    def _typed(self, tree: Tree) -> Tree:
        """Checks every key of settings that came as YAML and gives each value its type."""
        mappings: list[tuple[str, Any]] = []
        plain: Tree = {}
        for key, value in self._leaves(tree, ""):
            kind = self.value_types[key]
            if value is None and type(None) not in typing.get_args(kind):
                raise PACZeroError(f"{key}: null was given; expected {expected(kind)}")
            if key in self._mappings():
                self._check_mapping(key, value)
                mappings.append((key, value))
            else:
                as_list = _is_list(kind) and value is not None and not isinstance(value, list)
                _merge(plain, _nested(key, [value] if as_list else value))
        typed: Tree = self.parse_object(plain, defaults=False).as_dict() if plain else {}
        for key, value in mappings:
            _merge(typed, _nested(key, value))
        return typed

    def _leaves(self, tree: Tree, prefix: str) -> list[tuple[str, Any]]:
        """(dotted key, value) of every setting in the tree; refuses what is none."""
        result: list[tuple[str, Any]] = []
        for name, value in tree.items():
            key = prefix + name
            if key in self.value_types:
                result.append((key, value))
            elif key not in self.groups_of_settings():
                near = did_you_mean(key, [*self.value_types, *self.groups_of_settings()])
                raise PACZeroError(f"{key} is no setting{near}")
            elif isinstance(value, dict):
                result += self._leaves(value, f"{key}.")
            elif value is not None:
                raise PACZeroError(f"{key}: {value!r} was given; expected {expected(dict)} of its settings")
        return result

    def _check_mapping(self, key: str, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise PACZeroError(f"{key}: {value!r} was given; expected {expected(self.value_types[key])}")
        for name, item in value.items():
            if self._is_word(f"{key}.{name}") and not isinstance(item, str):
                raise PACZeroError(f"{key}.{name}: {item!r} was given; expected a text")


def _bases(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(base, str) for base in listed):
        raise PACZeroError(f"base: {value!r} was given; expected a file or a list of files")
    return listed


def _joined(argv: list[str], value_types: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """Writes `--a-b x` as `--a_b=x`, `--switch` as `--switch=true` and `--list x y` as `--list=[x,y]`."""
    result: list[str] = []
    position = 0
    while position < len(argv):
        token = argv[position]
        position += 1
        name, equals, value = token.removeprefix("--").partition("=")
        name = name.replace("-", "_") if name.replace("-", "_") in known else name
        kind = value_types.get(name)
        if not token.startswith("--") or name not in known:
            result.append(token)
            continue
        following: list[str] = [value] if equals else []
        many = _is_list(kind)
        while kind and not equals and position < len(argv) and (many or not following):
            if argv[position].startswith("--") or argv[position] == "-h":
                break
            if kind is bool and argv[position].lower() not in _SWITCH:
                raise PACZeroError(f"--{name}: {argv[position]!r} was given; expected true or false")
            following.append(argv[position])
            position += 1
        if kind is bool and not following:
            following = ["true"]
        if many and following and following != ["null"] and not following[0].startswith("["):
            following = [f"[{','.join(following)}]"]
        result += [f"--{name}={following[0]}", *following[1:]] if following else [f"--{name}"]
    return result


def _parts(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a type: of `str | None`, `str` and `NoneType`."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _is_mapping(kind: Any) -> bool:
    origins = [typing.get_origin(part) or part for part in _parts(kind)]
    return any(isinstance(origin, type) and issubclass(origin, Mapping) for origin in origins)


def _is_list(kind: Any) -> bool:
    return any((typing.get_origin(part) or part) is list for part in _parts(kind))


def _takes_text(kind: Any) -> bool:
    return any(part is str or typing.get_origin(part) is typing.Literal for part in _parts(kind))


def _nested(key: str, value: Any) -> Tree:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _merge(tree: Tree, other: Tree, mappings: frozenset[str] = frozenset(), prefix: str = "") -> None:
    """Puts the values of `other` into `tree`, group by group; a free mapping is replaced as a whole."""
    for name, value in other.items():
        key = prefix + name
        if isinstance(value, dict) and isinstance(tree.get(name), dict) and key not in mappings:
            _merge(tree[name], value, mappings, f"{key}.")
        else:
            tree[name] = value


def _set_inside(tree: Tree, mapping: str, inner: str, value: Any) -> None:
    """Sets one key of a free mapping, which is made where there was none."""
    for part in mapping.split("."):
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[inner] = value


def _keys(tree: Tree, mappings: frozenset[str], prefix: str = "") -> list[str]:
    result: list[str] = []
    for name, value in tree.items():
        key = prefix + name
        result += _keys(value, mappings, f"{key}.") if isinstance(value, dict) and key not in mappings else [key]
    return result


_TRAIN = """
Fine-tunes a model and releases only what the mechanism allows.
Every setting below is a key of the YAML file and a flag; flags win.

  paczero train --config demo --output_dir runs/first              a recipe that comes with the package
  paczero train --config my.yaml --mechanism.subsets 64 --peft.r 4
  paczero train --model DIR --data.train reviews.csv --data.dev dev.csv \\
                --task.template "{review} It was {label}" --task.labels "{neg: terrible, pos: great}"
  paczero train --resume runs/first                                goes on where it was stopped, however it was
  torchrun --nproc_per_node 2 -m paczero train --config my.yaml    processes, GPUs or machines share the work
"""


def parser_for_train() -> SettingsParser:
    """The parser of `paczero train`; its namespace has `resume`, `secret` and `print_settings` beside the settings."""
    parser = settings_parser("train", _TRAIN)
    group = parser.add_argument_group("The run itself (flags only)")
    group.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, under its own settings")
    group.add_argument("--secret", metavar="FILE", help="use the secret of another run; the budgets of both add up")
    group.add_argument("--print_settings", action="store_true", help="print all settings as YAML and stop")
    return parser


def settings_parser(
    command: str, description: str, *, usage: str = "[--config FILE] [--KEY VALUE ...]"
) -> SettingsParser:
    """A parser whose options are `--config` and every setting of a run."""
    parser = command_parser(command, description, usage=usage, kind=SettingsParser)
    parser.add_argument("--config", metavar="FILE", help="a YAML file of settings, or the name of a recipe")
    parser.add_argument("--model", type=str, default=None, help="a model directory, or the id of one on the hub")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_argument(
        "--peft",
        type=dict | None,
        default=None,
        metavar="'{KEY: VALUE}'",
        help="a PEFT configuration, such as '{peft_type: LORA, r: 8, target_modules: [q_proj, v_proj]}'; one key by "
        "--peft.KEY VALUE; full tuning where left out",
    )
    parser.add_class_arguments(PACZeroConfig)
    parser.value_types = setting_types()
    parser.hide(parser.groups_of_settings())
    return parser
