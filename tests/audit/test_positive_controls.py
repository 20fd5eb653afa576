"""Each broken mechanism goes through the laboratory and is caught; an honest one is not."""

import pytest

from paczero.audit import positive_controls
from paczero.audit.positive_controls import BROKEN, audited, controls, failed_of

_TESTS = {  # what must notice each defect, whatever else does
    "following coin": "bits and S*",
    "half the flips": "bits and S*",
    "posterior not updated": "charges",
    "posterior lost on resume": "charges",
    "seeded secret": "secrets",
    "seeded coins": "first coin",
    "absolute tolerance": "charges",
    "budget overspent": "charges",
    "half the noise, dp-sign": "bits and sums",
    "twice the sensitivity, dp-sign": "bits and sums",
    "half the noise, dpzero": "noise, size",
    "public sample": "samples, fresh",
    "unanimity by a float, zpl": "bits and majority",
    "unanimity by a float, mi": "charges",
}


def test_the_controls_are_those_listed_and_four_honest_ones():
    assert [broken.name for broken in BROKEN if broken.leaks] == list(_TESTS)
    assert [broken.name.split()[1] for broken in BROKEN if not broken.leaks] == ["zpl", "mi", "dp-sign", "dpzero"]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_mechanism_is_caught_and_an_honest_one_is_not(broken):
    (control,) = controls(chosen=(broken,))
    assert control.caught, (control.caught_by, control.detail)
    assert control.runs == broken.runs
    if broken.leaks:
        assert _TESTS[broken.name] in control.caught_by.split("; ")
    else:
        assert control.caught_by == "none"


def test_a_leak_is_seen_when_a_model_is_trained_as_well():
    """The others leave out its forward passes, and nothing else."""
    (broken,) = (broken for broken in BROKEN if broken.name == "half the flips")
    failed = dict(failed_of(audited(broken, runs=20, model=True)))
    assert "bits and S*" in failed


def test_an_audit_that_sees_nothing_says_so(monkeypatch):
    """A control that is not caught, and an honest one that is, both count as wrong."""
    few = BROKEN[0], BROKEN[-4]
    monkeypatch.setattr(positive_controls, "failed_of", lambda result: [])
    assert [control.caught for control in controls(chosen=tuple(type(b)(**vars(b) | {"runs": 4}) for b in few))] == [
        False, True
    ]  # fmt: skip
    monkeypatch.setattr(positive_controls, "failed_of", lambda result: [("any", "thing")])
    assert [control.caught for control in controls(chosen=tuple(type(b)(**vars(b) | {"runs": 4}) for b in few))] == [
        True, False
    ]  # fmt: skip


def test_a_budget_of_033_that_is_claimed_as_001_is_refuted_by_the_information_alone():
    """At the default number of re-runs."""
    (broken,) = (broken for broken in BROKEN if broken.name == "budget overspent")
    result = audited(broken, runs=300)
    assert result.runs == 300
    assert result.information.exceeded and result.information.low > 0.01 == result.information.budget
    assert "information" in dict(failed_of(result))
