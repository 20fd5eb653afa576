"""The paper's figures that are known, and which cells of ours they may stand beside.

>>> comparable(SST2, "models/SmolLM2-135M-Instruct", "LoRA")
False

Only what is known is here (PACZero, arXiv 2605.06505; SST-2, OPT-1.3B, full tuning); the paper's other cells stay
blank. A figure of another model, or of another way of tuning, is no figure to be compared with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SST2, SQUAD = "SST-2", "SQuAD"

MODEL, FULL = "OPT-1.3B", "full"


@dataclass(frozen=True)
class Known:
    """One figure of the paper, in %.

    Attributes:
        mechanism, budget: of the cell; the budget is that of `mi`.
        figure: the mean as printed; blank where it is not known.
        spread: the standard deviation as printed.
    """

    mechanism: str
    budget: float | None
    figure: float | None
    spread: float | None = None

    @property
    def printed(self) -> str:
        """`88.99 ± 0.91`, or nothing."""
        if self.figure is None:
            return ""
        return f"{self.figure:g} ± {self.spread:g}" if self.spread is not None else f"{self.figure:g}"


FIGURES = {
    SST2: (
        Known("none", None, 91.1),
        Known("zpl", None, 88.99, 0.91),
        Known("mi", 0.33, 89.51, 1.12),
        Known("mi", 0.68, None),
    ),
    SQUAD: (Known("none", None, None), Known("zpl", None, None), Known("mi", 0.33, None), Known("mi", 0.68, None)),
}

REMARKS = {
    SST2: "The paper's figures are of OPT-1.3B, all parameters tuned; its other cells are not known here.",
    SQUAD: (
        "No figure of the paper on SQuAD is known here. The F1 of a small model says nothing about the paper's, which "
        "are of OPT-1.3B and OPT-6.7B."
    ),
}


def task_of(config: Mapping[str, Any]) -> str | None:
    """`SST-2` or `SQuAD`, told by the prompt as the paper has it; None for any other task."""
    task = config.get("task") or {}
    template = " ".join(str(task.get("template", "")).split())
    if task.get("kind", "classification") == "classification" and template == "{sentence} It was {label}":
        return SST2
    return SQUAD if task.get("kind") == "answer" and "Context: {context} Question: {question}" in template else None


def comparable(task: str, model: str, tuning: str) -> bool:
    """Whether these are what the paper's figures are of."""
    return task == SST2 and model.rpartition("/")[2].lower() == MODEL.lower() and tuning == FULL
