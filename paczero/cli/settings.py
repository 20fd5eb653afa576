"""The settings of a run: from a YAML file and flags to frozen dataclasses, and back to a file.

>>> parser = parser_for_train()
>>> settings_from(parser.parse_args(["--model", "m", "--data.train", "pool.csv", "--steps", "64"])).args.steps
64

Flags win over the config file, the file over the defaults, in whatever order they are given.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from jsonargparse import Namespace

from paczero.cli.flags import SettingsParser
from paczero.cli.parsing import command_parser
from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.rundir import write_whole

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
    return settings_from(settings_parser("train", "").parse_args([f"--config={path.absolute()}"]), pool=False)


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
