"""Runs without a model, for the tests of the exact audit: the real mechanisms, journal, transcript and statement.

Derivatives are random and share a drift, so some releases are unanimous and others contested. They depend on earlier
releases, as those of a model do.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from paczero.audit.journal.result import ExactAudit
from paczero.mechanism.journal import Journal
from paczero.mechanism.randomness import Coins, RandomStreams
from paczero.mechanism.registry import spec_of
from paczero.mechanism.secret import create_secret
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.release.statement import render, statement
from paczero.utils.io import canonical

CLIP = 3.0
# Settings of differentially private mechanisms.
DP = {"epsilon": 2.0, "delta": 1e-3, "sampling": 1.0, "sigma": 20.0, "posterior_success": 0.6}
SIGNS = {key: value for key, value in DP.items() if key != "sigma"} | {"eps0": 0.05}


def make_run(
    run: Path,
    name: str = "mi",
    *,
    steps: int = 24,
    directions: int = 1,
    subsets: int = 8,
    units: int = 40,
    budget: float = 0.3,
    until: int | None = None,
    seed: int = 0,
    drift: float = 0.5,
    settings: dict[str, Any] | None = None,
    alter: Callable[[Any], None] = lambda mechanism: None,
) -> Path:
    """A run directory as training leaves it, without the weights.

    Args:
        until: number of steps of an unfinished run; a run of all `steps` is finished.
        drift: size of the part of a derivative that all units share; a smaller one makes more steps contested.
        settings: of the mechanism: channel, allocation; epsilon, delta, sampling, sigma, eps0, posterior_success.
        alter: breaks the mechanism before it runs.
    """
    chosen = {"clip": CLIP, "name": name} | (settings or {})
    if name == "mi":
        chosen = {"channel": "bit", "allocation": "adaptive"} | chosen
    private = run / "private"
    private.mkdir(parents=True)
    secret = private / "secret.json"
    create_secret(secret, subsets=subsets, test_seed=seed)
    membership = draw_subsets(units, subsets, seed=seed)
    if spec_of(name).candidates:
        np.savez(private / "candidates.npz", packed=np.packbits(membership, axis=1), subsets=subsets)
    header = {
        "format": "paczero-transcript/1",
        "base": {"id": "none", "sha256": "ab"},
        "mechanism": chosen,
        "subsets": subsets,
        "family": "random",
        "budget": spec_of(name).budget(budget),
        "steps": steps,
        "directions": directions,
        "units": units,
        "threshold": "none",
        "test_seed": None,
        "secret_id": "1f" * 16,
        "prior_budgets": [],
    }
    journal = Journal.create(
        private / "journal.jsonl",
        {
            "base": header["base"]["sha256"],
            "candidates": hashlib.sha256(np.packbits(membership).tobytes()).hexdigest()
            if spec_of(name).candidates
            else None,
            "transcript": hashlib.sha256(canonical(header)).hexdigest(),
        },
    )
    transcript = Transcript.create(private / "transcript.jsonl", header)
    mechanism = spec_of(name).build(
        membership=membership,
        secret=secret,
        units=len(membership),
        coins=Coins(seed + 1),
        rng=RandomStreams(test_seed=seed),
        clip=CLIP,
        budget=budget,
        steps=steps,
        directions=directions,
        sampling_prob=chosen.get("sampling"),
        **{key: chosen.get(key) for key in ("channel", "allocation", "sigma", "eps0", "rho")},
    )
    alter(mechanism)
    _train(mechanism, journal, transcript, steps if until is None else until, seed=seed, drift=drift, units=units)
    (run / "config.yaml").write_text(yaml.safe_dump(_settings(header)))
    if until is None:
        (run / "release").mkdir()
        shutil.copy(private / "transcript.jsonl", run / "release")
        document = statement(header, chosen_step=steps, weights_sha256="cd", files={}, steps_run=steps)
        (run / "release/privacy.json").write_bytes(render(document))
    return run


def _train(
    mechanism: Any, journal: Journal, transcript: Transcript, steps: int, *, seed: int, drift: float, units: int
) -> None:
    """Releases the steps; the derivatives depend on the number of positive values released before."""
    positive = 0
    for step in range(steps):
        rng = np.random.default_rng([seed, step, positive])
        shape = units, mechanism.directions
        derivatives = rng.standard_normal(shape) + rng.standard_normal(mechanism.directions) * drift
        rows = mechanism.sample(step)
        made = mechanism.release(step, derivatives if rows is None else derivatives[rows], unit_indices=rows)
        journal.append(made.to_journal())
        transcript.append(step, made.y)
        positive += sum(value > 0 for value in made.y)


def _settings(header: dict[str, Any]) -> dict[str, Any]:
    """The part of config.yaml that the audit reads."""
    mechanism = header["mechanism"] | {key: header[key] for key in ("subsets", "family")}
    if mechanism["name"] == "mi":
        mechanism["budget"] = header["budget"]
    return {"mechanism": mechanism, "max_steps": header["steps"]} | {
        key: header[key] for key in ("directions", "test_seed")
    }


def rewrite(run: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Changes the steps of a journal and renews its chain and the transcripts, as a forger would."""
    path = run / "private/journal.jsonl"
    header, *entries = [json.loads(line) for line in path.read_text().splitlines()]
    change(entries)
    lines, chain = [], ""
    for content in (header, *entries):
        content.pop("chain", None)
        chain = hashlib.sha256(chain.encode() + canonical(content)).hexdigest()
        lines.append(canonical(content | {"chain": chain}))
    path.write_bytes(b"\n".join(lines) + b"\n")
    for path in (run / "private/transcript.jsonl", run / "release/transcript.jsonl"):
        if path.is_file():
            steps = [canonical({"t": entry["t"], "y": entry["y"]}) for entry in entries]
            path.write_bytes(b"\n".join([path.read_bytes().split(b"\n")[0], *steps]) + b"\n")


def steps_of(run: Path) -> list[dict[str, Any]]:
    """The steps of a run's journal."""
    return [json.loads(line) for line in (run / "private/journal.jsonl").read_text().splitlines()[1:]]


def contested(run: Path, number: int = 3) -> int:
    """The step of a contested release, counted from 0."""
    return [step["t"] for step in steps_of(run) if not step["unanimous"][0]][number]


def change(run: Path, step: int, key: str, new: Callable[[Any], Any]) -> None:
    """Replaces a value of one step by `new(value)`, and renews the chain."""
    rewrite(run, lambda steps: steps[step][key].__setitem__(0, new(steps[step][key][0])))


def found(audit: ExactAudit) -> set[tuple[int | None, str]]:
    """Step and kind of each finding."""
    return {(finding.step, finding.what) for finding in audit.findings}
