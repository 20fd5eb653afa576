"""The document of an audit: the parts that decide, and the curve of the journal."""

import json
from dataclasses import replace

import pytest

from paczero.audit import html
from paczero.audit.canaries import CanaryResult
from paczero.audit.journal.result import Finding
from paczero.audit.report import build

from ..written_runs import make_header
from .results import canary, control, exact, parts, reruns


def test_it_passes_without_failures():
    document = build(parts())
    assert document["passed"] and document["failures"] == [] and document["left_out"] == []
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
    assert document["exact"]["curve"][-1] == {"step": 39, "spent": 0.2, "information": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"release": "weights: differ"}, "release: weights: differ"),
        ({"release": None}, "release: it was not verified"),
        (
            {"exact": exact(findings=(Finding(7, 0, "charge", "0.1 nats", "0.2 nats"),), findings_in_all=1)},
            "step 7, direction 0: charge: 0.1 nats; expected 0.2 nats",
        ),
        ({"reruns": reruns(180)}, "attack 'Best attacker': right in 90.0% of 200 re-runs"),
        (
            {"reruns": replace(reruns(110), channel=(replace(reruns(110).channel[0], failed=True, p_value=1e-9),))},
            "channel 'bits and S*': 451 of 900",
        ),
        (
            {"reruns": replace(reruns(110), information=replace(reruns(110).information, low=0.4, exceeded=True))},
            "information: the re-runs tell 0.4000 nats or more about the secret half, where 0.33 are promised",
        ),
        ({"controls": (control(True), control(False))}, "control 'seeded secret': "),
    ],
)
def test_each_part_that_decides_can_fail_it(changes, line):
    document = build(parts(**changes))
    assert not document["passed"] and len(document["failures"]) == 1
    assert document["failures"][0].startswith(line)
    assert "Failed: do not rely on this run" in html.render(document, {}, make_header("mi"))


def test_pool_membership_never_decides():
    certain = replace(canary(), auc=1.0, auc_low=0.99, auc_high=1.0, epsilon_low=9.0, stated_epsilon=2.0)
    assert build(parts(canaries=CanaryResult((certain,), 0.95, 64, 64, 24)))["passed"]
