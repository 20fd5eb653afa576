"""An honest run of every mechanism passes, and its figures are those of the definitions."""

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from paczero.audit import recompute
from paczero.mechanism.bounds import posterior_success
from paczero.utils.io import canonical

from ...enumeration import FLIPPED, KEPT
from .journals import DP, SIGNS, make_run, steps_of

HONEST = [
    ("mi", {}, {}),
    ("mi", {"allocation": "uniform"}, {"directions": 3}),
    ("mi", {"channel": "gaussian"}, {"directions": 2}),
    ("mi", {}, {"budget": 5.0, "subsets": 4}),  # budgets beyond ln M: signs as they are, candidates excluded
    ("mi", {"channel": "gaussian"}, {"budget": 5.0, "subsets": 4}),
    ("mi", {}, {"budget": 0.0}),
    ("mi", {}, {"budget": 1e-9}),
    ("zpl", {}, {"directions": 2}),
    ("skip", {}, {}),
    ("half-sign", {}, {}),
    ("none", {}, {"directions": 2}),
    ("full-sign", {}, {}),
    ("coin", {}, {}),
    ("dpzero", DP, {}),
    ("dp-aggzo", DP, {"directions": 3}),
    ("dp-aggzo", DP | {"sampling": 0.5}, {"directions": 3}),
    ("dp-sign", SIGNS, {"directions": 2}),
    ("dp-sign", SIGNS | {"sampling": 0.5}, {}),
    ("dp-sign", SIGNS | {"eps0": 1.5, "individual": True, "rho": 0.1}, {"directions": 2}),
]


@pytest.mark.parametrize(("name", "law", "sizes"), HONEST)
def test_an_honest_run_passes(name, law, sizes, tmp_path):
    run = make_run(tmp_path / "run", name, settings=law, **sizes)
    calls = []
    audit = recompute(run, lambda done, total: calls.append((done, total)))
    assert audit.passed and not audit.findings, audit.findings
    assert calls == [(step + 1, 24) for step in range(24)]
    assert len(audit.releases) == 24 * audit.directions == 24 * sizes.get("directions", 1)
    assert audit.steps_run == audit.steps == 24 and not audit.void
    if name == "mi":
        assert audit.budget == sizes.get("budget", 0.3) >= audit.charged
        assert audit.information == pytest.approx(audit.charged, rel=1e-12)
        assert audit.success_bound <= audit.success_stated == posterior_success(audit.budget)
    assert json.loads(json.dumps(audit.to_dict(), allow_nan=False))["passed"] is True
    assert "releases" not in audit.to_dict(releases=False)


def test_a_trained_run_passes(make_trainer, tmp_path):
    run = tmp_path / "run"
    make_trainer(
        run, mechanism={"name": "mi", "budget": 0.4, "channel": "gaussian"}, directions=2, test_seed=None
    ).train()
    audit = recompute(run)
    assert audit.passed, audit.findings
    assert (audit.units, audit.subsets, audit.steps_run, audit.directions) == (48, 8, 6, 2)
    assert 0 < audit.information <= 0.4 and not audit.void and audit.notes == ()


def test_runs_of_the_first_version_pass():
    for name, steps in (("finished", 12), ("stopped", 5)):
        audit = recompute(Path(__file__).parents[2] / "fixtures/before-restructure" / name)
        assert audit.passed and audit.steps_run == steps and audit.void, audit.findings


def test_an_unfinished_run_passes_and_says_so(tmp_path):
    run = make_run(tmp_path / "run", until=9)
    audit = recompute(run)
    assert audit.passed and audit.steps_run == 9 and audit.success_stated is None
    assert audit.notes == ("There is no statement yet: the run is not finished.",)
    with open(run / "private/journal.jsonl", "ab") as stream:
        stream.write(b'{"beta":[0.0')  # what a killed process leaves
    assert recompute(run) == audit


