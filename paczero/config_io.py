"""The settings of a run: from a YAML file and flags to frozen dataclasses, and back to a file.

>>> parser = parser_for_train()
>>> settings_from(parser.parse_args(["--model", "m", "--data.train", "pool.csv", "--max_steps", "64"])).args.max_steps
64

Flags win over the config file, the file over the defaults, in whatever order they are given.

Reads the YAML of settings so that what is written is what is meant.

>>> read_yaml("labels: {0: terrible, no: great}", is_text=lambda key: key.startswith("labels."))
{'labels': {'0': 'terrible', 'no': 'great'}}

Plain YAML would make 0 a number, `no` a boolean and `1e-3` a text. Here keys are always the text as written, settings
that are texts stay as written too, and `1e-3` is a number. The safe subset of YAML only.

Finds the recipes that come with the package, in a checkout as in an installed wheel.

>>> recipe("demo").name
'demo.yaml'
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from jsonargparse import Namespace

import paczero
from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.utils.io import write_whole

_YAML_WIDTH = 110


@dataclass(frozen=True)
class DataConfig:
    """Where the records come from: csv, tsv, jsonl or parquet files, or hub names `name[:config][@split]`.

    Attributes:
        train: the pool, whose records are protected.
        dev: records disjoint from the pool, on which a step is chosen; these are not protected.
        test: records that are only scored, once, at the end.
        train_records: how many of `train` are the pool, drawn by the run's seed; all where left out.
        dev_records: how many records the dev set has, drawn from `dev`, or from what the pool leaves of `train`; all of
            `dev` where left out.
        test_records: how many of `test` are scored at most, drawn by the run's seed; without `test`, how many are drawn
            from what pool and dev set leave of `train`. All of `test` where left out.
        shots: k: the pool is k records of each label instead of `train_records`.
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
    """All that `paczero train` is told, as it stands in RUN/config.yaml.

    Attributes:
        model: a model directory, or the id of one on the hub.
        data: where the records come from.
        peft: the keys of a PEFT configuration, such as {peft_type: LORA, r: 8, target_modules: [q_proj, v_proj]};
            full tuning where null.
        args: everything else.
    """

    model: str
    data: DataConfig = field(default_factory=DataConfig)
    peft: dict[str, Any] | None = None
    args: PACZeroConfig = field(default_factory=PACZeroConfig)


def settings_from(namespace: Namespace, *, pool: bool = True) -> RunSettings:
    """The settings that were parsed, validated.

    Args:
        pool: whether a pool must be named.

    Raises:
        PACZeroError: no model or no pool was named, or a value that cannot work, in one line.
    """
    tree = dict(namespace.settings)
    model, data, peft = tree.pop("model", None), _build(DataConfig, tree.pop("data", {})), tree.pop("peft", None)
    args = _build(PACZeroConfig, tree)
    if not model:
        raise PACZeroError("model: none was given; expected a model directory or hub id; add --model")
    settings = RunSettings(model=model, data=data, peft=peft, args=args)
    if pool:
        require_pool(settings)
    return settings


def require_pool(settings: RunSettings) -> None:
    """Raises PACZeroError where no pool is named, as in the config.yaml of a run that was given a dataset in Python."""
    if not settings.data.train:
        raise PACZeroError("data.train: none was given; expected the pool's file or hub name; add --data.train")


def dump_settings(settings: RunSettings) -> str:
    """The settings as YAML, every one stated; `load_settings` reads the same ones from it."""
    tree = {"model": settings.model, "data": dataclasses.asdict(settings.data), "peft": settings.peft}
    tree |= _plain(settings.args)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=_YAML_WIDTH)
    return f"# All settings of a run; `paczero train --config THIS_FILE --output_dir DIR` runs it again.\n{text}"


def save_settings(settings: RunSettings, path: Path) -> None:
    """Writes `dump_settings` to a file, whole or not at all."""
    write_whole(path, dump_settings(settings))


def load_settings(path: Path) -> RunSettings:
    """Reads a file of settings, such as RUN/config.yaml; one of a run begun in Python may name no pool.

    Raises:
        PACZeroError: no such file, or something in it that is no setting or cannot work.
    """
    from paczero.cli.parser import settings_parser

    return settings_from(settings_parser("train", "").parse_args([f"--config={path.absolute()}"]), pool=False)


def setting_types() -> dict[str, Any]:
    """The type of every setting by its dotted key, in the order of the help."""
    return {"model": str, **_types(DataConfig, "data."), "peft": dict | None, **_types(PACZeroConfig, "")}


def _types(cls: type, prefix: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(cls).items():
        result |= _types(kind, f"{prefix}{name}.") if _is_settings(kind) else {prefix + name: kind}
    return result


def _is_settings(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _build(cls: type, tree: Mapping[str, Any]) -> Any:
    """The dataclass of nested values; what is missing takes its default."""
    hints = typing.get_type_hints(cls)
    return cls(**{k: _build(hints[k], v) if _is_settings(hints[k]) else v for k, v in tree.items()})


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as plain dicts, for YAML."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else value


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


_PACKAGE = Path(paczero.__file__).parent

# A wheel carries them inside the package; a checkout has them beside it.
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")

# What is in these is no recipe by itself: parts for `base:`, and files for `paczero sweep`.
_PARTS = frozenset({"base", "tasks", "sweeps"})

_SHOWN = 4  # recipes that a message names


def recipes(*, sweeps: bool = False) -> dict[str, Path]:
    """Every recipe by name: its path below `recipes/` without `.yaml`, such as `paper/sst2-opt-1.3b-lora-zpl`.

    Args:
        sweeps: the files for `paczero sweep` instead.
    """
    for place in _PLACES:
        if place.is_dir():
            found = {path.relative_to(place).with_suffix("").as_posix(): path for path in sorted(place.rglob("*.yaml"))}
            return {name: path for name, path in found.items() if _belongs(path.relative_to(place), sweeps)}
    return {}


def _belongs(path: Path, sweeps: bool) -> bool:
    folders = set(path.parts[:-1])
    return "sweeps" in folders if sweeps else not folders & _PARTS


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
    """For a message: the recipe whose name is close to what was given, else some of them and how many there are."""
    near = difflib.get_close_matches(name, known, n=1)
    if near or not known:
        return near[0] if near else "there are none"
    some = list(known)[:_SHOWN]
    more = f" and {len(known) - len(some)} more in recipes/" if len(known) > len(some) else ""
    return ", ".join(some) + more
