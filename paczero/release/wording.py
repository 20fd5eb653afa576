"""What a run promises, in words that need no cryptography, and how its mechanism is called; one entry a mechanism.

>>> promise(header)                      # doctest: +SKIP
'No privacy is promised. This run (mechanism none, MeZO) trains on …'

All of it follows from the transcript's header. A release is checked against these words, so those of a mechanism that
has been released with must not change.

What a run does not promise, one matter an entry: as complete as we know, for each kind of mechanism.

>>> not_promised(header)[0]              # doctest: +SKIP
'It does not hide whether somebody is in the pool at all. …'

A release is checked against these words, so those of a mechanism that has been released with must not change.

The promise in three sentences, alike on the model card and in the report: what is hidden, what is not, what helps.

>>> hidden, not_hidden, helps = three_sentences(header)         # doctest: +SKIP
>>> not_hidden                                                  # doctest: +SKIP
'Not hidden: whether somebody is in the pool at all; every record of it shapes the model.'

Every number in them is the run's own; `promise` and `not_promised` say the same at length.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from paczero.release.guarantee import kind_of, mechanism_name, rounded_up, success, verdict

Header = Mapping[str, Any]


def promise(header: Header) -> str:
    """What is promised; begins with VOID or "No privacy" where nothing is."""
    kind, name = verdict(header), mechanism_name(header)
    if kind == "void":
        return (
            f"VOID: nothing is promised. This run took its secret half, its coins and its noise from a test seed "
            f"({header['test_seed']}), so that anybody can compute them. It is for testing only."
        )
    if name in _NOTHING:
        return f"No privacy is promised. This run (mechanism {_NOTHING[name]}"
    if kind == "nothing":
        return "No privacy is promised. " + (_TOO_LARGE_EPSILON if kind_of(header).is_dp else _TOO_LARGE_BUDGET)(header)
    return _PROMISES[name](header)


def delta_in_words(header: Header) -> str:
    """δ, and where it comes from if it is the default."""
    delta = header["mechanism"]["delta"]
    return f"{delta:.3g}" + (f" (1/N² for N = {header['units']:,})" if delta == header["units"] ** -2.0 else "")


def noun(header: Header) -> str:
    """What the released values are, in the plural."""
    kind = kind_of(header)
    return "real numbers" if kind.real else "values, each +1, −1 or 0" if kind.zero else "bits"


def spent_in_words(header: Header) -> str:
    """What a run without a budget of its own has spent."""
    what = DESCRIBED[mechanism_name(header)].partition(": ")[2]
    return f"spent: 0 nats ({what})" if header["budget"] is not None else f"no promise ({what})"


_NOTHING = {
    "none": (
        "none, MeZO) trains on the pool's mean derivative as it is, "
        "without noise. Take it that whatever the model learned about any record can be got out of it again."
    ),
    "full-sign": (
        "full-sign, an ablation) follows the sign of the pool's mean derivative as it is, without noise. Take it that "
        "whatever the model learned about any record can be got out of it again."
    ),
    "half-sign": (
        "half-sign, an ablation) follows the secret half's sign as it is, without noise. Whoever sees this release and "
        "knows the candidate halves may learn for certain which of them was the secret one, and take it that whatever "
        "the model learned about any record can be got out of it again."
    ),
}


def _TOO_LARGE_BUDGET(header: Header) -> str:
    return (
        f"The budget of {header['budget']:g} nats is ln 2 = 0.693 or more, at which "
        "whoever sees this release may learn for certain which half of the pool was the secret one."
    )


def _TOO_LARGE_EPSILON(header: Header) -> str:
    return (
        f"ε = {header['mechanism']['epsilon']:g} with δ = {header['mechanism']['delta']:g} bounds no probability below "
        "1, so that whoever sees this release may learn for certain who was in the pool."
    )


def _opening(header: Header) -> str:
    return (
        f"Of the pool of {header['units']:,} units (records, or people with all their records), one of M = "
        f"{header['subsets']:,} candidate halves was drawn as the secret. Take somebody who sees everything in this "
        "release, knows the whole pool, all candidate halves and the whole procedure, and has unlimited computing "
        "power. Asked of any one unit whether it was in the secret half, "
    )


def _zpl(header: Header) -> str:
    return _opening(header) + (
        f"they are right with probability at most p = {rounded_up(success(header))}: no better than the toss of a coin."
        " The secret half is "
        "never read in training, so what is released depends on it in no way (I(S*; Y) = 0 nats) and this holds "
        "for every release. "
    )


def _mi(header: Header) -> str:
    return _opening(header) + (
        f"they are right with probability at most p = {rounded_up(success(header))} (by the toss of a coin: 0.5), on "
        "average over the draw of "
        "the secret and over what the run could have released. It is not so for every release: a rare one may say "
        f"more. The whole run leaks at most B = {header['budget']:g} nats about the secret half, all "
        f"{header['steps']:,} steps together, whichever of them is served."
    )


def _skip(header: Header) -> str:
    return _zpl(header) + (
        "This run is an ablation: where the candidate halves disagree nothing is followed, and everybody sees where "
        "that was. Nothing of it depends on which of them is the secret one."
    )


def _coin(header: Header) -> str:
    return (
        f"This run is an ablation. Each of its {header['steps']:,} steps follows a fair coin, whatever the pool says: "
        "no record of the pool has any influence on what is released, and nothing was learned from them."
    )


def _private(header: Header) -> str:
    mechanism, k = header["mechanism"], header["directions"]
    return (
        "It is hidden who was in the pool at all. All of this release together is (ε, δ)-differentially private over "
        f"the pool's units (records, or people with all their records) with ε = {mechanism['epsilon']:g} and δ = "
        f"{delta_in_words(header)}, where one unit is added or removed. Take somebody who sees everything in this "
        "release, knows all other units and the whole procedure, has unlimited computing power, and holds it for as "
        "likely as not that a certain unit was in the pool: asked whether it was, they are right with probability at "
        f"most p = {rounded_up(success(header))}, that is (e^ε + δ)/(1 + e^ε). {_noise(header)} The accounting is over "
        f"all {header['steps']:,} steps{f' of {k:,} directions' if k > 1 else ''}, whichever of them is served. The "
        "secret half is never read in training, so what is released depends on it in no way (I(S*; Y) = 0 nats)."
    )


def _noise(header: Header) -> str:
    mechanism = header["mechanism"]
    rate = mechanism["sampling"]
    who = (
        "of the whole pool"
        if rate == 1
        else f"of a secret sample of the pool, which each unit is in with probability {rate:g},"
    )
    return (
        f"Each step's sum {who} has Gaussian noise of σ = {mechanism['sigma']:g} times a unit's largest share (the "
        f"clip c = {mechanism['clip']:g}), drawn from the operating system and never stored."
    )


_PROMISES: dict[str, Callable[[Header], str]] = {
    "zpl": _zpl,
    "mi": _mi,
    "skip": _skip,
    "coin": _coin,
    **dict.fromkeys(("dpzero", "dp-aggzo", "dp-sign"), _private),
}

# A mechanism in a line, for tables.
DESCRIBED = {
    "zpl": "zpl: a contested step releases a fair coin",
    "mi": "mi: a contested step releases the secret half's sign through the channel {channel}",
    "none": "none (MeZO): the real mean derivative",
    "dpzero": "dpzero: the mean derivative under Gaussian noise",
    "dp-aggzo": "dp-aggzo: the mean of clipped vectors of derivatives under Gaussian noise",
    "dp-sign": "dp-sign: the sign of the pool's sum under Gaussian noise",
    "full-sign": "full-sign (ablation): the sign of the pool's mean derivative as it is",
    "half-sign": "half-sign (ablation): a contested step releases the secret half's sign as it is",
    "coin": "coin (ablation): every step releases a fair coin",
    "skip": "skip (ablation): a contested step releases nothing",
}

# What is hidden, by what a mechanism hides (`mechanism.registry`), for tables.
HIDES = {
    "half": "the secret half",
    "pool": "who is in the pool",
    "all": "all: it learns nothing",
    "nothing": "nothing",
}

# What decides a step: two pairs of a bold and a plain line, for the figure of what stays private.
GATES = {
    "zpl": ("All agree:", "their sign", "Otherwise:", "a fair coin"),
    "mi": ("All agree:", "their sign", "Otherwise:", "the secret half's\nsign, made noisy"),
    "none": ("No gate:", "the pool's mean\nas it is", "", ""),
    "dpzero": ("The mean of\nclipped derivatives", "", "plus noise:", "a real number"),
    "dp-aggzo": ("The mean of\nclipped derivatives", "", "plus noise:", "a real number"),
    "dp-sign": ("The pool's sum", "plus noise:", "", "its sign"),
    "full-sign": ("No gate:", "the sign of the\npool's mean", "", ""),
    "half-sign": ("All agree:", "their sign", "Otherwise:", "the secret half's\nsign as it is"),
    "coin": ("Always:", "a fair coin", "", ""),
    "skip": ("All agree:", "their sign", "Otherwise:", "nothing (0)"),
}

# How the promise comes about, for the owner's page; nothing for a mechanism that promises nothing.
_ASKED = (
    "Each step takes a random direction and asks of every candidate half which way along it, + or −, lowers its loss. "
    "Where all agree, the answer tells nothing about which of them is the secret one, and it is followed. "
)

_SUMMED = (
    "Each step takes random directions and asks of every unit how fast its loss changes along them. Each answer is cut "
    "off at the clip c, so that no unit can move the sum by more than that; then Gaussian noise is added that drowns "
    "what one unit can do, and the result is followed. "
)

COMES_ABOUT = {
    "zpl": _ASKED + "Where they do not, a fair coin decides.",
    "mi": _ASKED + "Where they do not, the secret half's answer is followed through noise, as much of it as the rest "
    "of the budget and all that earlier steps told demand.",
    "skip": _ASKED + "Where they do not, the weights stay where they are.",
    "coin": "Each step takes a random direction, and a fair coin says which way to go.",
    "dpzero": _SUMMED,
    "dp-aggzo": _SUMMED,
    "dp-sign": _SUMMED.replace("the result is followed", "the sign of the result is followed"),
}


def not_promised(header: Header) -> list[str]:
    """What is not promised, one matter an entry, complete for the mechanism of this header."""
    kind = kind_of(header)
    if kind.hides == "all":
        return [_DEVELOPMENT_SCORED]
    if kind.is_dp:
        return _of_privacy(header)
    return _of_nothing(header) if kind.hides == "nothing" else _of_halves(header)


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
    if kind.hides == "all":
        return (
            "Hidden: everything, for fair coins decided every step and no record of the pool shaped the model.",
            "Not hidden: records of a development set, where one was used.",
            f"What helps: nothing is needed for the pool; {_OWNER}.",
        )
    p = rounded_up(success(header))
    if kind.is_dp:
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
