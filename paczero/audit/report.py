"""The result of an audit as one document (`audit.json`); page and plots are made from it.

    document = build(Parts(run="runs/demo", release="", exact=recompute("runs/demo")))
    document["passed"], document["failures"]
    # (True, [])

An audit fails where the release does not verify, for each finding in the journal, for each attack on the secret half
whose success is above its bound with the stated confidence, for each test of the channel whose released values do not
follow their law, where the information in the re-runs is above the budget, and for each positive control that is not
caught. Attacks on membership in the pool and the exposure of single units are reported only: most mechanisms promise
nothing about them.
"""

from dataclasses import asdict, dataclass
from typing import Any

import paczero
from paczero.audit.canaries import CanaryResult
from paczero.audit.exposure import ExposureResult
from paczero.audit.journal.result import ExactAudit
from paczero.audit.positive_controls import Control
from paczero.audit.reruns import RerunsResult
from paczero.audit.side_information import FamilyResult

FORMAT = "paczero-audit/1"

_POINTS = 400  # of the curve over the steps


@dataclass(frozen=True)
class Parts:
    """The results of the parts; None or empty for a part that is left out.

    Attributes:
        run: the run's directory, as given.
        release: why the release does not verify; empty if it does. None, if it was not verified, fails as well.
        exact: the recomputed journal.
        reruns: attacks on re-runs with fresh secrets.
        controls: positive controls.
        families: the effect of side information about some units' halves.
        canaries: attacks on membership in the pool.
        exposure: what each unit's absence would have changed in this run.
    """

    run: str
    release: str | None = None
    exact: ExactAudit | None = None
    reruns: RerunsResult | None = None
    controls: tuple[Control, ...] = ()
    families: tuple[FamilyResult, ...] = ()
    canaries: CanaryResult | None = None
    exposure: ExposureResult | None = None


def build(parts: Parts) -> dict[str, Any]:
    """The document, ready for JSON."""
    failed = failures(parts)
    return {
        "format": FORMAT,
        "paczero": paczero.__version__,
        "run": parts.run,
        "passed": not failed,
        "failures": failed,
        "verified": parts.release == "",
        "left_out": [
            name
            for name in ("exact", "reruns", "controls", "families", "canaries", "exposure")
            if not getattr(parts, name)
        ],
        "exact": None if parts.exact is None else _exact(parts.exact),
        "reruns": None if parts.reruns is None else _reruns(parts.reruns),
        "controls": [asdict(control) for control in parts.controls],
        "families": [asdict(family) for family in parts.families],
        "canaries": None if parts.canaries is None else asdict(parts.canaries),
        "exposure": None if parts.exposure is None else asdict(parts.exposure),
    }


def failures(parts: Parts) -> list[str]:
    """The reasons why the audit fails, one line each; empty if it passes."""
    lines = []
    if parts.release is None:
        lines.append("release: it was not verified")
    elif parts.release:
        lines.append(f"release: {parts.release}")
    if parts.exact is not None:
        lines += [str(finding) for finding in parts.exact.findings]
    if parts.reruns is not None:
        lines += [
            f"attack {attack.title!r}: right in {attack.comparison.interval.estimate:.1%} of "
            f"{attack.comparison.trials} "
            f"re-runs, at least {attack.comparison.interval.low:.1%}, where {attack.comparison.bound:.1%} is allowed"
            for attack in parts.reruns.attacks
            if attack.comparison.exceeded
        ]
        lines += [
            f"channel {test.name!r}: {test.detail}; expected: {test.meaning} (p = {test.p_value:.2g})"
            for test in parts.reruns.channel
            if test.failed
        ]
        told = parts.reruns.information
        if told is not None and told.exceeded:
            lines.append(
                f"information: the re-runs tell {told.low:.4f} nats or more about the secret half, where "
                f"{told.budget:g} are promised"
            )
    return lines + [
        f"control {control.name!r}: this deliberate leak was not caught, so the audit cannot see such a leak"
        for control in parts.controls
        if not control.caught
    ]


def _reruns(result: RerunsResult) -> dict[str, Any]:
    content = asdict(result)
    content["attacks"] = [attack | attack.pop("comparison") for attack in content["attacks"]]
    return content


def _exact(audit: ExactAudit) -> dict[str, Any]:
    """The audit without the single releases, with a curve of the totals."""
    step = max(1, len(audit.releases) // _POINTS)
    information, curve = 0.0, []
    for number, release in enumerate(audit.releases, start=1):
        information += release.information
        if number % step == 0 or number == len(audit.releases):
            curve.append({"step": release.step, "spent": release.spent, "information": information})
    return audit.to_dict(releases=False) | {"curve": curve}
