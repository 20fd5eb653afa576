"""What decides, the page, and its figures: from a document alone, with nothing left unescaped."""

import html
import json
from dataclasses import replace

import pytest

from paczero.audit import html as audit_page
from paczero.audit.canaries import CanaryResult, CanaryRow
from paczero.audit.intervals import compare
from paczero.audit.journal.result import ExactAudit, Finding, ReleaseFigures
from paczero.audit.positive_controls import Control
from paczero.audit.report import Parts, build
from paczero.audit.reruns import Attack, RerunsResult
from paczero.audit.side_information import beside_random
from paczero.mechanism.subsets import draw_subsets

from ..written_runs import make_header


def exact(**changes) -> ExactAudit:
    releases = tuple(
        ReleaseFigures(t, 0, t % 2 == 0, 0.5, 0.4, 0.01, 0.005, 0.005, 1.0, 0.005 * (t + 1), 2.0, 0.2)
        for t in range(40)
    )
    found = ExactAudit(
        mechanism="mi", void=False, steps=40, steps_run=40, directions=1, subsets=8, units=40, budget=0.33, charged=0.2,
        information=0.2, success_bound=0.88, success_stated=0.88, epsilon=None, delta=None, delta_found=None,
        unanimous=20, contested=20, releases=releases, posterior=(0.125,) * 8, unit_posterior=(0.5,) * 40,
        units_above_bound=0, findings=(), findings_in_all=0, notes=("A note.",),
    )  # fmt: skip
    return replace(found, **changes)


def reruns(successes: int) -> RerunsResult:
    attacks = (Attack("bayes-unit", "Best attacker", "computes", 0.5, compare(0.6, successes, 200, 5)),)
    return RerunsResult("mi", "random", 0.33, 8, 64, 24, 1, 200, 0.2, 0.999, attacks)


def control(caught: bool) -> Control:
    return Control("seeded secret", "all from one seed", True, caught, "again", "right", compare(0.1, 90, 100, 5))


def canary(label: str = "mi, random") -> CanaryRow:
    return CanaryRow(
        label, "mi", "random", "LiRA", "tells a record", 40, (9, 9), 0.7, 0.6, 0.8, 0.1, 0.02, 0.5, 1e-3, None
    )


def parts(**changes) -> Parts:
    members = draw_subsets(40, 8, seed=1)
    found = Parts(
        run="runs/<b>one</b>",
        header=make_header("mi"),
        exact=exact(),
        reruns=reruns(110),
        controls=(control(True),),
        families=beside_random(members, "balanced"),
        canaries=CanaryResult((canary(),), 0.95, 64, 64, 24),
    )
    return replace(found, **changes)


def test_it_passes_where_nothing_speaks_against():
    document = build(parts())
    assert document["passed"] and document["failures"] == [] and document["left_out"] == []
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
    assert document["exact"]["curve"][-1] == {"step": 39, "spent": 0.2, "information": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"exact": exact(findings=(Finding(7, 0, "charge", "0.1 nats", "0.2 nats"),), findings_in_all=1)},
            "step 7, direction 0: charge: 0.1 nats; expected 0.2 nats",
        ),
        ({"reruns": reruns(180)}, "attack 'Best attacker': right in 90.0% of 200 re-runs"),
        ({"controls": (control(True), control(False))}, "control 'seeded secret': "),
    ],
)
def test_each_part_that_decides_can_fail_it(changes, said):
    document = build(parts(**changes))
    assert not document["passed"] and len(document["failures"]) == 1
    assert document["failures"][0].startswith(said)
    assert "Failed: do not rely on this run" in audit_page.render(document, {}, make_header("mi"))


def test_pool_membership_never_decides():
    certain = replace(canary(), auc=1.0, auc_low=0.99, auc_high=1.0, epsilon_low=9.0, stated_epsilon=2.0)
    assert build(parts(canaries=CanaryResult((certain,), 0.95, 64, 64, 24)))["passed"]


def test_the_page_says_each_bound_and_escapes_all(tmp_path):
    document = json.loads(json.dumps(build(parts())))
    path = audit_page.write(document, tmp_path / "audit", make_header("mi"))
    text = path.read_text(encoding="utf-8")
    assert "<b>one</b>" not in text and "runs/&lt;b&gt;one&lt;/b&gt;" in text
    assert 'src="http' not in text and "href=" not in text and "<script" not in text
    plain = html.unescape(text)
    for said in ("60.0 %", "55.0 %", "within", "caught", "0.700", "Left out" if document["left_out"] else "40 of 40"):
        assert said in plain
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "audit.json", "bounds.png", "canaries.png", "families.png", "index.html", "spent.png"
    ]  # fmt: skip
    assert json.loads((path.parent / "audit.json").read_text()) == document


def test_what_was_left_out_is_said_and_old_figures_go(tmp_path):
    audit_page.write(json.loads(json.dumps(build(parts()))), tmp_path, make_header("mi"))
    few = build(Parts(run="runs/one", header=make_header("zpl"), exact=exact(budget=0.0)))
    text = audit_page.write(json.loads(json.dumps(few)), tmp_path, make_header("zpl")).read_text(encoding="utf-8")
    assert few["left_out"] == ["reruns", "controls", "families", "canaries"]
    assert "Left out: reruns, controls, families, canaries." in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.json", "index.html"]
