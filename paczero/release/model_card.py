"""The model card, and the table of a run's public settings.

The card is a function of the transcript's header, the facts in `privacy.json` and the task, so `paczero verify` makes
it again and compares.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from paczero.config import TaskConfig
from paczero.data.metrics import METRICS
from paczero.mechanism.registry import spec_of
from paczero.release import task_file, wording
from paczero.release.guarantee import verdict
from paczero.release.wording.labels import delta_in_words

CARD = "README.md"

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def card(
    header: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    folder: str,
    pictures: tuple[str, ...] = (),
    task: TaskConfig | None = None,
    version: int = wording.NEWEST,
) -> str:
    """The model card in Markdown with YAML front matter.

    Args:
        header: the transcript's.
        facts: of the statement: `chosen_step`, `weights_sha256`, `threshold` and `development`; also `steps_sha256`
            and `license` where there are any.
        folder: the one with the weights, `adapter` or `model`.
        pictures: names of the files in `figures/`.
        task: prompt and label words.
        version: the wording.
    """
    development = facts["development"]
    return wording.card(
        header,
        version,
        front=_front_matter(header, folder),
        title={"kept": "PACZero", "nothing": "no privacy", "void": "VOID"}[verdict(header)],
        threshold=None if header["threshold"] == "none" else facts["threshold"],
        settings=settings(header, version),
        chosen_step=facts["chosen_step"],
        weights=facts["weights_sha256"],
        steps=facts.get("steps_sha256"),
        license=facts.get("license"),
        folder=folder,
        pictures=pictures,
        dev=development,
        metric=METRICS["accuracy" if development is None else development["metric"]],
        task=task,
        task_json=task and task_file.render(task).decode().rstrip(),
    )


def _front_matter(header: Mapping[str, Any], folder: str) -> str:
    """Hub metadata. A base model that is a local directory is no hub id and is left out."""
    base = header["base"]["id"]
    matter: dict[str, Any] = {}
    if isinstance(base, str) and HUB_ID.fullmatch(base):
        matter |= {"base_model": base, "base_model_relation": "adapter" if folder == "adapter" else "finetune"}
    matter |= {
        "library_name": "peft" if folder == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["paczero", "pac-privacy", "zeroth-order", header["mechanism"]["name"]],
    }
    return str(yaml.safe_dump(matter, sort_keys=False, allow_unicode=True))


def settings(header: Mapping[str, Any], version: int = wording.NEWEST) -> list[tuple[str, str]]:
    """Name and value of each public setting of a run, for a table.

    Every wording has these rows, so a released one must not change.
    """
    mechanism, schedule, spec = header["mechanism"], header["schedule"], spec_of(header["mechanism"]["name"])
    rows = [
        ("Base model", f"{header['base']['id']} ({header['base']['dtype']})"),
        ("Trained part", _trained(header, header.get("peft"))),
        ("Mechanism", wording.mechanism_line(header, version)),
        ("Pool N", f"{header['units']:,} units"),
        ("Candidates M, family", f"{header['subsets']:,}, {header['family']}"),
        ("Budget B", "none" if header["budget"] is None else f"{header['budget']:g} nats"),
        ("Pilot directions", str(header.get("pilots") or "none")),
        ("Units a step", f"{header['units_per_step']:,}" if header.get("units_per_step") else "the whole pool"),
        ("Clip c", "none" if mechanism.get("clip") is None else f"{mechanism['clip']:g}"),
        ("Steps T, directions K", f"{header['steps']:,}, {header['directions']:,}"),
        ("Learning rate", f"{schedule['learning_rate']:g}, {schedule['name']}"),
        ("Half distance μ", f"{header['mu']:g}"),
        ("Directions", f"{header['direction_law']}, public seed {header['seed']}"),
        ("Restore", str(header["restore"])),
        ("Average of iterates", f"{header['average']:g}" if header["average"] else "none: one iterate is served"),
        ("Decision threshold", str(header["threshold"])),
    ]
    if version > 1 and spec.hides == "half" and "secret_id" in header:
        prior = " + ".join(f"{nats:g}" for nats in header["prior_budgets"])
        rows.insert(6, ("Secret half", f"secret_id {header['secret_id']}"))
        rows.insert(7, ("Budgets of earlier runs on it", f"{prior} nats" if prior else "none"))
    if spec.has_budget:
        rows.insert(6, ("Allocation", str(mechanism.get("allocation"))))
    if spec.is_dp:
        sampling = mechanism["sampling"]
        rows[4:7] = [
            ("ε, δ", f"{mechanism['epsilon']:g}, {delta_in_words(header)}; {_ADJACENCY[version > 1]}"),
            noise(header),
            *([("Share ρ of a unit", f"{mechanism['rho']:g}; none contributes more")] if "rho" in mechanism else []),
            ("Sampling", "the whole pool" if sampling == 1 else f"Poisson, rate {sampling:g}"),
        ]
    return rows


_ADJACENCY = ("one unit is added or removed", "one unit's derivatives become 0")


def noise(header: Mapping[str, Any]) -> tuple[str, str]:
    """Name and value of a differentially private run's noise."""
    mechanism = header["mechanism"]
    if "eps0" in mechanism:
        return "Log-odds ε₀", f"{mechanism['eps0']:g} a clip"
    return "Noise σ", f"{mechanism['sigma']:g}, in units of the clip"


def _trained(header: Mapping[str, Any], peft: Mapping[str, Any] | None) -> str:
    count = sum(math.prod(shape) for _, _, shape in header["parameters"])
    kind = "full tuning" if peft is None else str(peft.get("peft_type", "PEFT"))
    parts = [f"{count:,} parameters in {len(header['parameters'])} tensors, {kind}"]
    if header.get("train_layers") is not None:
        parts.append("layers " + ", ".join(map(str, header["train_layers"])))
    for key in ("r", "lora_alpha", "target_modules", "layers_to_transform"):
        value = (peft or {}).get(key)
        if value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            parts.append(f"{key} {shown}")
    return "; ".join(parts)


def without_license(data: bytes) -> bytes:
    """A card as it was released, without the license that its owner added to the front matter later.

    The card requests that line, and the Hub reads it. It makes no statement on privacy, so it may be added to a sealed
    release, beside the comment that requests it or instead of the comment.

    >>> without_license(b"---\\nlibrary_name: peft\\nlicense: mit\\n---\\n# Title\\n").splitlines()[:3]
    [b'---', b'library_name: peft', b"# license: yours to add; it must agree with the base model's"]
    """
    front, end, rest = data.partition(b"\n---\n")
    lines = front.split(b"\n")
    kept = [line for line in lines if not re.fullmatch(rb"license(_name|_link)?: [A-Za-z0-9][\w.:/-]*", line)]
    if len(kept) < len(lines) and not any(line.startswith(b"# license: ") for line in kept):
        kept.append(b"# license: yours to add; it must agree with the base model's")
    return b"\n".join(kept) + end + rest
