"""Short texts for tables, figures and the owner's page. No release is compared with them, so they may change."""

from collections.abc import Mapping
from typing import Any

from paczero.mechanism.registry import spec_of

# What a mechanism hides (`hides` of its spec), for tables.
HIDES = {
    "half": "the secret half",
    "pool": "who is in the pool",
    "all": "all: it learns nothing",
    "nothing": "nothing",
}

# How a mechanism decides a step, for the figure `boundary`: two pairs of a bold and a plain line.
GATES = {
    "zpl": ("All agree:", "their sign", "Otherwise:", "a fair coin"),
    "mi": ("All agree:", "their sign", "Otherwise:", "the secret half's\nsign, made noisy"),
    "none": ("No gate:", "the pool's mean\nas it is", "", ""),
    "dpzero": ("The mean of\nclipped derivatives", "", "plus noise:", "a real number"),
    "dp-aggzo": ("The mean of\nclipped derivatives", "", "plus noise:", "a real number"),
    "dp-sign": ("The pool's sum", "sets the odds:", "", "a random sign"),
    "full-sign": ("No gate:", "the sign of the\npool's mean", "", ""),
    "half-sign": ("All agree:", "their sign", "Otherwise:", "the secret half's\nsign as it is"),
    "coin": ("Always:", "a fair coin", "", ""),
    "skip": ("All agree:", "their sign", "Otherwise:", "nothing (0)"),
}

_SIGNS = (
    "Each step takes a random direction. Every candidate half says which way along it, + or −, lowers its loss. Where "
    "all agree, the step follows that sign, which says nothing about which candidate is the secret one. "
)

_SUM = (
    "Each step takes random directions and computes how fast each unit's loss changes along them. Each value is "
    "clipped at c, so that one unit cannot move the sum by more. "
)
_NOISY = _SUM + "Gaussian noise hides a share of that size, and the step follows the result."

# How a mechanism keeps its promise, for the owner's page. A mechanism without a promise has no entry.
HOW_IT_WORKS = {
    "zpl": _SIGNS + "Otherwise it follows a fair coin.",
    "mi": _SIGNS
    + "Otherwise it follows the secret half's sign through noise. The amount of noise follows from the rest "
    "of the budget and from what earlier steps released.",
    "skip": _SIGNS + "Otherwise the weights do not move.",
    "coin": "Each step takes a random direction and follows a fair coin.",
    "dpzero": _NOISY,
    "dp-aggzo": _NOISY,
    "dp-sign": _SUM + "The step follows a random sign, whose odds depend on the sum so weakly that one unit hardly "
    "changes them.",
}


def delta_in_words(header: Mapping[str, Any]) -> str:
    """δ, and that it is 1/N² where it is."""
    delta = header["mechanism"]["delta"]
    return f"{delta:.3g}" + (f" (1/N² for N = {header['units']:,})" if delta == header["units"] ** -2.0 else "")


def released_values(header: Mapping[str, Any]) -> str:
    """What the released values are, in the plural."""
    spec = spec_of(header["mechanism"]["name"])
    return "real numbers" if spec.real else "values, each +1, −1 or 0" if spec.zero else "bits"
