"""Attacks on the promise, and what they reached beside what it allows. Takes anybody's arrays of scores or counts.

>>> from paczero.audit import compare, posterior_success
>>> compare(posterior_success(0.01), successes=300, trials=512).exceeded
False

What each module holds:

- `intervals`: exact intervals, whether a bound was passed, lower bounds on ε (also from one run);
- `scores`: AUC, TPR at a small FPR, the likelihood-ratio attack;
- `families`: what somebody gains who knows already in which half some units are, from the candidates alone;
- `exact`: a run's journal computed again, by code that shares nothing with what wrote it.

Everything here is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paczero.audit.intervals import (
        Comparison,
        Interval,
        OneRunAudit,
        clopper_pearson,
        compare,
        compare_shares,
        corrected,
        epsilon_lower_bound,
        epsilon_lower_bound_one_run,
        exceeds,
        mean_interval,
        one_run,
        one_run_p_value,
        success_interval,
    )
    from paczero.audit.journal.recompute import recompute
    from paczero.audit.journal.result import ExactAudit, Finding, ReleaseFigures
    from paczero.audit.membership import (
        OperatingPoint,
        Roc,
        auc,
        epsilon_from_scores,
        lira,
        lira_each,
        logit_scores,
        roc,
        tpr_at_fpr,
    )
    from paczero.audit.side_information import Correlation, FamilyResult, KnownUnits, correlations, side_knowledge
    from paczero.mechanism.bounds import (
        epsilon_for_success,
        nats_for_success,
        posterior_success,
        success_for_epsilon,
    )

__all__ = [
    "Comparison",
    "Correlation",
    "ExactAudit",
    "FamilyResult",
    "Finding",
    "Interval",
    "KnownUnits",
    "OneRunAudit",
    "OperatingPoint",
    "ReleaseFigures",
    "Roc",
    "auc",
    "clopper_pearson",
    "compare",
    "compare_shares",
    "corrected",
    "correlations",
    "epsilon_for_success",
    "epsilon_from_scores",
    "epsilon_lower_bound",
    "epsilon_lower_bound_one_run",
    "exceeds",
    "lira",
    "lira_each",
    "logit_scores",
    "mean_interval",
    "nats_for_success",
    "one_run",
    "one_run_p_value",
    "posterior_success",
    "recompute",
    "roc",
    "side_knowledge",
    "success_for_epsilon",
    "success_interval",
    "tpr_at_fpr",
]
# In the order in which a name is looked for; the heavier come last.
_HOMES = (
    "paczero.mechanism.bounds",
    "paczero.audit.side_information",
    "paczero.audit.intervals",
    "paczero.audit.membership",
    "paczero.audit.journal.recompute",
    "paczero.audit.journal.result",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = import_module(home)
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'paczero.audit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
