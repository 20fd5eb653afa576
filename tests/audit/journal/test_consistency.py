"""Transcripts, candidates, statement, settings and noise that differ from the journal are found."""

import json

import numpy as np
import pytest
import yaml

from paczero.audit import recompute
from paczero.release.statement import render, seal

from .journals import DP, SIGNS, found, make_run


def change_json(path, **values):
    """Replaces values of a statement, and its hash."""
    path.write_bytes(render(seal(json.loads(path.read_text()) | values)))


def test_a_transcript_that_differs_from_the_journal_is_found(run):
    path = run / "release/transcript.jsonl"
    lines = path.read_text().splitlines()
    step = json.loads(lines[9])
    lines[9] = json.dumps({"t": step["t"], "y": [-step["y"][0]]}, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
    assert found(recompute(run)) == {(8, "transcript")}
    path.write_text("\n".join(lines[:9]) + "\n")
    assert found(recompute(run)) == {(None, "transcript")}


def test_another_header_in_the_transcript_is_found(run):
    for name in ("release", "private"):
        path = run / name / "transcript.jsonl"
        path.write_text(path.read_text().replace('"budget":0.3', '"budget":0.9', 1))
    audit = recompute(run)
    assert {(None, "transcript"), (None, "settings"), (None, "statement")} <= found(audit)


def test_other_candidates_are_found(run):
    path = run / "private/candidates.npz"
    with np.load(path) as stored:
        packed = stored["packed"].copy()
    packed[3] ^= 0b1000_0000
    np.savez(path, packed=packed, subsets=8)
    assert [finding.what for finding in recompute(run).findings] == ["candidates", "candidates"]
    assert "unit 3" in recompute(run).findings[1].found


@pytest.mark.parametrize(
    ("key", "value"),
    [("half", {}), ("pool", {}), ("budget", 0.2), ("steps_run", 23), ("test_seed", 1), ("subsets", 4)],
)
def test_a_statement_that_differs_from_the_run_is_found(run, key, value):
    change_json(run / "release/privacy.json", **{key: value})
    audit = recompute(run)
    assert found(audit) == {(None, "statement")} and audit.findings[0].found.startswith(key)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("half", "posterior_success", 0.8),
        ("half", "nats", 0.2),
        ("half", "equivalent_epsilon", 1.5),
        ("pool", "posterior_success", 0.9),
        ("pool", "epsilon", 1.0),
        ("pool", "delta", 0.0),
    ],
)
def test_a_wrong_bound_is_found(run, part, key, value):
    path = run / "release/privacy.json"
    change_json(path, **{part: json.loads(path.read_text())[part] | {key: value}})
    (finding,) = recompute(run).findings
    assert finding.found.startswith(f"{part}.{key}")


def test_settings_that_differ_from_the_run_are_found(run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("budget: 0.3", "budget: 0.1"))
    assert found(recompute(run)) == {(None, "settings")}


@pytest.mark.parametrize(("name", "law", "passes"), [("dp-sign", SIGNS, True), ("zpl", None, False)])
def test_a_clip_that_the_run_measured_is_not_in_its_settings(name, law, passes, tmp_path):
    run = make_run(tmp_path / "run", name, settings=law)
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["mechanism"]["clip"] = "auto"
    path.write_text(yaml.safe_dump(content))
    assert found(recompute(run)) == (set() if passes else {(None, "settings")})


@pytest.mark.parametrize(
    ("name", "directions", "law"),
    [
        ("dpzero", 1, DP | {"sigma": 5.0}),
        ("dp-sign", 2, SIGNS | {"eps0": 0.4}),
        ("dp-sign", 2, SIGNS | {"eps0": 1.5, "individual": True, "rho": 1.0}),
    ],
)
def test_too_little_noise_for_the_stated_epsilon_and_p_is_found(name, directions, law, tmp_path):
    audit = recompute(make_run(tmp_path / "run", name, settings=law, directions=directions))
    assert found(audit) == {(None, "epsilon"), (None, "p")} and audit.delta_found > audit.delta
