"""The parser of every command: argparse with help worth reading and refusals of one line.

>>> parser = command_parser("convert", "Makes a model directory from a GGUF file.", usage="FILE.gguf OUT_DIR")
>>> _ = parser.add_argument("file", help="the GGUF file")
>>> parser.parse_args(["model.gguf"]).file
'model.gguf'

A `SettingsParser` has a flag for every setting. Flags win over the YAML file of `--config`, whatever their order:

>>> parser = settings_parser("train", "Fine-tunes a model.")
>>> parser.parse_args(["--mechanism.subsets", "64", "--peft", "{r: 8, bias: none}", "--peft.r", "4"]).settings
{'peft': {'r': 4, 'bias': 'none'}, 'mechanism.subsets': 64}
"""

import argparse
import inspect
import re
import sys
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from paczero.config import OTHER_NAMES, EngineConfig, MechanismConfig, PACZeroConfig, Renamed, TaskConfig
from paczero.config_io import (
    GROUPS,
    MAPPINGS,
    SETTING_TYPES,
    DataConfig,
    Plain,
    RunSettings,
    Settings,
    did_you_mean,
    expected,
    flatten,
    merge,
    read_file,
    read_settings,
    read_yaml,
)
from paczero.errors import PACZeroError

_WIDTH = 110
_INDENT = 30  # columns before the explanation of an option
_TYPES = {"int": int, "float": float}  # of the options that are no settings, as argparse names them


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """States the default of each option and keeps the lines of the description."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_INDENT)
        self._width = min(self._width, _WIDTH)

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and heading[0].upper() + heading[1:])

    def _get_help_string(self, action: argparse.Action) -> str:
        default = action.default
        quiet = not action.option_strings or default in (None, False, argparse.SUPPRESS)
        return (action.help or "") + ("" if quiet else " (default: %(default)s)")


class CommandParser(argparse.ArgumentParser):
    """A parser that raises PACZeroError, in one line, for what was typed wrong."""

    def error(self, message: str) -> NoReturn:
        options = [name for action in self._actions for name in action.option_strings]
        raise PACZeroError(explain(message, [name for name in options if name.lstrip("-") not in OTHER_NAMES]))


Kind = TypeVar("Kind", bound=CommandParser)


def command_parser(command: str, description: str, *, usage: str, kind: type[Kind] = CommandParser) -> Kind:  # type: ignore[assignment]
    """An empty parser for `paczero COMMAND`; the description may hold several lines, such as an example."""
    return kind(
        prog=f"paczero {command}",
        usage=f"paczero {command} {usage}".rstrip(),
        description=description.strip(),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


def explain(message: str, options: Iterable[str]) -> str:
    """argparse's message as one line: the key, the given value, the expected kind.

    Args:
        message: argparse's own.
        options: every option of the parser, for the close match of a misspelt one.
    """
    if match := re.match(r"argument (\S+): invalid (\w+) value: (.*)", message):
        return f"{match[1]}: {match[3]} was given; expected {expected(_TYPES[match[2]])}"
    if match := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
        first = (match[1].split() or [""])[0].partition("=")[0]
        if first.startswith("-"):
            return f"{first} is no option here{did_you_mean(first, options)}"
        return f"{match[1]!r} was given where nothing more is expected; quote a text with spaces"
    if match := re.match(r"argument (\S+): expected (?:one|at least one) argument", message):
        kind = SETTING_TYPES.get(match[1].lstrip("-"))
        return f"{match[1]}: no value was given; expected {'one' if kind is None else expected(kind)}"
    if match := re.match(r"one of the arguments (.*) is required", message):
        return f"none of {match[1].replace(' ', ', ')} was given; expected one of them; -h says what they are"
    if match := re.match(r"argument (\S+): not allowed with argument (\S+)", message):
        return f"{match[1]}: it was given together with {match[2]}; expected one of them; leave the other out"
    if match := re.match(r"the following arguments are required: (.*)", message):
        return f"{match[1]}: nothing was given; it is needed, -h says what it is"
    return " ".join(message.split())


class SettingsParser(CommandParser):
    """A parser with flags for settings.

    `parse_args` returns a namespace with `flags`, the settings that were given as flags, by dotted key; `settings`,
    these over those of the file that `--config` names; and one entry for each option that is no setting.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False)
        self.add_argument("-h", "--help", action=_Help, help="show the settings that matter most and stop")
        self.add_argument("--help-all", action=_Help, help="show every setting and stop")
        self.add_argument("--help_all", action=_Help, help=argparse.SUPPRESS)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # `-1e-3` is a value
        self.settings: set[str] = set()  # destinations of the flags that are settings, their groups or other names
        self.frequent: list[argparse.Action] = []  # shown by `-h`, too
        self.rare: list[argparse.Action] = []  # shown by `--help-all` alone

    def add_settings(self, keys: Collection[str], *, first: Collection[str] = ()) -> None:
        """Adds a flag for each setting of these keys; only those in `first` stand in the help that `-h` shows."""
        groups: dict[str, Any] = {"first": self.add_argument_group("Settings (each is also a key of the YAML file)")}
        for key in sorted(keys, key=lambda key: key not in first):
            group = "first" if key in first else key.rpartition(".")[0]
            if group not in groups:
                groups[group] = self.add_argument_group(_TITLES[group])
            action = groups[group].add_argument(f"--{key}", **_option(key))
            (self.frequent if key in first else self.rare).append(action)
        for group in groups.keys() & GROUPS:
            self.add_argument(f"--{group}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        others = [key for key, now in OTHER_NAMES.items() if not isinstance(now, Renamed) or now in keys]
        for key in others:
            self.add_argument(f"--{key}", nargs="?", const="", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.settings |= {*keys, *groups, *others}

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses flags, and the file that they may name.

        Raises:
            PACZeroError: an option that does not exist, or a value that is not of its type.
        """
        argv = [self._underscored(token) for token in (sys.argv[1:] if args is None else args)]
        for name in {token.partition("=")[0] for token in argv} - self._option_string_actions.keys():
            if any(name.startswith(f"--{mapping}.") for mapping in MAPPINGS & self.settings):
                self.add_argument(name, dest=name[2:], default=argparse.SUPPRESS, help=argparse.SUPPRESS)
                self.settings.add(name[2:])
        found = vars(super().parse_args(argv, namespace))
        flags: Settings = {}
        given = [key for key in found if key in self.settings]
        for key in sorted(given, key=lambda key: key.count(".")):  # a group before its settings
            read = read_settings({key: _value(key, found.pop(key))})
            if key in OTHER_NAMES and (twice := read.keys() & {*found, *flags}):
                raise PACZeroError(f"--{key}: it was given together with --{twice.pop()}; leave it out")
            flags |= read
        below, _ = read_file(found["config"]) if found.get("config") else ({}, {})
        return argparse.Namespace(**found, flags=flags, settings=merge(below, flags))

    def _underscored(self, token: str) -> str:
        """`--train-layers` as `--train_layers`, where that is an option."""
        name, equals, value = token.partition("=")
        option = f"--{name[2:].replace('-', '_')}"
        return option + equals + value if token.startswith("--") and option in self._option_string_actions else token


class _Help(argparse.Action):
    """Prints the help, with or without the rare settings, and stops."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string in ("-h", "--help"):
            for action in parser.rare:
                action.help = argparse.SUPPRESS
            for action in parser.frequent:  # the first clause is enough here
                text, default, rest = action.help.partition(" (default: ")
                action.help = re.split(r"; |\. ", text)[0] + default + rest
        parser.print_help()
        parser.exit()


def _value(key: str, given: Any) -> Any:
    """What was typed after a flag, as `read_settings` takes it."""
    texts = given if isinstance(given, list) else [given]
    kind, text = SETTING_TYPES.get(key), " ".join(texts)
    if _is_list(kind) and texts != ["null"]:
        text = text if text.startswith("[") else f"[{','.join(texts)}]"
    elif key not in GROUPS and key not in MAPPINGS and kind is not None:
        return Plain(text)
    try:
        return read_yaml(text)
    except PACZeroError as error:
        raise PACZeroError(f"--{key}: {text!r} was given: {error}") from error


def _is_list(kind: Any) -> bool:
    return any(typing.get_origin(part) in (list, Sequence) for part in (kind, *typing.get_args(kind)))


# -- help for settings -------------------------------------------------------------------------------------------------

_TITLES = {
    "": "The run",
    "data": "Data: where the records come from",
    "task": "Task: prompt, labels and units",
    "mechanism": "Mechanism: what is released, and at what cost",
    "engine": "Engine: how a run is computed (this does not change its results)",
}


def _explanations() -> dict[str, str]:
    """What the docstrings say of each setting, by dotted key."""
    found: dict[str, str] = {}
    classes = {"": (RunSettings, PACZeroConfig), "data.": (DataConfig,), "task.": (TaskConfig,)}
    for prefix, group in (classes | {"mechanism.": (MechanismConfig,), "engine.": (EngineConfig,)}).items():
        for cls in group:
            _, _, attributes = (inspect.getdoc(cls) or "").partition("Attributes:\n")
            for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
                found[prefix + name] = " ".join(text.split()).removesuffix(".")
    return found


_EXPLANATIONS = _explanations()
_DEFAULTS = flatten(RunSettings(""))


def _option(key: str) -> dict[str, Any]:
    """The arguments of `add_argument` for a setting."""
    kind, default = SETTING_TYPES[key], _DEFAULTS[key]
    text = _EXPLANATIONS[key].replace("%", "%%")
    if default not in (None, False, "", []):
        shown = default if isinstance(default, str) and default.strip() else _shown(default)
        text += f" (default: {shown})".replace("%", "%%")
    option: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text, "metavar": _metavar(key, kind)}
    if kind is bool:
        option |= {"nargs": "?", "const": "true"}
    return option | ({"nargs": "+"} if _is_list(kind) else {})


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "true"
    if isinstance(default, Mapping):
        return "{" + ", ".join(f"{name}: {word}" for name, word in default.items()) + "}"
    return repr(default)


def _metavar(key: str, kind: Any) -> str:
    if key in MAPPINGS:
        return "{KEY: VALUE}"
    parts = [part for part in (kind, *typing.get_args(kind)) if part is not type(None)]
    if literal := next((part for part in parts if typing.get_origin(part) is typing.Literal), None):
        words = "|".join(typing.get_args(literal))
        return words if len(words) <= _INDENT - len(key) else "WORD"
    return {bool: "true|false", int: "N", float: "X"}.get((*typing.get_args(parts[-1]), parts[-1])[0], "TEXT")


# -- the parsers of settings -------------------------------------------------------------------------------------------

_FIRST = (
    *("model", "data.train", "data.dev", "task.template", "task.labels", "peft", "output_dir"),
    *("mechanism.name", "mechanism.budget", "mechanism.epsilon", "max_steps", "learning_rate", "seed"),
)
_TRAIN = """
Fine-tunes a model and releases only what the mechanism allows. Settings come from a YAML file and flags; flags win.

  paczero train --config demo --output_dir runs/first              a recipe that comes with the package
  paczero train --config my.yaml --mechanism.subsets 64 --peft.r 4
  paczero train --model DIR --data.train reviews.csv --data.dev dev.csv \\
                --task.template "{review} It was {label}" --task.labels "{neg: terrible, pos: great}"
  paczero train --resume runs/first                                goes on where it was stopped
  torchrun --nproc_per_node 2 -m paczero train --config my.yaml    several processes, GPUs or machines share the work
"""


def parser_for_train() -> SettingsParser:
    """The parser of `paczero train`; its namespace has `resume`, `secret` and `print_settings` beside the settings."""
    parser = settings_parser("train", _TRAIN)
    group = parser.add_argument_group("The run itself (flags only)")
    group.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, under its own settings")
    group.add_argument("--secret", metavar="FILE", help="RUN/private/secret.json: use its secret again; budgets add up")
    group.add_argument("--print_settings", action="store_true", help="print all settings as YAML and stop")
    return parser


def settings_parser(
    command: str, description: str, *, usage: str = "[--config FILE] [--KEY VALUE ...]", config: bool = True
) -> SettingsParser:
    """A parser with a flag for every setting of a run, and `--config` for a file of them."""
    parser = command_parser(command, description, usage=usage, kind=SettingsParser)
    if config:
        parser.add_argument("--config", metavar="FILE", help="a YAML file of settings, or the name of a recipe")
    parser.add_settings(SETTING_TYPES, first=_FIRST)
    return parser
