"""What a run promises, in words that need no cryptography, and how its mechanism is called; one entry a mechanism.

>>> promise(header)                      # doctest: +SKIP
'No privacy is promised. This run (mechanism none, MeZO) trains on …'

All of it follows from the transcript's header. A release is checked against these words, so those of a mechanism that
has been released with must not change.
"""

from collections.abc import Callable, Mapping
from typing import Any

from paczero.report.verdicts import kind_of, mechanism_name, rounded_up, success, verdict

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
        return "No privacy is promised. " + (_TOO_LARGE_EPSILON if kind_of(header).private else _TOO_LARGE_BUDGET)(
            header
        )
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

# What is hidden, by what a mechanism protects (`mechanism.kinds`), for tables.
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
