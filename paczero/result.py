"""What training ends with, for whoever called `PACZeroTrainer.train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paczero.zeroth.trainer import DevResult


@dataclass(frozen=True)
class TrainResult:
    """What `train` ended with.

    Attributes:
        output_dir: the run directory; `release/` in it may be published.
        steps: updates taken.
        chosen_step: the step whose weights are served.
        unanimity: share of releases on which all candidates agreed (the owner's to know), 0 to 1; None where none are
            asked, and on all ranks but the first.
        seconds: of this call.
        statement: the content of `release/privacy.json`.
        dev: every evaluation on the dev set.
    """

    output_dir: Path
    steps: int
    chosen_step: int
    unanimity: float | None
    seconds: float
    statement: dict[str, Any]
    dev: list[DevResult]
