"""Checks model card, task and PEFT's settings against header and statement.

The card is rendered again from header, statement and task, in the wording that the release names, and compared.
"""

import json
import re
import warnings
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from paczero.config import TaskConfig
from paczero.data.metrics import METRICS
from paczero.errors import IntegrityError
from paczero.models.adapters import peft_config_from, peft_settings
from paczero.release import task_file, wording
from paczero.release.model_card import CARD, card, without_license
from paczero.release.statement import wording_of
from paczero.release.verify.header import shown
from paczero.utils.io import canonical, read_object

_CONFIG = "adapter/adapter_config.json"

# Settings that change no weight; PEFT corrects the last one to the type of layer that it finds.
_FREE = frozenset({"task_type", "peft_version", "fan_in_fan_out"})

_PICTURES = ("released.png", "posterior.png", "development.png")

_USES = ("the served step", "the threshold")


def check_task(release: Path) -> TaskConfig | None:
    """The task in `task.json`; None if the release has no such file.

    Raises:
        IntegrityError: the file is not as a run writes it.
    """
    task = task_file.read(release)
    path = release / task_file.NAME
    if task is not None and path.read_bytes() != task_file.render(task):
        raise IntegrityError(f"{path}: is not as a run writes it (a key, its order or the white space differs)")
    return task


