"""What an audit found, as one document (`audit.json`), from which the page and the figures are made.

    document = build(Parts(run="runs/demo", exact=recompute("runs/demo")))
    document["passed"], document["failures"]
    # (True, [])

What decides: whatever in the journal does not follow; an attack on the secret half whose success lies above its bound
with the stated confidence; a leak rebuilt on purpose that was not caught, for then the audit is blind. What attacks
find out about membership in the pool is printed beside the promise and never decides: nothing is promised about it,
except by differentially private mechanisms.
"""

from dataclasses import dataclass
from typing import Any

import paczero
from paczero.audit.canaries import CanaryResult
from paczero.audit.journal.result import ExactAudit
from paczero.audit.positive_controls import Control
from paczero.audit.reruns import RerunsResult
from paczero.audit.side_information import FamilyResult

FORMAT = "paczero-audit/1"

_POINTS = 400  # of a curve over the steps


@dataclass(frozen=True)
class Parts:
    """What was done; None or empty: that part was left out.

    Attributes:
        run: the run's directory, as given.
        header: the transcript's header.
        exact: the journal computed again.
        reruns: the procedure repeated with fresh secrets, and attacked.
        controls: leaks rebuilt on purpose.
        families: what an attacker gains who knows some units' halves.
        canaries: attacks on membership in the pool.
    """

    run: str
    header: dict[str, Any]
    exact: ExactAudit | None = None
    reruns: RerunsResult | None = None
    controls: tuple[Control, ...] = ()
    families: tuple[FamilyResult, ...] = ()
    canaries: CanaryResult | None = None


def build(parts: Parts) -> dict[str, Any]:
    """The document; JSON has a form for all of it."""
    failed = failures(parts)
    return {
        "format": FORMAT,
        "paczero": paczero.__version__,
        "run": parts.run,
        "passed": not failed,
        "failures": failed,
        "left_out": [
            name for name in ("exact", "reruns", "controls", "families", "canaries") if not getattr(parts, name)
        ],
        "exact": None if parts.exact is None else _exact(parts.exact),
        "reruns": None if parts.reruns is None else parts.reruns.to_dict(),
        "controls": [control.to_dict() for control in parts.controls],
        "families": [family.to_dict() for family in parts.families],
        "canaries": None if parts.canaries is None else parts.canaries.to_dict(),
    }


def failures(parts: Parts) -> list[str]:
    """Why the audit fails, a line each; none where it passes."""
    lines = [] if parts.exact is None else [str(finding) for finding in parts.exact.findings]
    if parts.reruns is not None:
        lines += [
            f"attack {attack.title!r}: right in {attack.comparison.interval.estimate:.1%} of "
            f"{attack.comparison.trials} "
            f"re-runs, at least {attack.comparison.interval.low:.1%}, where {attack.comparison.bound:.1%} is allowed"
            for attack in parts.reruns.attacks
            if attack.comparison.exceeded
        ]
    return lines + [
        f"control {control.name!r}: a leak that was built on purpose was not caught, so this audit would not see it"
        for control in parts.controls
        if not control.caught
    ]


def _exact(audit: ExactAudit) -> dict[str, Any]:
    """All but the single releases, of which a curve is kept."""
    step = max(1, len(audit.releases) // _POINTS)
    information, curve = 0.0, []
    for number, release in enumerate(audit.releases, start=1):
        information += release.information
        if number % step == 0 or number == len(audit.releases):
            curve.append({"step": release.step, "spent": release.spent, "information": information})
    return audit.to_dict(releases=False) | {"curve": curve}
