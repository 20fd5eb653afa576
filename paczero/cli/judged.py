"""Tasks without label words, judged as a user of the release would: texts that are generated, losses of completions.

>>> ev = evaluator(target, pool)        # doctest: +SKIP
>>> ev.figures()                        # doctest: +SKIP
{'f1': 0.41, 'exact_match': 0.3, 'loss': 1.92}
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paczero.cli.console import warn
from paczero.cli.released import load_target
from paczero.cli.target import Target

if TYPE_CHECKING:
    from paczero.data.dataset import Dataset
    from paczero.training.evaluation import Evaluator


def evaluator(
    target: Target, pool: "Dataset", *, base: bool = False, progress: Callable[[int, int], None] | None = None
) -> "Evaluator":
    """What judges these records with the target's weights, or with those of its base.

    Args:
        progress: called with (records generated for, records in all), where the task generates.

    Raises:
        PACZeroError: the model cannot be loaded, or records are too long for it.
    """
    from paczero.data.encoding import context_length, prepare
    from paczero.models.layers import plain
    from paczero.training.evaluation import make_evaluator

    model, tokenizer = load_target(target, base=base)
    records = prepare(pool, target.args.task, tokenizer, context=context_length(plain(model)))
    for note in records.cut_notes:
        warn(note)
    judge = make_evaluator(model, records, target.args, tokenizer, progress=progress)
    judge.scorer.check()
    return judge


def figures(found: "Evaluator", seen: Any) -> dict[str, float]:
    """The task's figures of what was found, how many records they are of, and the perplexity of completions."""
    result = found.figures(seen)
    if found.records.task.config.kind == "chat":
        result |= {"perplexity": math.exp(min(result["loss"], 700.0))}
    return result | {"records": len(found.records.dataset)}


def described(result: dict[str, float]) -> str:
    """The figures as a person reads them."""
    lines = []
    for name, value in result.items():
        if name in ("f1", "exact_match"):
            lines.append(f"{name.replace('_', ' '):<12} {100 * value:.1f} % of {result['records']:,} records")
        elif name != "records":
            lines.append(f"{name:<12} {value:.4f}" + (" nats a token" if name == "loss" else ""))
    return "\n".join(lines)
