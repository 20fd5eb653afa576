"""Settings from flags and a YAML file, merged: flags win, whatever their order.

>>> parser.parse_args(["--mechanism.subsets", "64", "--config", "recipe.yaml", "--peft.r", "4"]).settings
{'model': …, 'peft': {'peft_type': 'LORA', 'r': 4}, 'mechanism': {'name': 'zpl', 'subsets': 64}}

jsonargparse types the values and writes the help. What it leaves open is done here: the order of file and flags,
single keys of free mappings (`--peft.r 4`, `--task.labels.fresh great`), misspelt keys, and texts that YAML takes for
something else.
"""

import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from paczero.cli.parsing import CommandParser, did_you_mean, expected
from paczero.cli.recipes import like, recipes
from paczero.cli.yamlfile import read_settings_file, read_yaml
from paczero.errors import PACZeroError

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
