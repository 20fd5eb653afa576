"""Runs without a model, for the tests of the exact audit: the real mechanisms, journal, transcript and statement.

Derivatives are random and share a drift, so that some releases are unanimous and others contested; they depend on what
was released before, as those of a model do.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from paczero.mechanism.journal import Journal
from paczero.mechanism.randomness import Coins, RandomStreams
from paczero.mechanism.registry import spec_of
from paczero.mechanism.secret import create_secret
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.release.statement import render, statement
from paczero.utils.io import canonical

CLIP = 3.0


def make_run(
    place: Path,
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
    """A run directory as training leaves it, but for the weights.

    Args:
        until: how many steps run, where fewer than `steps`; the run is then not finished.
        drift: how much of a derivative all units share; less, and more steps are contested.
        settings: of the mechanism: channel, allocation; epsilon, delta, sampling, sigma.
        alter: breaks the mechanism before it runs.
    """
    chosen = {"clip": CLIP, "name": name} | (settings or {})
    if name == "mi":
        chosen = {"channel": "bit", "allocation": "adaptive"} | chosen
    private, release = place / "private", place / "release"
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
    }
    journal = Journal.create(private / "journal.jsonl", journal_header(header, membership))
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
        **{key: chosen.get(key) for key in ("channel", "allocation", "sigma")},
    )
    alter(mechanism)
    ups = 0
    for step in range(steps if until is None else until):
        rows = mechanism.sample(step)
        derivatives = _derivatives([seed, step, ups], units, directions, drift)
        made = mechanism.release(step, derivatives if rows is None else derivatives[rows], unit_indices=rows)
        journal.append(made.to_journal())
        transcript.append(step, made.y)
        ups += sum(value > 0 for value in made.y)
    (place / "config.yaml").write_text(yaml.safe_dump(_settings(header)))
    if until is None:
        release.mkdir()
        publish(place, header, steps)
    return place


def journal_header(header: dict[str, Any], membership: np.ndarray) -> dict[str, Any]:
    return {
        "base": header["base"]["sha256"],
        "candidates": hashlib.sha256(np.packbits(membership).tobytes()).hexdigest()
        if spec_of(header["mechanism"]["name"]).candidates
        else None,
        "transcript": hashlib.sha256(canonical(header)).hexdigest(),
    }


def publish(place: Path, header: dict[str, Any], steps: int) -> None:
    """The transcript and the statement as they are released."""
    (place / "release/transcript.jsonl").write_bytes((place / "private/transcript.jsonl").read_bytes())
    document = statement(header, chosen_step=steps, weights_sha256="cd", files={}, steps_run=steps)
    (place / "release/privacy.json").write_bytes(render(document))


def _settings(header: dict[str, Any]) -> dict[str, Any]:
    mechanism = header["mechanism"] | {"subsets": header["subsets"], "family": header["family"]}
    if mechanism["name"] == "mi":
        mechanism["budget"] = header["budget"]
    return (
        {"mechanism": mechanism}
        | {key: header[key] for key in ("directions", "test_seed")}
        | {"max_steps": header["steps"]}
    )


def _derivatives(key: list[int], units: int, directions: int, drift: float) -> np.ndarray:
    chance = np.random.default_rng(key)
    return chance.standard_normal((units, directions)) + chance.standard_normal(directions) * drift


def rewrite(place: Path, change: Callable[[list[dict[str, Any]]], None], *, transcript: bool = True) -> None:
    """Changes the steps of a journal and makes its chain anew, and the transcripts likewise, as a forger would."""
    path = place / "private/journal.jsonl"
    header, *entries = [json.loads(line) for line in path.read_text().splitlines()]
    change(entries)
    lines, chain = [], ""
    for content in (header, *entries):
        content.pop("chain", None)
        chain = hashlib.sha256(chain.encode() + canonical(content)).hexdigest()
        lines.append(canonical(content | {"chain": chain}))
    path.write_bytes(b"\n".join(lines) + b"\n")
    if transcript:
        for path in (place / "private/transcript.jsonl", place / "release/transcript.jsonl"):
            if path.is_file():
                steps = [canonical({"t": entry["t"], "y": entry["y"]}) for entry in entries]
                path.write_bytes(b"\n".join([path.read_bytes().split(b"\n")[0], *steps]) + b"\n")
