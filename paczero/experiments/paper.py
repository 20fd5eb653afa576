"""The known figures of the paper, and the cells of ours that may be compared with them.

>>> comparable(SST2, "models/SmolLM2-135M-Instruct", full_tuning=False)
False

The known figures are those of SST-2, OPT-1.3B and full tuning (PACZero, arXiv 2605.06505). The paper's other cells stay
blank. Figures of another model, or of another kind of tuning, are not comparable.
"""

from collections.abc import Mapping
from typing import Any

SST2, SQUAD = "SST-2", "SQuAD"

# Task -> mechanism, budget of `mi` in nats, and the figure in % as printed; None where it is not known.
FIGURES: dict[str, tuple[tuple[str, float | None, str | None], ...]] = {
    SST2: (
        ("none", None, "91.1"),
        ("zpl", None, "88.99 ± 0.91"),
        ("mi", 0.33, "89.51 ± 1.12"),
        ("mi", 0.68, None),
    ),
    SQUAD: (("none", None, None), ("zpl", None, None), ("mi", 0.33, None), ("mi", 0.68, None)),
}

REMARKS = {
    SST2: "The paper's figures are of OPT-1.3B, all parameters tuned; its other cells are not known here.",
    SQUAD: (
        "No figure of the paper on SQuAD is known here. The F1 of a small model says nothing about the paper's, which "
        "are of OPT-1.3B and OPT-6.7B."
    ),
}


def task_of(config: Mapping[str, Any]) -> str | None:
    """`SST-2` or `SQuAD`, recognised by the paper's prompt; None for any other task."""
    task = config.get("task") or {}
    template = " ".join(str(task.get("template", "")).split())
    if task.get("kind", "classification") == "classification" and template == "{sentence} It was {label}":
        return SST2
    return SQUAD if task.get("kind") == "answer" and "Context: {context} Question: {question}" in template else None


def comparable(task: str, model: str, full_tuning: bool) -> bool:
    """Whether the paper's figures are about this task, model and kind of tuning."""
    return task == SST2 and model.rpartition("/")[2].lower() == "opt-1.3b" and full_tuning
