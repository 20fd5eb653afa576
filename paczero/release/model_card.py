"""The model card, and the last act of a run: everything that a release still lacks is written into its staging folder.

>>> publish(run.staging, header, chosen_step=300, weights_sha256=weights.fingerprint())["posterior_success"]
0.5

`publish` finds `transcript.jsonl` and `adapter/` or `model/` there, adds `figures/`, `task.json`, `README.md` and, when
all else is on disk, `privacy.json`, which holds the hash of every other file. It may be called again after a kill: the
same inputs give the same bytes. It reads nothing of the run's private part.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paczero.config import TaskConfig
from paczero.data.metrics import METRICS
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.release import guarantee, statement, task_file
from paczero.release import plots as figures
from paczero.release.plots import Development
from paczero.release.wording import DESCRIBED, delta_in_words, three_sentences
from paczero.utils.io import write_whole
from paczero.utils.templates import template

CARD, FIGURES = "README.md", "figures"

_EXPECTED = frozenset({"transcript.jsonl", "adapter", "model", CARD, FIGURES, task_file.NAME, statement.NAME})

_HALF_WRITTEN = re.compile(rf"\.({'|'.join(map(re.escape, (CARD, task_file.NAME, statement.NAME)))})\.\d+")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def publish(
    staging: Path,
    header: Mapping[str, Any],
    *,
    chosen_step: int,
    weights_sha256: str,
    threshold: float = 0.0,
    development: Development | None = None,
    task: TaskConfig | None = None,
) -> dict[str, Any]:
    """Completes a staged release: figures, model card, then the sealed statement over all its files.

    Args:
        staging: holds `transcript.jsonl` and `adapter/` or `model/`.
        header: the transcript's header, of which everything said here is a function.
        chosen_step: updates that the served weights have had.
        weights_sha256: their fingerprint.
        threshold: where the served binary decision lies, as a difference of scores; 0.0 where it was not moved.
        development: the development set's figures, where there was one.
        task: prompt and label words, for the card and `task.json`.

    Returns:
        The statement, as written to `privacy.json`.

    Raises:
        IntegrityError: the transcript is another run's, or the folder holds something that no release holds.
        PACZeroError: the weights are missing, or the step is out of range.
    """
    transcript = Transcript.read(staging / "transcript.jsonl")
    if statement.canonical(transcript.header) != statement.canonical(header):
        raise IntegrityError(f"{staging / 'transcript.jsonl'}: its header is another run's")
    development = development and development.completed(header)
    _tidy(staging)
    pictures = public_figures(transcript, development, chosen_step)
    (staging / FIGURES).mkdir()
    for name, png in pictures.items():
        write_whole(staging / FIGURES / name, png)
    if task is not None:
        task_file.write(staging, task)
    write_whole(
        staging / CARD,
        card(
            transcript.header,
            chosen_step=chosen_step,
            weights_sha256=weights_sha256,
            threshold=threshold,
            folder="adapter" if (staging / "adapter").is_dir() else "model",
            pictures=tuple(pictures),
            development=development,
            task=task,
        ),
    )
    files = {name: statement.file_hash(staging / name) for name in statement.released_files(staging)}
    document = statement.statement(
        transcript.header,
        chosen_step=chosen_step,
        weights_sha256=weights_sha256,
        files=files,
        steps_run=len(transcript.y),
        threshold=threshold,
    )
    write_whole(staging / statement.NAME, statement.render(document))
    return document


def _tidy(staging: Path) -> None:
    """Removes what an earlier, killed call left; refuses what is no part of a release before it can get into one."""
    (staging / statement.NAME).unlink(missing_ok=True)  # first: it must never stand beside files that it does not hash
    for path in sorted(staging.iterdir()):
        if _HALF_WRITTEN.fullmatch(path.name):
            path.unlink()
        elif path.name not in _EXPECTED:
            raise IntegrityError(f"{path}: is no part of a release; move it away, then publish again")
    if not any((staging / folder).is_dir() for folder in ("adapter", "model")):
        raise PACZeroError(f"{staging}: neither adapter/ nor model/ is there; save the weights first")
    shutil.rmtree(staging / FIGURES, ignore_errors=True)


def public_figures(
    transcript: Transcript, development: Development | None, chosen_step: int | None
) -> dict[str, bytes]:
    """File name -> PNG of each figure that a release may hold."""
    header, pictures = transcript.header, {}
    if transcript.y:
        pictures["released.png"] = figures.released(transcript.y, header)
    if guarantee.kind_of(header).hides == "half":
        pictures["posterior.png"] = figures.posterior(header)
    if development is not None and development.steps:
        pictures["development.png"] = figures.development(development, header, chosen_step)
    return pictures


def card(
    header: Mapping[str, Any],
    *,
    chosen_step: int,
    weights_sha256: str,
    folder: str,
    threshold: float = 0.0,
    pictures: tuple[str, ...] = (),
    development: Development | None = None,
    task: TaskConfig | None = None,
) -> str:
    """The model card in Markdown with YAML front matter.

    Args:
        header, chosen_step, weights_sha256, threshold, development, task: as in `publish`.
        folder: `adapter` or `model`, whichever holds the weights.
        pictures: names of the files in `figures/`.
    """
    verdict = guarantee.verdict(header)
    return template("card.md.j2", Path(__file__).parent / "templates", code=code, literal=json.dumps).render(
        front=_front_matter(header, folder),
        title={"kept": "PACZero", "nothing": "no privacy", "void": "VOID"}[verdict],
        verdict=verdict,
        kind=guarantee.kind_of(header),
        brief=three_sentences(header),
        promise=statement.promise(header).strip(),
        not_promised=statement.not_promised(header),
        p=guarantee.rounded_up(guarantee.success(header)),
        epsilon=None if verdict != "kept" else guarantee.rounded_up(guarantee.epsilon(header) or 0.0),
        header=header,
        threshold=None if header["threshold"] == "none" else threshold,
        settings=settings(header),
        chosen_step=chosen_step,
        weights=weights_sha256,
        folder=folder,
        pictures=pictures,
        dev=development,
        metric=METRICS["accuracy" if development is None else development.metric],
        served=_served(development, chosen_step),
        task=task,
    )


def _served(development: Development | None, chosen_step: int) -> float | None:
    if development is None or chosen_step not in development.steps:
        return None
    return development.values[development.steps.index(chosen_step)]


def _front_matter(header: Mapping[str, Any], folder: str) -> str:
    """Hub metadata. A base model that is a local directory is no hub id and is left out."""
    base = header["base"]["id"]
    matter: dict[str, Any] = {}
    if isinstance(base, str) and _HUB_ID.fullmatch(base):
        matter |= {"base_model": base, "base_model_relation": "adapter" if folder == "adapter" else "finetune"}
    matter |= {
        "library_name": "peft" if folder == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["paczero", "pac-privacy", "zeroth-order", guarantee.mechanism_name(header)],
    }
    return str(yaml.safe_dump(matter, sort_keys=False, allow_unicode=True))


def settings(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each public setting of a run, for a table."""
    mechanism, schedule, peft = header["mechanism"], header["schedule"], header.get("peft")
    spec = guarantee.kind_of(header)
    rows = [
        ("Base model", f"{header['base']['id']} ({header['base']['dtype']})"),
        ("Trained part", _trained(header, peft)),
        ("Mechanism", DESCRIBED[spec.name].format(channel=mechanism.get("channel"))),
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
    if spec.has_budget:
        rows.insert(6, ("Allocation", str(mechanism.get("allocation"))))
    if spec.is_dp:
        rows[4:7] = [
            ("ε, δ", f"{mechanism['epsilon']:g}, {delta_in_words(header)}; one unit is added or removed"),
            ("Noise σ", f"{mechanism['sigma']:g}, in units of the clip"),
            (
                "Sampling",
                "the whole pool" if mechanism["sampling"] == 1 else f"Poisson, rate {mechanism['sampling']:g}",
            ),
        ]
    return rows


def _trained(header: Mapping[str, Any], peft: Mapping[str, Any] | None) -> str:
    count = 0
    for _, _, shape in header["parameters"]:
        size = 1
        for length in shape:
            size *= length
        count += size
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


def code(value: object) -> str:
    """A text as inline code that Markdown, its tables and HTML leave alone."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    edge = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{edge}{text}{edge}{fence}"
