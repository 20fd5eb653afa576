"""The promise in three sentences, alike on the model card and in the report: what is hidden, what is not, what helps.

>>> hidden, not_hidden, helps = three_sentences(header)         # doctest: +SKIP
>>> not_hidden                                                  # doctest: +SKIP
'Not hidden: whether somebody is in the pool at all; every record of it shapes the model.'

Every number in them is the run's own; `promise` and `not_promised` say the same at length.
"""

from collections.abc import Mapping
from typing import Any

from paczero.report.verdicts import kind_of, mechanism_name, rounded_up, success, verdict

_SHAPES = "every record of it shapes the model"
_OWNER = "publish release/ and nothing else of the run"


def three_sentences(header: Mapping[str, Any]) -> tuple[str, str, str]:
    """What is hidden, what is not hidden, and what helps.

    Args:
        header: the transcript's.
    """
    kind, kept = kind_of(header), verdict(header)
    if kept == "void":
        return (
            "Hidden: nothing, for this run was made with a test seed from which anybody can compute its secrets.",
            f"Not hidden: who is in the pool and which half was the secret one; {_SHAPES}.",
            "What helps: train again without test_seed.",
        )
    if kept == "nothing":
        return (
            "Hidden: nothing, for this run promises no privacy.",
            f"Not hidden: who is in the pool and what its records say; {_SHAPES}.",
            "What helps: zpl or mi with a budget below ln 2 nats hide which half of the pool was the secret one, and "
            "dp-sign with a small ε hides who is in the pool.",
        )
    if kind.protects == "all":
        return (
            "Hidden: everything, for fair coins decided every step and no record of the pool shaped the model.",
            "Not hidden: records of a development set, where one was used.",
            f"What helps: nothing is needed for the pool; {_OWNER}.",
        )
    p = rounded_up(success(header))
    if kind.private:
        mechanism = header["mechanism"]
        return (
            f"Hidden: who of the {header['units']:,} units is in the pool; a guess about any one is right with "
            f"probability {p} at most (ε = {mechanism['epsilon']:g}, δ = {mechanism['delta']:.3g}; a blind guess: "
            "0.5).",
            "Not hidden: what holds for many records, and the records of a development set.",
            f"What helps: a smaller ε; {_OWNER}.",
        )
    average = ", on average over releases" if mechanism_name(header) == "mi" else ""
    return (
        f"Hidden: which half of the {header['units']:,} units was the secret one; a guess about any one unit is right "
        f"with probability {p} at most{average} (I = {header['budget']:g} nats; a blind guess: 0.5).",
        f"Not hidden: whether somebody is in the pool at all; {_SHAPES}.",
        f"What helps if being in the pool is the secret: dp-sign, which is differentially private; {_OWNER}.",
    )
