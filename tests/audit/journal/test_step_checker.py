"""Each wrong value of a step is a finding of that step, or of the first step that depends on it."""

import math

import pytest

from paczero.audit import recompute
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.ledger import Ledger
from paczero.mechanism.posterior import Posterior

from .journals import DP, change, contested, found, make_run, rewrite, steps_of


def multiple(f):
    """The next lower multiple of 2^-64, as every flip probability is one."""
    return math.ldexp(math.floor(math.ldexp(f, 64)), -64)


def first(audit):
    return audit.findings[0].step, audit.findings[0].what


@pytest.mark.parametrize(
    ("key", "new", "what"),
    [
        ("beta", lambda charge: charge * (1 - 3e-12), "charge"),
        ("q", lambda q: q * (1 + 1e-8), "q"),
        ("unanimous", lambda flag: True, "unanimity"),
    ],
)
def test_a_changed_value_is_the_only_finding(run, key, new, what):
    step = contested(run)
    change(run, step, key, new)
    audit = recompute(run)
    assert found(audit) == {(step, what)} and not audit.passed
    line = str(audit.findings[0])
    assert line.startswith(f"step {step}, direction 0: {what}: ") and "\n" not in line


def test_a_raised_charge_is_found(run):
    step = contested(run)
    change(run, step, "beta", lambda charge: charge * (1 + 1e-6))
    assert {(step, "charge"), (step, "share")} <= found(recompute(run))


def test_a_lowered_flip_probability_is_found(run):
    step = contested(run)
    change(run, step, "noise", lambda f: multiple(f * 0.999))
    audit = recompute(run)
    assert first(audit) == (step, "charge")
    assert audit.releases[step].information > audit.releases[step].charged


def test_a_flip_probability_that_no_integer_comparison_gives_is_found(run):
    step = contested(run)
    change(run, step, "noise", lambda f: 2.0**-80)
    assert (step, "noise") in found(recompute(run))


def test_too_much_noise_is_found(run):
    """The charge agrees with the noise, so no promise is broken, but the rules give another noise for this share."""
    step = contested(run)

    def raise_noise(steps):
        f, q = multiple(steps[step]["noise"][0] * 1.05), steps[step]["q"][0]
        steps[step]["noise"][0], steps[step]["beta"][0] = f, BitChannel.information(min(q, 1 - q), f)

    rewrite(run, raise_noise)
    assert first(recompute(run)) == (step, "noise")


def test_a_unanimous_step_of_the_other_sign_is_found(run):
    step = next(step["t"] for step in steps_of(run) if step["unanimous"][0])
    change(run, step, "y", lambda y: -y)
    assert found(recompute(run)) == {(step, "release")}


def test_a_turned_release_shows_in_later_steps(run):
    """Journal and transcripts agree, but the posterior and every later q differ."""
    change(run, contested(run), "y", lambda y: -y)
    audit = recompute(run)
    assert audit.findings[0].step == contested(run, 4) and {what for _, what in found(audit)} >= {"q"}


def test_a_forgotten_posterior_is_found(tmp_path):
    def forget(mechanism):
        mechanism._learn = lambda signs, output, noise: None

    run = make_run(tmp_path / "run", alter=forget, budget=0.6)
    audit = recompute(run)
    assert not audit.passed and first(audit) == (contested(run, 1), "q")
    assert "charge" in {finding.what for finding in audit.findings}


def test_a_posterior_that_a_resumed_run_began_anew_is_found(tmp_path):
    """The authors' resume restores the spent budget, but not the posterior."""

    def begin_anew(mechanism):
        released = mechanism.release

        def release(step, derivatives, *, unit_indices=None):
            if step == 12:
                mechanism._posterior = Posterior.uniform(8)
            return released(step, derivatives, unit_indices=unit_indices)

        mechanism.release = release

    run = make_run(tmp_path / "run", alter=begin_anew, budget=0.6)
    after = [step["t"] for step in steps_of(run) if not step["unanimous"][0] and step["t"] >= 12]
    assert first(recompute(run)) == (after[0], "q")


def test_an_absolute_tolerance_is_found(tmp_path):
    """The authors' bisection stops at 1e-6 nats, twenty times the share of such a step."""

    class Absolute(BitChannel):
        @staticmethod
        def calibrate(q, nats):
            low, high = 0.0, 0.5
            while True:
                f = (low + high) / 2
                excess = BitChannel.information(q, f) - nats
                if abs(excess) <= 1e-6:
                    return f
                low, high = (f, high) if excess > 0 else (low, f)

    run = make_run(tmp_path / "run", budget=24 * 5e-8, alter=lambda mi: setattr(mi, "_channel", Absolute))
    audit = recompute(run)
    assert first(audit) == (contested(run, 0), "charge")
    release = audit.releases[contested(run, 0)]
    assert release.charged <= release.share < release.information
    assert audit.information > audit.budget >= audit.charged
    assert "information" in {finding.what for finding in audit.findings}


def test_an_exceeded_budget_is_found(tmp_path):
    run = make_run(tmp_path / "run", alter=lambda mi: setattr(mi, "_ledger", Ledger(1.0, 24)))
    audit = recompute(run)
    assert (contested(run, 0), "share") in found(audit)
    (finding,) = [finding for finding in audit.findings if finding.what == "budget"]
    assert sum(r.charged for r in audit.releases[: finding.step]) <= 0.3 < audit.releases[finding.step].spent
    assert audit.charged > audit.budget


def test_a_removed_step_is_found(run):
    rewrite(run, lambda steps: steps.pop(5))
    audit = recompute(run)
    assert (5, "step") in found(audit)
    assert [f for f in audit.findings if f.what == "step"] == [audit.findings[0]]


def test_a_removed_step_is_found_even_if_the_others_are_renumbered(run):
    step = contested(run)

    def remove(steps):
        del steps[step]
        for t, entry in enumerate(steps):
            entry["t"] = t

    rewrite(run, remove)
    assert any(finding.step >= step for finding in recompute(run).findings)
    assert (None, "statement") in found(recompute(run))  # one step fewer than stated


def test_swapped_steps_are_found(run):
    rewrite(run, lambda steps: steps.insert(4, steps.pop(7)))
    assert (4, "step") in found(recompute(run))


def test_noise_that_differs_from_the_header_is_found(tmp_path):
    run = make_run(tmp_path / "run", "dpzero", settings=DP, alter=lambda dp: setattr(dp, "noise", 1.0))
    audit = recompute(run)
    assert found(audit) == {(step, "noise") for step in range(24)}


def test_an_unfair_coin_is_found(tmp_path):
    run = make_run(tmp_path / "run", "zpl")
    step = contested(run, 0)
    change(run, step, "noise", lambda f: 0.25)
    assert found(recompute(run)) == {(step, "noise")}


def test_only_the_first_findings_are_kept(tmp_path):
    run = make_run(tmp_path / "run", "zpl", steps=300)

    def spoil(steps):
        for step in steps:
            step["q"][0] = 0.123

    rewrite(run, spoil)
    audit = recompute(run)
    assert len(audit.findings) == 200 and audit.findings_in_all == 300
