"""Attacks on the promise, and their bounds. They take arrays of scores or counts from any source.

>>> from paczero.audit import compare, posterior_success
>>> compare(posterior_success(0.01), successes=300, trials=512).exceeded
False

- `intervals`: exact intervals, comparison with a bound, lower bounds on ε (also from one run).
- `membership`: AUC, TPR at a small FPR, the likelihood-ratio attack.
- `side_information`: the gain of an attacker who knows the halves of some units, from the candidates alone.
- `journal`: recomputes a run's journal by code that shares nothing with the code that wrote it.

Each name is imported on first use.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "audit.intervals": (
        "Comparison Interval OneRunAudit clopper_pearson compare compare_shares corrected epsilon_lower_bound"
        " epsilon_lower_bound_one_run exceeds mean_interval one_run one_run_p_value success_interval "
    ),
    "audit.journal.recompute": "recompute",
    "audit.journal.result": "ExactAudit Finding ReleaseFigures",
    "audit.membership": "OperatingPoint Roc auc epsilon_from_scores lira lira_each logit_scores roc tpr_at_fpr",
    "audit.side_information": "Correlation FamilyResult KnownUnits correlations side_knowledge",
    "mechanism.bounds": "epsilon_for_success nats_for_success posterior_success success_for_epsilon",
}
_HOMES = dict(sorted((name, module) for module, names in _MODULES.items() for name in names.split()))
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'paczero.audit' has no attribute {name!r}")
    return getattr(import_module(f"paczero.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
