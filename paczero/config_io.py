"""Settings in files: YAML to frozen dataclasses and back, bases, recipes. It needs no argument parser.

>>> settings = read_settings({"max_steps": "300", "mechanism": {"name": "mi", "budget": "0.33"}})
>>> settings
{'max_steps': 300, 'mechanism.name': 'mi', 'mechanism.budget': 0.33}
>>> build_settings(settings | {"model": "m", "data.train": "pool.csv"}).args.mechanism.budget
0.33

Settings that were given are a flat mapping from dotted key to value, so that one set lies over another by `merge`. YAML
files and flags give texts; the type of each setting says what a text means: `no` stays a text where a text is due.
"""

import contextlib
import dataclasses
import difflib
import re
import types
import typing
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml

import paczero
from paczero.config import FormerNameWarning, PACZeroConfig, current_name, current_value
from paczero.errors import PACZeroError
from paczero.utils.io import write_whole


@dataclass(frozen=True)
class DataConfig:
    """Where the records come from: csv, tsv, jsonl or parquet files, or hub names `name[:config][@split]`.

    Attributes:
        train: the pool, whose records are protected: a file, or a dataset of the hub.
        dev: records for evaluation during training; they are not in the pool and not protected.
        test: records to score once, at the end.
        train_records: how many records of `train` are the pool, drawn by the run's seed; all where left out.
        dev_records: how many records the dev set has, drawn from `dev`, or from what the pool leaves of `train`; all of
            `dev` where left out.
        test_records: how many of `test` are scored at most, drawn by the run's seed; without `test`, how many are drawn
            from what pool and dev set leave of `train`. All of `test` where left out.
        shots: k; the pool is k records of each label, instead of `train_records`.
    """

    train: str | None = None
    dev: str | None = None
    test: str | None = None
    train_records: int | None = None
    dev_records: int | None = None
    test_records: int | None = None
    shots: int | None = None

    def __post_init__(self) -> None:
        for name in ("train_records", "dev_records", "test_records", "shots"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PACZeroError(f"data.{name}: {value} was given; expected 1 or more, or nothing for all records")
        if self.shots is not None and self.train_records is not None:
            raise PACZeroError(
                f"data.shots: {self.shots} was given with data.train_records {self.train_records}; choose one of them"
            )


@dataclass(frozen=True)
class RunSettings:
    """All settings of `paczero train`, as they stand in RUN/config.yaml.

    Attributes:
        model: a model's directory, or its id on the hub.
        data: where the records come from.
        peft: the keys of a PEFT configuration, such as {r: 8, target_modules: [q_proj, v_proj]}; full tuning where left
            out.
        args: all other settings.
    """

    model: str
    data: DataConfig = field(default_factory=DataConfig)
    peft: dict[str, Any] | None = None
    args: PACZeroConfig = field(default_factory=PACZeroConfig)


Settings = dict[str, Any]  # dotted key -> value; a single key of a free mapping (`peft.r`) until it is merged


def _types(cls: Any, prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(cls).items():
        result |= _types(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else {prefix + name: kind}
    return result


SETTING_TYPES: dict[str, Any] = {
    "model": str,
    **_types(DataConfig, "data."),
    "peft": dict[str, Any] | None,
    **_types(PACZeroConfig),
}
GROUPS = frozenset(key.rpartition(".")[0] for key in SETTING_TYPES if "." in key)
MAPPINGS = frozenset({"peft", "task.labels"})  # settings that are mappings with keys of the user's own


def type_of(key: str) -> Any:
    """The type of a setting or of a single key of a free mapping; None where there is no such setting."""
    mapping = _mapping_of(key)
    return SETTING_TYPES.get(key) if mapping is None else (Any if mapping == "peft" else str)


def _mapping_of(key: str) -> str | None:
    return next((mapping for mapping in MAPPINGS if key.startswith(f"{mapping}.")), None)


# -- from texts to typed values ----------------------------------------------------------------------------------------


class Plain(str):
    """A text without quotes, as in `max_steps: 300`: it may stand for a number, a truth value or null."""

    __slots__ = ()


_NULL = ("", "~", "null", "Null", "NULL")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def expected(kind: Any) -> str:
    """A type in words.

    >>> expected(int | None)
    'a whole number or null'
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(arguments)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(expected, arguments))
    if origin in (list, Sequence):
        return "a list of texts such as '[a, b]'" if arguments == (str,) else "a list of whole numbers such as '[1, 2]'"
    texts = " of texts" if str in arguments and Any not in arguments else ""
    return _WORDS.get(kind, f"a mapping{texts} such as '{{key: value}}'")


def convert(key: str, value: Any, kind: Any) -> Any:
    """A value as its type.

    >>> convert("task.labels", {"0": "terrible", "1": "great"}, dict[str, str])
    {'0': 'terrible', '1': 'great'}

    Raises:
        PACZeroError: it cannot be of that type.
    """
    try:
        return _converted(value, kind)
    except ValueError as error:
        shown = "null" if is_null(value) else repr(value)
        raise PACZeroError(f"{key}: {shown} was given; expected {expected(kind)}") from error


def is_null(value: Any) -> bool:
    """Whether a value is YAML's null, which also is what stands after `key:` and nothing else."""
    return value is None or (isinstance(value, Plain) and value in _NULL)


def _converted(value: Any, kind: Any) -> Any:
    """As `convert`; raises ValueError."""
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if isinstance(value, Path):
        value = str(value)
    if kind is Any:
        return _untyped(value)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and is_null(value):
            return None
        parts = [part for part in arguments if part is not type(None)]
        for kind in parts[:-1]:
            with contextlib.suppress(ValueError):
                return _converted(value, kind)
        return _converted(value, parts[-1])
    if origin in (list, Sequence):
        items = value if isinstance(value, list | tuple) else [value]
        return [_converted(item, arguments[0]) for item in items]
    if isinstance(value, Mapping) and origin in (dict, Mapping):
        words = arguments[1] is str  # `null` is a word, too
        return {
            str(name): str(item) if words and isinstance(item, str) else _converted(item, arguments[1])
            for name, item in value.items()
        }
    if isinstance(value, str):
        return _of_text(value, kind, arguments)
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise ValueError


def _of_text(text: str, kind: Any, words: Sequence[str]) -> Any:
    if text in words or (kind is str and not is_null(text)):
        return str(text)
    if kind is bool and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if kind is int and _INTEGER.fullmatch(text):
        return int(text)
    if kind is float and _FLOAT.fullmatch(text):
        return float(re.sub(r"\.(?=[a-z])", "", text.lower()))
    raise ValueError


def _untyped(value: Any) -> Any:
    """Reads a value that has no declared type as a text without quotes would be read."""
    if isinstance(value, Mapping):
        return {str(name): _untyped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_untyped(item) for item in value]
    if not isinstance(value, Plain):
        return value
    for kind in (type(None) | int, bool, float):
        with contextlib.suppress(ValueError):
            return _converted(value, kind)
    return str(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` for a misspelt name, also where only its group is missing; or where to look."""
    names = list(known)
    bare = name.lstrip("-")
    inner = [candidate for candidate in names if candidate.lstrip("-").rpartition(".")[2] == bare]
    near = inner or difflib.get_close_matches(name, names, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(near)}?" if near else "; -h lists those there are"


def read_settings(tree: Mapping[str, Any], prefix: str = "") -> Settings:
    """The settings in a tree of texts, such as a YAML file gives, each as its type.

    Args:
        tree: keys may be nested, dotted or both.
        prefix: of all keys, such as `mechanism.`.

    Raises:
        PACZeroError: no such setting, given twice, or a value that is not of its type.
    """
    settings: Settings = {}
    for name, given in tree.items():
        key, value = current_name(prefix + name), current_value(prefix + name, given)
        kind = type_of(key)
        if kind is not None:
            found = {key: convert(key, value, kind)}
        elif key not in GROUPS:
            raise PACZeroError(f"{key} is no setting{did_you_mean(key, [*SETTING_TYPES, *GROUPS])}")
        elif isinstance(value, Mapping):
            found = read_settings(value, f"{key}.")
        elif is_null(value):
            found = {}
        else:
            hint = f"; did you mean {key}.name?" if f"{key}.name" in SETTING_TYPES else ""
            raise PACZeroError(f"{key}: {value!r} was given; expected {expected(dict)} of its settings{hint}")
        if twice := sorted(found.keys() & settings.keys()):
            raise PACZeroError(f"{twice[0]} is given twice; leave one out")
        settings |= found
    return settings


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Settings:
    """Both sets of settings; those of `above` win, and single keys of a free mapping change that key alone.

    >>> merge({"peft": {"r": 8, "lora_alpha": 16}}, {"peft.r": 4})
    {'peft': {'r': 4, 'lora_alpha': 16}}
    """
    result = dict(below)
    for key in sorted(above, key=lambda key: _mapping_of(key) is not None):
        mapping = _mapping_of(key)
        if mapping is None:
            result[key] = above[key]
        else:
            result[mapping] = {**(result.get(mapping) or {}), key.removeprefix(f"{mapping}."): above[key]}
    return result


# -- YAML --------------------------------------------------------------------------------------------------------------


class _Loader(yaml.BaseLoader):
    """Gives every scalar as a text: `Plain` without quotes, `str` with quotes. A key given twice is refused."""

    def construct_scalar(self, node: Any) -> str:
        text = str(super().construct_scalar(node))
        return Plain(text) if node.style is None else text

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word or text", key.start_mark)
            if key.value in names:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            names.add(key.value)
        return {str(name): value for name, value in super().construct_mapping(node, deep).items()}


def read_yaml(text: str) -> Any:
    """Parses one YAML document, every scalar as a text; an empty document is an empty mapping.

    Raises:
        PACZeroError: it is not YAML, or a key is given twice.
    """
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        raise PACZeroError(f"not YAML{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise PACZeroError(f"not YAML: {' '.join(str(error).split())}") from error
    return {} if content is None else content


def read_file(
    name: str | Path, *, aside: Collection[str] = (), above: Sequence[Path] = ()
) -> tuple[Settings, Settings]:
    """The settings of a YAML file or recipe over those of its bases, and what lies aside of them.

    A file may name others as `base`, one or a list, by paths from its own directory. Later ones win over earlier ones,
    the file wins over all.

    Args:
        name: the path of a file, or the name of a recipe.
        aside: keys of the file that are no settings.
        above: files that name this one as a base.

    Raises:
        PACZeroError: a file cannot be read, or something in it is no setting.
    """
    path = Path(name)
    if not above and not path.exists():
        path = {**recipes(), **(recipes(sweeps=True) if aside else {})}.get(str(name), path)
    try:
        if path.resolve() in above:
            raise PACZeroError("base: the file is its own base; expected one that does not lead back to it")
        own = read_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(own, dict):
            raise PACZeroError(f"a {type(own).__name__} was given; expected settings, one `key: value` a line")
        settings: Settings = {}
        for base in convert("base", own.pop("base", []), list[str]):
            below, _ = read_file(path.parent / base, aside=aside, above=(*above, path.resolve()))
            settings = merge(settings, below)
        rest = {key: own.pop(key) for key in aside if key in own}
        if above and rest:
            raise PACZeroError(f"{min(rest)} is set, so it is a sweep; expected a base of settings alone")
        return merge(settings, read_settings(own)), rest
    except OSError as error:
        known = like(str(name), recipes(sweeps=bool(aside)))
        raise PACZeroError(
            f"{'base' if above else 'config'}: {str(name)!r} cannot be read ({error.strerror}); expected a YAML file "
            + ("beside the one that names it" if above else f"or a recipe ({known})")
        ) from error
    except UnicodeDecodeError as error:
        raise PACZeroError(f"config: {str(name)!r} is not UTF-8 at byte {error.start}; expected YAML") from error
    except PACZeroError as error:
        raise PACZeroError(f"{name}: {error}") from error


# -- whole runs --------------------------------------------------------------------------------------------------------


def build_settings(given: Mapping[str, Any], *, pool: bool = True) -> RunSettings:
    """The settings of a run, checked.

    Args:
        given: dotted key -> value; all others have their defaults.
        pool: whether a pool must be named.

    Raises:
        PACZeroError: no model or no pool is named, or a value cannot work.
    """
    tree = nested(given)
    model, data, peft = tree.pop("model", None), _build(DataConfig, tree.pop("data", {})), tree.pop("peft", None)
    args = _build(PACZeroConfig, tree)
    if not model:
        raise PACZeroError("model: none was given; expected a model directory or hub id; add --model")
    settings = RunSettings(model=model, data=data, peft=peft, args=args)
    if pool:
        require_pool(settings)
    return settings


def _build(cls: type, tree: Mapping[str, Any]) -> Any:
    """The dataclass of nested values; what is missing has its default."""
    hints = typing.get_type_hints(cls)
    return cls(**{k: _build(hints[k], v) if dataclasses.is_dataclass(hints[k]) else v for k, v in tree.items()})


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted keys as nested mappings.

    >>> nested({"max_steps": 3, "mechanism.name": "mi"})
    {'max_steps': 3, 'mechanism': {'name': 'mi'}}
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        group, _, name = key.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[name] = value
    return tree


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as values by dotted keys, the inverse of `nested`.

    >>> dotted({"max_steps": 3, "mechanism": {"name": "mi"}})
    {'max_steps': 3, 'mechanism.name': 'mi'}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
        )
    return flat


def flatten(settings: RunSettings) -> Settings:
    """Every setting of a run by its dotted key."""
    outside = ("model", "data", "peft")
    keys = {key: key if key.partition(".")[0] in outside else f"args.{key}" for key in SETTING_TYPES}
    return {key: attrgetter(path)(settings) for key, path in keys.items()}


def require_pool(settings: RunSettings) -> None:
    """Raises PACZeroError where no pool is named, as in the config.yaml of a run that was given a dataset in Python."""
    if not settings.data.train:
        raise PACZeroError("data.train: none was given; expected the pool's file or hub name; add --data.train")


class _Dumper(yaml.SafeDumper):
    """Quotes texts such as `1e5`, which are numbers here."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def dump_settings(settings: RunSettings) -> str:
    """All settings as YAML; `load_settings` reads the same ones from it."""
    tree = nested(
        {key: dict(value) if key in MAPPINGS and value else value for key, value in flatten(settings).items()}
    )
    text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"# All settings of a run; `paczero train --config THIS_FILE --output_dir DIR` runs it again.\n{text}"


def save_settings(settings: RunSettings, path: Path) -> None:
    """Writes `dump_settings` to a file, whole or not at all."""
    write_whole(path, dump_settings(settings))


def load_settings(path: Path) -> RunSettings:
    """Reads a file of settings, such as RUN/config.yaml; that of a run begun in Python may name no pool.

    Raises:
        PACZeroError: no such file, or something in it is no setting or cannot work.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FormerNameWarning)  # an earlier version wrote the file, not the user
        return build_settings(read_file(path.absolute())[0], pool=False)


# -- recipes -----------------------------------------------------------------------------------------------------------

_PACKAGE = Path(paczero.__file__).parent
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")  # of an installed wheel, of a checkout
_PARTS = frozenset({"base", "tasks", "sweeps"})  # folders without recipes: bases, and files for `paczero sweep`
_SHOWN = 4  # recipes that a message names


def recipes(*, sweeps: bool = False) -> dict[str, Path]:
    """Every recipe by name: its path below `recipes/` without `.yaml`, such as `paper/sst2-opt-1.3b-lora-zpl`.

    Args:
        sweeps: the files for `paczero sweep` instead.
    """
    folder = next((place for place in _PLACES if place.is_dir()), None)
    found = [] if folder is None else [path.relative_to(folder) for path in sorted(folder.rglob("*.yaml"))]
    return {
        path.with_suffix("").as_posix(): folder / path
        for path in found
        if folder is not None and ("sweeps" in path.parts if sweeps else not _PARTS & set(path.parts[:-1]))
    }


def recipe(name: str) -> Path:
    """The file of a recipe.

    Raises:
        PACZeroError: no recipe has that name; says which are close, or which exist.
    """
    known = recipes()
    if name in known:
        return known[name]
    raise PACZeroError(f"recipe: {name!r} was given; expected one that exists ({like(name, known)})")


def like(name: str, known: Mapping[str, Path]) -> str:
    """For a message: the recipe with the closest name, or some of them and how many there are."""
    near = difflib.get_close_matches(name, known, n=1)
    if near or not known:
        return near[0] if near else "there are none"
    some = list(known)[:_SHOWN]
    more = f" and {len(known) - len(some)} more in recipes/" if len(known) > len(some) else ""
    return ", ".join(some) + more
