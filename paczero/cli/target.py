"""What `paczero eval` and `predict` are pointed at: a run, a release, an adapter or a model, here or on the hub.

>>> parser = target_parser("eval", "", usage="TARGET")
>>> target = find_target(parser.parse_args(["runs/first/release", "--model", "models/small"]))  # doctest: +SKIP
>>> target.adapter, target.args.task.template, target.threshold                                 # doctest: +SKIP
(PosixPath('runs/first/release/adapter'), '{text} It was {label}', 0.0)

A run and a release say their task themselves. Of anything else flags or a YAML file must say it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from paczero.cli.parser import SettingsParser, command_parser, setting_types, settings_parser
from paczero.config import EngineConfig, PACZeroConfig, TaskConfig
from paczero.config_io import DataConfig, RunSettings, load_settings
from paczero.errors import IntegrityError, PACZeroError
from paczero.run_directory import RunDirectory

_PLAIN = ("dtype", "device", "batch_tokens")  # settings, beside task and engine, that scoring follows
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_NEEDED = {"classification": ("template", "labels"), "answer": ("template",)}


@dataclass(frozen=True)
class Target:
    """What is scored, and how.

    Attributes:
        name: as it was given.
        args: task, type, device and engine; no unit column, since units matter in training only.
        adapter: the PEFT adapter's directory; None for a full model.
        model: the full model's directory or hub id; None for an adapter.
        base: the model that was fine-tuned, where that is known.
        threshold: where a binary decision lies, as a difference of scores.
        header: the transcript's, where there is one.
        run: where it is a run.
        named: settings that name a test set for it, the run's own or those of `--config`.
        knows_task: whether `args.task` is its own.
    """

    name: str
    args: PACZeroConfig
    adapter: Path | None = None
    model: str | None = None
    base: str | None = None
    threshold: float = 0.0
    header: Mapping[str, Any] | None = None
    run: RunDirectory | None = None
    named: RunSettings | None = None
    knows_task: bool = False


class TargetParser(SettingsParser):
    """Takes the settings that scoring follows as flags, and a file of all settings, of which it reads those."""

    def _from_file(self, given: str) -> dict[str, Any]:
        whole: dict[str, Any] = settings_parser("train", "").parse_args([f"--config={given}"]).settings
        return whole


def target_parser(command: str, description: str, *, usage: str) -> TargetParser:
    """A parser with TARGET, `--config`, `--model`, `--task.…` and what else scoring follows."""
    parser = command_parser(command, description, usage=usage, kind=TargetParser)
    parser.add_argument(
        "target",
        type=str,
        metavar="TARGET",
        help="a run, its release/, a PEFT adapter, a model (directories, or the hub id of one of the last three)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a YAML file that says the task: a recipe's name, RUN/config.yaml, your own"
    )
    parser.add_argument(
        "--model", type=str, default=None, help="the adapter's base model; the one that the adapter names if left out"
    )
    parser.add_class_arguments(TaskConfig, "task")
    parser.add_class_arguments(PACZeroConfig, skip={field.name for field in fields(PACZeroConfig)} - {*_PLAIN})
    parser.add_class_arguments(EngineConfig, "engine")
    parser.value_types = {
        key: kind
        for key, kind in setting_types().items()
        if key in ("model", *_PLAIN) or key.startswith(("task.", "engine."))
    }
    parser.hide({"task", "engine"})
    return parser


def find_target(namespace: Namespace) -> Target:
    """Finds what TARGET means and what is known of it; flags and `--config` win over what it says itself.

    Raises:
        PACZeroError: there is nothing of the kind, it is not finished, or nobody says the task.
        IntegrityError: a release whose statement, task or transcript was changed.
    """
    name, tree = str(namespace.target), namespace.settings
    path = Path(name).expanduser()
    if RunDirectory(path).config.is_file():
        found = _of_run(RunDirectory(path))
    elif path.exists():
        found = _of_folder(path)
    else:
        fetched = _from_hub(name)
        bare = Target(name=name, args=PACZeroConfig(), model=name)
        found = bare if fetched is None else _of_folder(fetched)
    return _under(replace(found, name=name), tree)


def _under(found: Target, tree: Mapping[str, Any]) -> Target:
    """The target under the settings that were given."""
    asked = tree.get("task", {})
    needed = _NEEDED.get(asked.get("kind", "classification"), ())
    missing = [] if found.knows_task else [f"task.{key}" for key in needed if key not in asked]
    if missing:
        raise PACZeroError(
            f"{missing[0]}: none was given, and {found.name!r} does not say how it was trained; add "
            f"{' and '.join(f'--{key}' for key in missing)}, or --config FILE with the task (such as RUN/config.yaml)"
        )
    task = replace(found.args.task, **{**asked, "unit_column": None})
    if found.knows_task and found.args.task.kind == task.kind == "classification":
        _check_labels(found, task)
    plain = {key: tree[key] for key in _PLAIN if key in tree}
    engine = replace(found.args.engine, **tree.get("engine", {}))
    return replace(
        found,
        args=replace(found.args, task=task, engine=engine, **plain),
        base=str(tree.get("model") or found.base or "") or None,
        named=_naming(tree) if "data" in tree else found.named,
    )


def _naming(tree: Mapping[str, Any]) -> RunSettings:
    """The data of `--config`, with what a draw from it depends on."""
    args = PACZeroConfig(seed=tree.get("seed", 0), task=TaskConfig(**tree.get("task", {})))
    return RunSettings(model="", data=DataConfig(**tree["data"]), args=args)


def _check_labels(found: Target, asked: TaskConfig) -> None:
    """Refuses label words that were given the other way round, and an order that the threshold does not mean."""
    own, labels = dict(found.args.task.labels), dict(asked.labels)
    same = set(own) == set(labels) and set(own.values()) == set(labels.values())
    if same and own != labels:
        raise PACZeroError(
            f"task.labels: {labels} was given, but {found.name!r} was trained with {own}, the same words the other way "
            "round; leave task.labels out"
        )
    if found.threshold and list(own.values()) != list(labels.values()):
        raise PACZeroError(
            f"task.labels: the words {', '.join(labels.values())} were given, but the decision threshold of "
            f"{found.name!r} belongs to {', '.join(own.values())}, in this order; give these words in this order"
        )


def _of_run(run: RunDirectory) -> Target:
    name = str(run.root)
    if not run.finished:
        raise PACZeroError(f"{name!r} is not finished; go on with `paczero train --resume {name}`")
    settings = load_settings(run.config)
    found = _of_release(run.release)
    return replace(found, args=settings.args, base=settings.model, run=run, named=settings, knows_task=True)


def _of_folder(path: Path) -> Target:
    """What lies in a directory: a release, or the weights by themselves."""
    from paczero.release import statement

    if not path.is_dir():
        raise PACZeroError(
            f"{str(path)!r} is a file; expected a directory: a run, a release, a PEFT adapter or a model (a GGUF file "
            "goes through `paczero convert` first)"
        )
    if (path / statement.NAME).is_file():
        return _of_release(path)
    if path.name in ("adapter", "model") and (path.absolute().parent / statement.NAME).is_file():
        return _of_release(path.absolute().parent)
    if (path / "adapter_config.json").is_file():
        return Target(name=str(path), args=PACZeroConfig(), adapter=path, base=_named_base(path))
    if (path / "config.json").is_file():
        return Target(name=str(path), args=PACZeroConfig(), model=str(path))
    raise PACZeroError(
        f"{str(path)!r} holds no run, release, adapter or model (none of config.yaml, {statement.NAME}, "
        f"adapter_config.json, config.json is in it){_nearby(path)}"
    )


def _nearby(path: Path) -> str:
    """Where, one directory up or down, there is something that could have been meant."""
    signs = ("config.yaml", "privacy.json", "adapter_config.json", "config.json")
    places = [*sorted(child for child in path.iterdir() if child.is_dir()), path.absolute().parent]
    meant = [place for place in places if any((place / sign).is_file() for sign in signs)]
    return f"; did you mean {str(meant[0])!r}?" if meant else "; expected the directory that holds one of them"


def _named_base(adapter: Path) -> str | None:
    """The base model that an adapter names; refuses what is no adapter that works here."""
    path = adapter / "adapter_config.json"
    try:
        content = json.loads(path.read_bytes())
        kind, base = content["peft_type"], content.get("base_model_name_or_path")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PACZeroError(f"{str(path)!r} is no adapter's configuration; expected one that PEFT wrote") from error
    if kind != "LORA":
        raise PACZeroError(f"{str(adapter)!r} is an adapter of the kind {kind}; expected LORA; merge it into its base")
    return None if base is None else str(base)


def _of_release(folder: Path) -> Target:
    """A release, which says base, type, task and threshold itself; one from before `task.json` says no task."""
    from paczero.mechanism.transcript import Transcript
    from paczero.release import statement, task_file

    document = statement.read(folder / statement.NAME)
    header = Transcript.read(folder / "transcript.jsonl").header
    task = task_file.read(folder)
    if task is not None and statement.file_hash(folder / task_file.NAME) != document["files"].get(task_file.NAME):
        raise IntegrityError(f"{folder / task_file.NAME}: does not agree with {statement.NAME}; it was changed")
    adapter, model = folder / "adapter", folder / "model"
    if not adapter.is_dir() and not model.is_dir():
        raise PACZeroError(
            f"{str(folder)!r} has neither adapter/ nor model/; a release holds one of them; fetch it whole"
        )
    return Target(
        name=str(folder),
        args=PACZeroConfig(dtype=header["base"]["dtype"], task=task or TaskConfig()),
        adapter=adapter if adapter.is_dir() else None,
        model=None if adapter.is_dir() else str(model),
        base=header["base"]["id"],
        threshold=float(document["threshold"]),
        header=header,
        knows_task=task is not None,
    )


def _from_hub(name: str) -> Path | None:
    """Where a release or an adapter of the hub lies once it was fetched; None for a model, which loads by its name."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    reason = "it is no hub id"
    for sign in ("privacy.json", "adapter_config.json", "config.json") if _HUB_ID.fullmatch(name) else ():
        try:
            hf_hub_download(name, sign)
        except (EntryNotFoundError, HfHubHTTPError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            continue
        return None if sign == "config.json" else Path(snapshot_download(name))
    raise PACZeroError(
        f"{name!r}: there is no such directory in {str(Path.cwd())!r}, and nothing of the name can be had from the hub "
        f"({reason}); expected a run, a release, an adapter or a model"
    )
