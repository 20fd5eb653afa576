"""Results of an audit's parts without any run, for the tests of its document and page."""

from dataclasses import replace

from paczero.audit.canaries import CanaryResult, CanaryRow
from paczero.audit.channel_tests import ChannelTest
from paczero.audit.exposure import ExposedUnit, ExposureResult
from paczero.audit.information import InformationEstimate
from paczero.audit.intervals import compare
from paczero.audit.journal.result import ExactAudit, ReleaseFigures
from paczero.audit.positive_controls import Control
from paczero.audit.report import Parts
from paczero.audit.reruns import Attack, RerunsResult
from paczero.audit.side_information import beside_random
from paczero.mechanism.subsets import draw_subsets


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
    tests = (ChannelTest("bits and S*", "as often", 900, "451 of 900", 0.8, 1e-4, False),)
    told = InformationEstimate(0.2, 0.1, 0.33, 200, 0.001, False)
    return RerunsResult("mi", "random", 0.33, 8, 64, 24, 1, 200, 0.2, 0.999, 1, attacks, tests, told)


def control(caught: bool) -> Control:
    return Control("seeded secret", "all from one seed", True, caught, "again", "right", 40)


def canary(label: str = "mi, random") -> CanaryRow:
    return CanaryRow(
        label, "mi", "random", "LiRA", "tells a record", 40, (9, 9), 0.7, 0.6, 0.8, 0.1, 0.02, 0.5, 0.81, 1e-3, None
    )


def parts(**changes) -> Parts:
    members = draw_subsets(40, 8, seed=1)
    found = Parts(
        run="runs/<b>one</b>",
        release="",
        exact=exact(),
        reruns=reruns(110),
        controls=(control(True),),
        families=beside_random(members, "balanced"),
        canaries=CanaryResult((canary(),), 0.95, 64, 64, 24),
        exposure=ExposureResult(
            40, 40, 0, 20, 3, 5, (0.1, 0.2, 2.5), ((7, 0, 0.1),), 2, (ExposedUnit(17, 2, 1, 0, 0.75, None),)
        ),
    )
    return replace(found, **changes)
