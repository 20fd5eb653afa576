"""Finished runs written by hand with the package's own writers, without a model."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.mechanism.journal import Journal
from paczero.mechanism.registry import spec_of
from paczero.mechanism.transcript import Transcript
from paczero.release import statement
from paczero.report.summary import Summary, write_decisions, write_summary
from paczero.run_directory import RunDirectory

from ..written_runs import make_header

_SUMMARY = Summary(
    accuracy_before=0.5,
    accuracy_before_median=0.6,
    median_of="dev",
    accuracy_after=None,
    test_records=None,
    majority=0.5,
    dev_accuracy_before=0.5,
    dev_accuracy_after=None,
    unanimity=None,
    spent=0.0,
    steps=0,
    chosen_step=0,
    threshold=0.0,
    seconds=12.5,
    test_before={"accuracy": 0.5},
)


def write_run(
    path: Path,
    name: str = "zpl",
    *,
    right: Sequence[bool] | None = None,
    dev: float | None = 0.7,
    seed: int = 0,
    test: str = "the test set",
    template: str = "{text} It was {label}",
    rate: float = 0.01,
    summary: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **header: Any,
) -> Path:
    """A finished run.

    Args:
        right: which test records it decides rightly; no test set by default.
        test: instead of the hash of the test set.
        summary, config, header: changes.
    """
    run = RunDirectory(path)
    changes = {"seed": seed, "steps": 20, "schedule": {"name": "linear", "learning_rate": rate}, **header}
    made = make_header(name, **changes)
    run.private.mkdir(parents=True, mode=0o700)
    run.release.mkdir()
    Transcript.create(run.release / "transcript.jsonl", made)
    Journal.create(run.journal, {"pool": f"p{seed}", "dev": f"d{seed}"})
    rng, kind, count = np.random.default_rng([seed, made["subsets"]]), spec_of(name), made["directions"]
    # Appended as text: the package's own way has every line on disk before it returns, which takes seconds.
    with open(run.journal, "a") as journal, open(run.release / "transcript.jsonl", "a") as transcript:
        for step in range(made["steps"]):
            agreed = [bool(rng.random() < 0.9 - 0.6 * step / made["steps"])] * count
            y = [0.5 if kind.real else 1] * count
            entry = {"t": step, "y": y, "unanimous": agreed, "beta": [0.0] * count, "nonfinite": 0}
            journal.write(json.dumps(entry) + "\n")
            transcript.write(json.dumps({"t": step, "y": y}) + "\n")
    document = statement.statement(made, chosen_step=made["steps"], weights_sha256="0f" * 32, files={})
    (run.release / statement.NAME).write_bytes(statement.render(document))
    settings = {"model": made["base"]["id"], "seed": seed, "learning_rate": rate, "task": {"template": template}}
    run.config.write_text(json.dumps(settings | (config or {})))  # JSON is YAML
    whole = replace(_SUMMARY, dev_after=dev, dev_accuracy_after=dev)
    if right is not None:
        accuracy = float(np.mean(right))
        whole = replace(
            whole,
            accuracy_after=accuracy,
            test_after={"accuracy": accuracy, "loss": 0.5},
            test_records=len(right),
            test_sha256=test,
        )
        write_decisions(run, {"target": ["good"] * len(right), "decision": ["good" if one else "bad" for one in right]})
    write_summary(run, replace(whole, **(summary or {})))
    return path


def write_cell(root: Path, cell: str, rate: float, dev: list[float], right: list[bool], **more: Any) -> None:
    """A finished run for each value of `dev`, with seeds from 0."""
    for seed, value in enumerate(dev):
        write_run(root / cell / f"seed-{seed}", right=right, dev=value, seed=seed, rate=rate, **more)


def drawn(share: float, seed: int, records: int = 200) -> list[bool]:
    """Decisions, about this share of them right; the same records are hard for every seed."""
    hard = np.random.default_rng(1).random(records)
    return list(hard + 0.1 * np.random.default_rng([2, seed]).standard_normal(records) < share)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Path]:
    """`sweep({cell: {…}, …}, seeds=[0, 1])`: a sweep's directory; cells as `write_run` has them, or a `share`."""

    def make(cells: dict[str, dict[str, Any]], seeds: Sequence[int] = (0, 1, 2), name: str = "sweep") -> Path:
        for cell, given in cells.items():
            settings = dict(given)
            share = settings.pop("share", None)
            for seed in settings.pop("seeds", seeds):
                right = settings.get("right", None if share is None else drawn(share, seed))
                write_run(tmp_path / name / cell / f"seed-{seed}", seed=seed, **{**settings, "right": right})
        return tmp_path / name

    return make
