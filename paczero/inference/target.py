"""Finds the weights to score: a run, a release folder, a PEFT adapter or a model, in a directory or on the hub.

    target = find_target("runs/first/release", {"model": "models/small"})
    target.adapter, target.args.task.template, target.threshold

A run and a release state their task. For an adapter or a model alone, the settings must state it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paczero.config import MechanismConfig, PACZeroConfig, TaskConfig
from paczero.config_io import DataConfig, RunSettings, load_settings, nested, read_settings
from paczero.errors import IntegrityError, PACZeroError
from paczero.release import statement
from paczero.release.model_card import HUB_ID
from paczero.run_directory import RunDirectory

PLAIN_SETTINGS = ("dtype", "device", "batch_tokens")  # settings that scoring uses, beside model, task and engine
_REQUIRED = {"classification": ("template", "labels"), "answer": ("template",)}


@dataclass(frozen=True)
class Target:
    """Weights to score, and how to score them.

    Attributes:
        name: the path or hub id as given.
        args: task, dtype, device, batch_tokens and engine. The task has no unit column: units matter in training only.
        adapter: directory of the PEFT adapter; None for a full model.
        model: directory or hub id of the full model; None for an adapter.
        base: the model that was fine-tuned, if known.
        threshold: decision threshold of a binary task, as a difference of scores.
        header: header of the transcript, for a run or a release.
        run: the run directory, for a run.
        settings: settings that name a test set: those of the run, or those given with a `data` group.
        states_task: whether the run or release states its task.
    """

    name: str
    args: PACZeroConfig
    adapter: Path | None = None
    model: str | None = None
    base: str | None = None
    threshold: float = 0.0
    header: Mapping[str, Any] | None = None
    run: RunDirectory | None = None
    settings: RunSettings | None = None
    states_task: bool = False


def find_target(name: str | Path, settings: Mapping[str, Any] | None = None) -> Target:
    """Finds the target and everything that it states.

    Args:
        name: a directory, or a hub id of a release, an adapter or a model.
        settings: as in a YAML file, nested or dotted; `model`, `task`, `engine`, `dtype`, `device` and `batch_tokens`
            override what the target states, `data` and `seed` name a test set. Others have no effect.

    Raises:
        PACZeroError: nothing usable has that name, a run is not finished, the task is not stated, or a setting is
            unknown or not of its type.
        IntegrityError: the statement, task or transcript of a release was changed.
    """
    given, path = nested(read_settings(settings or {})), Path(name).expanduser()
    if RunDirectory(path).config.is_file() and statement.release_at(path) != path:
        target = _run_target(RunDirectory(path))
    elif path.exists():
        target = _folder_target(path)
    else:
        fetched = _from_hub(str(name))
        model = Target(name=str(name), args=PACZeroConfig(), model=str(name))
        target = model if fetched is None else _folder_target(fetched)
    return _with_settings(replace(target, name=str(name)), given)


def _with_settings(target: Target, settings: Mapping[str, Any]) -> Target:
    given = settings.get("task", {})
    required = () if target.states_task else _REQUIRED.get(given.get("kind", "classification"), ())
    if missing := [f"task.{key}" for key in required if key not in given]:
        raise PACZeroError(
            f"{missing[0]}: none was given, and {target.name!r} does not say how it was trained; give "
            f"{' and '.join(missing)}, or a file of settings that has them (such as RUN/config.yaml)"
        )
    args = target.args
    task = replace(args.task, **{**given, "unit_column": None})
    if target.states_task and args.task.kind == task.kind == "classification":
        _check_labels(target, task)
    plain = {key: settings[key] for key in PLAIN_SETTINGS if key in settings}
    engine = replace(args.engine, **settings.get("engine", {}))
    named = target.settings
    if "data" in settings:
        drawn_by = PACZeroConfig(seed=settings.get("seed", 0), task=TaskConfig(**given))
        named = RunSettings(model="", data=DataConfig(**settings["data"]), args=drawn_by)
    return replace(
        target,
        args=replace(args, task=task, engine=engine, **plain),
        base=str(settings.get("model") or target.base or "") or None,
        settings=named,
    )


def _check_labels(target: Target, task: TaskConfig) -> None:
    """Refuses swapped label words, and another order of the words that the threshold compares."""
    own, labels = dict(target.args.task.labels), dict(task.labels)
    same_words = set(own) == set(labels) and set(own.values()) == set(labels.values())
    if same_words and own != labels:
        raise PACZeroError(
            f"task.labels: {labels} was given, but {target.name!r} was trained with {own}, the same words the other "
            "way round; leave task.labels out"
        )
    if target.threshold and list(own.values()) != list(labels.values()):
        raise PACZeroError(
            f"task.labels: the words {', '.join(labels.values())} were given, but the decision threshold of "
            f"{target.name!r} belongs to {', '.join(own.values())}, in this order; give these words in this order"
        )


def _run_target(run: RunDirectory) -> Target:
    if not run.finished:
        raise PACZeroError(f"{str(run.root)!r} is not finished; go on with `paczero train --resume {run.root}`")
    settings = load_settings(run.config)
    release = _release_target(statement.find_release(run.root))
    if release.states_task and replace(settings.args.task, unit_column=None) != release.args.task:
        raise IntegrityError(f"{run.config}: its task is not that of the release beside it; it was changed")
    args = replace(settings.args, mechanism=MechanismConfig())  # which scoring does not use, whatever type it needs
    return replace(release, args=args, base=settings.model, run=run, settings=settings, states_task=True)


def _folder_target(path: Path) -> Target:
    """The release, adapter or model in a directory."""
    if not path.is_dir():
        raise PACZeroError(
            f"{str(path)!r} is a file; expected a directory: a run, a release, a PEFT adapter or a model (a GGUF file "
            "goes through `paczero convert` first)"
        )
    parent = path.absolute().parent
    if (release := statement.release_at(path)) is not None:
        return _release_target(release)
    if (path / "adapter_config.json").is_file():
        return Target(name=str(path), args=PACZeroConfig(), adapter=path, base=_base_of_adapter(path))
    if (path / "config.json").is_file():
        return Target(name=str(path), args=PACZeroConfig(), model=str(path))
    marks = ("config.yaml", statement.NAME, "adapter_config.json", "config.json")
    nearby = [*sorted(child for child in path.iterdir() if child.is_dir()), parent]
    meant = next((str(folder) for folder in nearby if any((folder / mark).is_file() for mark in marks)), None)
    raise PACZeroError(
        f"{str(path)!r} holds no run, release, adapter or model (none of {', '.join(marks)} is in it); "
        + (f"did you mean {meant!r}?" if meant else "expected the directory that holds one of them")
    )


def _base_of_adapter(adapter: Path) -> str | None:
    """The base model that a LoRA adapter names."""
    path = adapter / "adapter_config.json"
    try:
        content = json.loads(path.read_bytes())
        peft_type, base = content["peft_type"], content.get("base_model_name_or_path")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PACZeroError(f"{str(path)!r} is no adapter's configuration; expected one that PEFT wrote") from error
    if peft_type != "LORA":
        raise PACZeroError(f"{str(adapter)!r} is an adapter of type {peft_type}; expected LORA; merge it into its base")
    return None if base is None else str(base)


def _release_target(folder: Path) -> Target:
    """A release states its base, dtype, threshold and task; a release without `task.json` states no task."""
    adapter, model = folder / "adapter", folder / "model"
    if not adapter.is_dir() and not model.is_dir():
        raise PACZeroError(
            f"{str(folder)!r} has neither adapter/ nor model/; a release holds one of them; download all of it"
        )
    from paczero.release.verify.release import check_served  # loads torch

    header, document, task = check_served(folder)
    return Target(
        name=str(folder),
        args=PACZeroConfig(dtype=header["base"]["dtype"], task=task or TaskConfig()),
        adapter=adapter if adapter.is_dir() else None,
        model=None if adapter.is_dir() else str(model),
        base=header["base"]["id"],
        threshold=float(document["threshold"]),
        header=header,
        states_task=task is not None,
    )


def _from_hub(name: str) -> Path | None:
    """Downloads a release or an adapter; returns None for a model, which transformers loads by its id."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    reason = "it is no hub id"
    for mark in ("privacy.json", "adapter_config.json", "config.json") if HUB_ID.fullmatch(name) else ():
        try:
            hf_hub_download(name, mark)
        except (EntryNotFoundError, HfHubHTTPError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            continue
        return None if mark == "config.json" else Path(snapshot_download(name))
    raise PACZeroError(
        f"{name!r}: there is no such directory in {str(Path.cwd())!r}, and nothing of the name can be had from the hub "
        f"({reason}); expected a run, a release, an adapter or a model"
    )
