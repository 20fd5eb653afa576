"""Scores, decisions and answers of a finished run, a release folder, an adapter or a model.

    from paczero.inference import evaluate, predict

    evaluate("runs/first/release", "test.csv").metrics["accuracy"]
    predict("runs/first/release", [{"text": "A film to see twice."}]).records[0]["prediction"]

The commands `paczero eval` and `paczero predict` call the same two functions.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paczero.inference.evaluation import Evaluation, evaluate
    from paczero.inference.predictions import PredictedTable, predict
    from paczero.inference.target import Target, find_target

__all__ = ["Evaluation", "PredictedTable", "Target", "evaluate", "find_target", "predict"]

_MODULES = {
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "PredictedTable": "predictions",
    "predict": "predictions",
    "Target": "target",
    "find_target": "target",
}


def __getattr__(name: str) -> Any:
    """Loads a name on first use, because scoring imports torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'paczero.inference' has no attribute {name!r}")
    return getattr(importlib.import_module(f"paczero.inference.{_MODULES[name]}"), name)
