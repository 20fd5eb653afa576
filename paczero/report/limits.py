"""What a run does not promise, one matter an entry: as complete as we know, for each kind of mechanism.

>>> not_promised(header)[0]              # doctest: +SKIP
'It does not hide whether somebody is in the pool at all. …'

A release is checked against these words, so those of a mechanism that has been released with must not change.
"""

import math
from collections.abc import Mapping
from typing import Any

from paczero.report.verdicts import kind_of, mechanism_name, verdict

Header = Mapping[str, Any]


def not_promised(header: Header) -> list[str]:
    """What is not promised, one matter an entry, complete for the mechanism of this header."""
    kind = kind_of(header)
    if kind.protects == "all":
        return [_DEVELOPMENT_SCORED]
    if kind.private:
        return _of_privacy(header)
    return _of_nothing(header) if kind.protects == "nothing" else _of_halves(header)


def _of_nothing(header: Header) -> list[str]:
    hidden = "which half of it was the secret one, " if kind_of(header).candidates else ""
    return [
        f"Nothing is hidden: neither {hidden}which records were in the pool nor what they say.",
        "Every record of the pool influences the model, and the model may repeat what it learned from any of them.",
        _DEVELOPMENT,
        _HELP,
    ]


def _of_halves(header: Header) -> list[str]:
    name, kept = mechanism_name(header), verdict(header) == "kept"
    entries = [
        ""
        if kept
        else "It hides nothing, not even which half of the pool was the secret one. What follows is not "
        "promised by the mechanism of this run at any budget, with any coins.",
        "It does not hide whether somebody is in the pool at all. At best it hides which half of the pool was the "
        "designated one. Drawing the pool secretly from a larger collection makes a blind guess worse and bounds "
        "nothing.",
        "Every record of the pool influences the model, in whichever half it is, and the model may repeat what it "
        "learned from any of them.",
        _one_record(name),
        _AVERAGE if kept and name == "mi" else "",
        _company(header),
        "A person with several records is one unit only where a unit column (task.unit_column) says so. Otherwise "
        "each record goes its "
        "own way: of k records that are assigned independently, at least one is in the secret half with probability "
        "1 - 2^-k before anything is released.",
        _reuse(header),
        _DEVELOPMENT_SCORED,
        _FILES_ONLY,
        _HELP,
    ]
    return [entry for entry in entries if entry]


def _of_privacy(header: Header) -> list[str]:
    entries = [
        ""
        if verdict(header) == "kept"
        else "It hides nothing, not even who was in the pool. What follows is not promised by the mechanism of this "
        "run at any ε, with any noise.",
        "It does not hide what holds for many records. The model is meant to learn that, and what it learned may tell "
        "of people who were never in the pool.",
        f"It does not hide the size of the pool. N = {header['units']:,} is public and counts as given, though δ and "
        "the size of a step are made of it.",
        "A person with several records is one unit only where a unit column (task.unit_column) says so. Otherwise "
        "each record is a unit of its own: for k records of one person, ε is k times as large, and δ more than that.",
        "Where the same records are used in other runs, ε and δ add up. This includes runs that only looked for good "
        "settings: what was chosen by looking at the pool may tell of it.",
        _DEVELOPMENT_SCORED,
        "It takes a unit's derivative as a function of that unit's own records. In floating point the last digits "
        "also depend on which records share a micro-batch. The accounting leaves that out.",
        _FILES_ONLY + " How long the run's steps took is no part of the release, and nobody else may know it.",
    ]
    return [entry for entry in entries if entry]


_DEVELOPMENT_SCORED = (
    "Records of a development set, where one was used to choose the served step, a threshold or a setting, or "
    "where its accuracy is reported, are not protected."
)
_DEVELOPMENT = (
    "Records of a development set, where one was used to choose the served step, a threshold or a setting, "
    "are not protected either."
)
_FILES_ONLY = (
    "It speaks of the files of this release only. The rest of the run (private/, report/, logs) must stay with its "
    "owner: it says more."
)
_AVERAGE = "The probability is an average. For single releases, rare ones, a guess may be right more often."
_HELP = (
    "What helps where it must stay hidden that somebody is in the pool is another mechanism. It must be "
    "(ε, δ)-differentially private over the pool, which the mechanism of this run is not."
)


def _one_record(name: str) -> str:
    if name == "skip":
        return (
            "It is not differential privacy. One record added to the pool can turn a step on which all candidate "
            "halves agree into one that is skipped, and everybody sees which steps were. Whoever asks whether that "
            "record is in the pool may know it from that one step."
        )
    return (
        "It is not differential privacy. One record added to the pool can turn a step on which all candidate halves "
        f"agree into {'a' if name == 'zpl' else 'nearly a'} coin flip: whoever asks whether that record is in the pool "
        "may be right 3 times out of 4 from that one step, and there are many steps."
    )


def _company(header: Header) -> str:
    """What knowledge of other units tells, which depends on how the candidates were drawn."""
    known = max(1, math.ceil(math.log2(header["subsets"])))
    family = header["family"]
    if family == "paired":
        how = (
            "In this family (paired) units go in pairs of which each candidate takes one: who knows the half of a "
            "unit knows that of its partner"
        )
    elif family == "balanced":
        how = (
            "In this family (balanced) the candidates are made to resemble each other and each comes with its "
            "complement, so that the halves of different units are not independent"
        )
    else:
        how = f"This family ({family}) draws each candidate by itself"
    return (
        f"Who already knows the half of some units may know that of others before anything is released. {how}, and "
        f"about log2 M = {known} known units are enough to tell which of the {header['subsets']:,} candidates it is."
        + (" The probability p is that of somebody who starts from 1/2." if verdict(header) == "kept" else "")
    )


def _reuse(header: Header) -> str:
    if not header["budget"]:
        return (
            "Where the same secret half is used in other runs, budgets add up. This run adds 0 nats, others what "
            "theirs allow."
        )
    return (
        "Where the same secret half is used in other runs, budgets add up. The probability then follows from their "
        f"sum, of which this run is {header['budget']:g} nats."
    )