def check_adapter_config(release: Path, header: Mapping[str, Any]) -> None:
    """Checks that PEFT would load the adapter that the header describes, on its base, and no code.

    Raises:
        IntegrityError: the settings differ.
    """
    path = release / _CONFIG
    content = read_object(path)
    if path.read_bytes() != (json.dumps(content, indent=2, sort_keys=True) + "\n").encode():
        raise IntegrityError(f"{path}: is not as a run writes it (a key, its order or the white space differs)")
    if type(content.get("fan_in_fan_out")) is not bool:
        raise IntegrityError(f"{path}: fan_in_fan_out is not as a run writes it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT warns of settings that differ; they are refused below
            expected = peft_config_from(header["peft"])
            stated = canonical(peft_settings(expected))
            default = type(expected)()
    except (ValueError, TypeError, AttributeError) as error:  # PACZeroError, or PEFT's own for a wrong type
        raise IntegrityError(f"transcript.jsonl: peft in its header is none of PEFT's: {shown(str(error))}") from error
    if stated != canonical(header["peft"]):
        raise IntegrityError("transcript.jsonl: peft in its header is not as a run writes it")
    known = set(default.to_dict())  # what PEFT writes of its settings
    if unknown := sorted(content.keys() - known - _FREE):
        raise IntegrityError(f"{path}: {unknown[0]!r} is no key that PEFT knows here; a newer one may")
    of_release = {"base_model_name_or_path": header["base"]["id"], "inference_mode": True}
    of_release |= {"revision": None, "auto_mapping": None}  # the second names code to be loaded
    for key in sorted(known - _FREE):
        found = content[key] if key in content else _plain(getattr(default, key))  # PEFT takes its default
        follows = of_release[key] if key in of_release else _plain(getattr(expected, key))
        if key == "target_modules" and follows in (None, "all-linear"):
            follows = _trained_modules(header)
        if json.dumps(found) != json.dumps(follows):
            raise IntegrityError(f"{path}: {key} is {shown(found)}, but the header makes it {follows!r}")


def _trained_modules(header: Mapping[str, Any]) -> list[str]:
    """The modules that PEFT chose where the header leaves the choice to PEFT: those with trained tensors."""
    names = (name.partition(".lora_")[0] for name, _, _ in header["parameters"] if ".lora_" in name)
    return sorted({name.rpartition(".")[2] for name in names})


def check_card(
    release: Path, header: Mapping[str, Any], document: Mapping[str, Any], task: TaskConfig | None
) -> str | None:
    """Compares the model card with the card that follows from the rest of the release.

    Returns:
        None, or the reason why it was not compared: its wording is not known here.

    Raises:
        IntegrityError: a line differs; the message names the first one.
    """
    path, version = release / CARD, wording_of(document, release)
    _check_development(document.get("development"))
    if version is None:
        return "the sentences are from before wording 1"
    if version not in wording.VERSIONS:
        return f"wording {version} is newer than those that are known here ({wording.NEWEST} at most)"
    try:
        data = path.read_bytes()
        found = (data if document.get("license") is not None else without_license(data)).decode()
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: cannot be read as text: {' '.join(str(error).split())}") from error
    facts = {**document, "development": _development(found)} if version == 1 else document
    if version == 1 and task is not None:
        _check_white_space(task, release)
    _compare(found, expected_card(release, header, facts, task, version), path)
    return None


def _check_white_space(task: TaskConfig, release: Path) -> None:
    """Refuses a task that a card of wording 1 does not show as it is: that card makes any white space one space.

    Raises:
        IntegrityError: the prompt or a label has other white space, so nothing in the release confirms it.
    """
    for text in (task.template, *task.labels.keys(), *task.labels.values()):
        if text != " ".join(text.split()):
            raise IntegrityError(
                f"{release / task_file.NAME}: {shown(text)} has white space that a card of wording 1 cannot show, so "
                "nothing here confirms it; expected single spaces"
            )


def expected_card(
    release: Path,
    header: Mapping[str, Any],
    facts: Mapping[str, Any],
    task: TaskConfig | None,
    version: int = wording.NEWEST,
) -> str:
    """The model card that follows from header, statement and task."""
    return card(
        header,
        facts,
        folder="adapter" if (release / "adapter").is_dir() else "model",
        pictures=tuple(name for name in _PICTURES if f"figures/{name}" in facts["files"]),
        task=task,
        version=version,
    )


def _check_development(stated: Any) -> None:
    """Checks the types of the metrics on the development set; nothing else in a release determines their values."""
    if stated is None:
        return
    numbers = ("served", "untuned", "untuned_median")
    fine = (
        isinstance(stated, dict)
        and stated.keys() == {"metric", "records", "used_for", *numbers}
        and stated["metric"] in list(METRICS)
        and type(stated["records"]) in (int, type(None))
        and isinstance(stated["used_for"], list)
        and set(map(str, stated["used_for"])) <= set(_USES)
        and all(type(stated[name]) in (float, type(None)) for name in numbers)
    )
    if not fine:
        raise IntegrityError("privacy.json: development is not in the form that a run writes")


# The section on the development set in a card of wording 1; `privacy.json` of version 1 does not state its content.
_SECTION = re.compile(
    r"## (?P<title>[^\n]+) on the development set\n\n"
    rf"The records of this set are \*\*not protected\*\*(?:; it decided "
    rf"(?P<uses>{' and '.join(_USES)}|{'|'.join(_USES)}))?\.\n\n"
    r"\| model \|[^\n(]+(?:\((?P<records>[0-9]{1,9}) records\) )?\|\n\|---\|---\|\n(?P<rows>(?:\|[^\n]+\n)*)"
)

_ROWS = {
    "served": r"served \(step \d+\)",
    "untuned": "untuned",
    "untuned_median": "untuned, decision moved to the median score",
}


def _development(text: str) -> dict[str, Any] | None:
    section = _SECTION.search(text)
    metrics = [m for m in METRICS.values() if section and section["title"].lower() == m.title.lower()]
    if section is None or not metrics:
        return None
    (metric,) = metrics
    found = {
        name: re.search(rf"^\| {row} \| (-?[0-9]+(?:\.[0-9]+)?) ", section["rows"], re.M) for name, row in _ROWS.items()
    }
    scale = 100 if metric.share else 1
    return {
        "metric": metric.name,
        "records": int(section["records"]) if section["records"] else None,
        "used_for": section["uses"].split(" and ") if section["uses"] else [],
        **{name: float(row[1]) / scale if row else None for name, row in found.items()},
    }


def _compare(found: str, expected: str, path: Path) -> None:
    if found == expected:
        return
    ours, theirs = expected.split("\n"), found.split("\n")
    for number, (own, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if own != other:
            same = next(index for index, (a, b) in enumerate(zip_longest(own, other)) if a != b)
            start = max(0, same - 20)
            raise IntegrityError(
                f"{path}: {shown(other[start:])} stands where {shown(own[start:])} follows from header "
                f"and statement (line {number})"
            )
    raise IntegrityError(f"{path}: has {len(theirs)} lines; {len(ours)} follow from the header and the statement")


def _plain(value: Any) -> Any:
    """A setting of PEFT as a run writes it: values instead of enum members, sorted names instead of sets."""
    value = getattr(value, "value", value)
    if isinstance(value, list | set | tuple):
        return sorted(value) if all(isinstance(item, str) for item in value) else list(value)
    return value