@pytest.mark.parametrize("budget", [0.05, 0.6])
def test_the_posterior_is_bayes_rule_over_whole_transcripts(budget, tmp_path):
    run = make_run(tmp_path / "run", budget=budget, directions=2)
    likelihood = [Fraction(1)] * 8
    for step in steps_of(run):
        for signs, f, y, unanimous in zip(step["signs"], step["noise"], step["y"], step["unanimous"], strict=True):
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(signs), dtype=np.uint8))[:8]
            for m, bit in enumerate(bits):
                if not unanimous:
                    likelihood[m] *= 1 - Fraction(f) if (bit == 1) == (y == 1) else Fraction(f)
    exact = [float(weight / sum(likelihood)) for weight in likelihood]
    audit = recompute(run)
    assert list(audit.posterior) == pytest.approx(exact, rel=1e-15)
    with np.load(run / "private/candidates.npz") as stored:
        membership = np.unpackbits(stored["packed"], axis=1, count=8).astype(bool)
    inside = membership @ np.array(exact)
    assert list(audit.unit_posterior) == pytest.approx(inside.tolist(), rel=1e-14)
    last = audit.releases[-1]
    assert last.likeliest == pytest.approx(max(exact), rel=1e-14)
    assert last.entropy == pytest.approx(-sum(p * math.log(p) for p in exact), rel=1e-13)


class Words:
    """Coins that flip the given contested steps."""

    def __init__(self, flips):
        self.flips = flips

    def word(self, step, k):
        return FLIPPED if self.flips[step] else KEPT


def test_the_audits_total_is_the_information_of_all_transcripts(tmp_path):
    """I(S*; Y) by definition, from the joint law of secret and transcript, against the mean of the audits' sums."""
    steps, subsets = 4, 4
    law, audits = {}, {}
    for secret in range(subsets):
        for flips in itertools.product((False, True), repeat=steps):

            def set_up(mechanism, secret=secret, flips=flips):
                content = {"format": "paczero-secret/1", "index": secret, "subsets": subsets}
                mechanism._secret.write_bytes(canonical(content) + b"\n")
                mechanism._coins = Words(flips)

            run = make_run(tmp_path / f"{secret}-{flips}", subsets=subsets, steps=steps, drift=0.0, alter=set_up)
            entries = steps_of(run)
            noise = [0.0 if step["unanimous"][0] else step["noise"][0] for step in entries]
            chances = [f if flip else 1 - f for f, flip in zip(noise, flips, strict=True)]
            y = tuple(step["y"][0] for step in entries)
            law[secret, y] = law.get((secret, y), 0.0) + math.prod(chances) / subsets
            if y not in audits:
                audits[y] = recompute(run)
                assert audits[y].passed
    marginal = {y: math.fsum(law.get((m, y), 0.0) for m in range(subsets)) for y in audits}
    assert math.fsum(marginal.values()) == pytest.approx(1, abs=1e-14)
    assert any(audit.contested >= 2 for audit in audits.values())
    information = math.fsum(p * math.log(p * subsets / marginal[y]) for (_, y), p in law.items() if p > 0)
    charged = math.fsum(p * audits[y].information for y, p in marginal.items())
    assert information == pytest.approx(charged, abs=1e-12) and information > 0.1
    for y, audit in audits.items():
        if marginal[y] > 0:
            exact = [law.get((m, y), 0.0) / marginal[y] for m in range(subsets)]
            assert list(audit.posterior) == pytest.approx(exact, rel=1e-12)


def test_one_honest_release_may_reveal_more_of_a_unit_than_p(tmp_path):
    audits = [recompute(make_run(tmp_path / str(seed), budget=0.1, subsets=2, seed=seed)) for seed in range(8)]
    assert all(audit.passed for audit in audits)
    assert max(audit.units_above_bound for audit in audits) > 0
    for audit in audits:
        inside = np.array(audit.unit_posterior)
        assert audit.units_above_bound == np.sum(np.maximum(inside, 1 - inside) > audit.success_bound)


def test_zero_information_leaves_all_candidates_equally_likely(tmp_path):
    audit = recompute(make_run(tmp_path / "run", "zpl"))
    assert set(audit.posterior) == {1 / 8} and set(audit.unit_posterior) == {0.5} and audit.units_above_bound == 0
    assert audit.unanimous and audit.contested and audit.information == audit.charged == 0


def test_the_information_of_half_sign_is_shown(tmp_path):
    audit = recompute(make_run(tmp_path / "run", "half-sign"))
    assert audit.charged == 0 and audit.information > 1 and audit.success_bound == 1
    assert audit.releases[-1].likeliest > 0.3 and audit.budget is None
