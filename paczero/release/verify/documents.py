"""Whether what is written beside the weights says what the header says: model card, task, PEFT's settings.

>>> check_task(release), check_card(release, header, document)      # doctest: +SKIP

The card is made again from header, statement and task, and compared line by line; what it says of the development set
follows from nothing else in the release, so it is held to the form that a run writes. Figures are drawn again where the
drawing library here gives the bytes that it gave there.
"""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paczero.config import TaskConfig
from paczero.data.metrics import METRICS
from paczero.errors import IntegrityError
from paczero.mechanism.transcript import Transcript
from paczero.release import task_file
from paczero.release.model_card import CARD, FIGURES, card, public_figures
from paczero.release.plots import Development
from paczero.utils.io import canonical

_CONFIG = "adapter/adapter_config.json"

# Keys that no setting decides; they are looked at by themselves.
_OWN = frozenset({"base_model_name_or_path", "inference_mode", "task_type", "peft_version", "revision", "auto_mapping"})

_SECTION = re.compile(r"^## (?P<title>[^\n]+) on the development set\n.*?(?=^## |^Trained with )", re.M | re.S)

_ROW = r"\| (?:served \(step {step}\)|untuned|untuned, decision moved to the median score) \| [-0-9.,]+(?: %)? \|\n"

_USES = "(?:the served step|the threshold|the served step and the threshold)"


def check_task(release: Path) -> TaskConfig | None:
    """The task, once its file is known to be as a run writes it; None where the release has none.

    Raises:
        IntegrityError: it is not.
    """
    task = task_file.read(release)
    path = release / task_file.NAME
    if task is not None and path.read_bytes() != task_file.render(task):
        raise IntegrityError(f"{path}: is not as a run writes it (a key, its order or the white space differs)")
    return task


def check_adapter_config(release: Path, header: Mapping[str, Any]) -> None:
    """That PEFT would load what the header describes, on the base that it names, and nothing of its own.

    Raises:
        IntegrityError: the settings differ.
    """
    from paczero.models.adapters import (
        peft_config_from,
        peft_settings,
    )

    path = release / _CONFIG
    content = read_object(path)
    if path.read_bytes() != (json.dumps(content, indent=2, sort_keys=True) + "\n").encode():
        raise IntegrityError(f"{path}: is not as a run writes it (a key, its order or the white space differs)")
    if content.get("base_model_name_or_path") != header["base"]["id"]:
        raise IntegrityError(f"{path}: names another base model than the transcript, {header['base']['id']!r}")
    if content.get("auto_mapping") is not None:
        raise IntegrityError(f"{path}: auto_mapping names code to be loaded; a release has none")
    if content.get("revision") is not None or content.get("inference_mode") is not True:
        raise IntegrityError(f"{path}: revision or inference_mode is not as a run writes it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT thinks of settings that differ is said below
            expected = peft_config_from(header["peft"])
            stated = peft_settings(expected)
    except (ValueError, TypeError, AttributeError) as error:  # PACZeroError, or what PEFT makes of a wrong type
        raise IntegrityError(f"transcript.jsonl: peft in its header is none of PEFT's: {_short(str(error))}") from error
    if canonical(stated) != canonical(header["peft"]):
        raise IntegrityError("transcript.jsonl: peft in its header is not as a run writes it")
    for key in sorted(content.keys() - _OWN):
        if not hasattr(expected, key):
            raise IntegrityError(f"{path}: {key!r} is no key that PEFT knows here; a newer one may")
        follows = _plain(getattr(expected, key))
        if json.dumps(content[key]) != json.dumps(follows):
            raise IntegrityError(f"{path}: {key} is {_short(str(content[key]))}, but the header makes it {follows!r}")


def check_card(release: Path, header: Mapping[str, Any], document: Mapping[str, Any], task: TaskConfig | None) -> None:
    """That the model card says what follows from the rest of the release.

    Raises:
        IntegrityError: names the first line that differs.
    """
    path = release / CARD
    try:
        found = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: cannot be read as text: {' '.join(str(error).split())}") from error
    pictures = tuple(
        name for name in ("released.png", "posterior.png", "development.png") if (release / FIGURES / name).exists()
    )
    section = _SECTION.search(found)
    metric = "accuracy" if section is None else _metric(section["title"], path)
    expected = card(
        header,
        chosen_step=document["chosen_step"],
        weights_sha256=document["weights_sha256"],
        threshold=document["threshold"],
        folder="adapter" if (release / "adapter").is_dir() else "model",
        pictures=pictures,
        development=None if section is None else Development(metric=metric),
        task=task,
    )
    if section is not None:
        _check_section(section[0], metric, document["chosen_step"], path)
        found = found[: section.start()] + found[section.end() :]
    _compare(found, expected, path)


def check_figures(release: Path, transcript: Transcript) -> bool:
    """That the figures show this transcript, where they can be drawn again.

    Another version of the drawing library gives other bytes. Whether it is another shows `posterior.png`, which is a
    function of the header alone: only where that comes out the same is `released.png` compared.

    Returns:
        Whether they were compared.

    Raises:
        IntegrityError: `released.png` shows other values.
    """
    drawn = public_figures(transcript, None, None)
    folder = release / FIGURES
    if "posterior.png" not in drawn or not (folder / "posterior.png").exists():
        return False
    if (folder / "posterior.png").read_bytes() != drawn["posterior.png"]:
        return False
    for name, data in drawn.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != data:
            raise IntegrityError(f"{folder / name}: does not show the transcript's values; restore it")
    return True


def _metric(title: str, path: Path) -> str:
    for name, metric in METRICS.items():
        if title == metric.title[0].upper() + metric.title[1:]:
            return name
    raise IntegrityError(f"{path}: {title!r} is no figure that a run measures on a development set")


def _check_section(text: str, metric: str, chosen_step: int, path: Path) -> None:
    title = re.escape(METRICS[metric].title)
    form = (
        rf"## {re.escape(METRICS[metric].title[0].upper() + METRICS[metric].title[1:])} on the development set\n\n"
        rf"The records of this set are \*\*not protected\*\*(?:; it decided {_USES})?\.\n\n"
        rf"\| model \| {title}(?: \(\d+ records\))? \|\n\|---\|---\|\n"
        rf"(?:{_ROW.format(step=chosen_step)}){{0,3}}\n*"
    )
    if not re.fullmatch(form, text):
        raise IntegrityError(f"{path}: what it says of the development set is not in the form that a run writes")


def _compare(found: str, expected: str, path: Path) -> None:
    if found == expected:
        return
    ours, theirs = expected.split("\n"), found.split("\n")
    for number, (own, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if own != other:
            raise IntegrityError(
                f"{path}: {_short(other)} stands where {_short(own)} follows from header and statement "
                f"(line {number}, counted without the development set)"
            )
    raise IntegrityError(f"{path}: has {len(theirs)} lines; {len(ours)} follow from the header and the statement")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")


def _plain(value: Any) -> Any:
    """A setting of PEFT's as a run writes it: words instead of members, names in order instead of sets."""
    value = getattr(value, "value", value)
    if isinstance(value, list | set | tuple):
        return sorted(value) if all(isinstance(item, str) for item in value) else list(value)
    return value


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a release, no key twice, no NaN.

    Raises:
        IntegrityError: it is none.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) != len(pairs):
            raise ValueError("a key stands twice")
        return content

    def never(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=once, parse_constant=never)
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{path}: is no JSON object; restore it")
    return content
