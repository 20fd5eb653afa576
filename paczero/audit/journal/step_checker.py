"""Checks each step of a journal given the steps before it: q, information, share, charge, release, posterior.

>>> posterior = Posterior(4)
>>> signs = np.array([True, True, True, False])
>>> posterior.observe(signs, plus=mp.mpf(9), minus=mp.mpf(1))
>>> posterior.probabilities().round(3).tolist()
[0.321, 0.321, 0.321, 0.036]

Rules: the paper's (arXiv 2605.06505), and our bit channel and adaptive allocation. Shares and sums are exact
(`fractions`), probabilities have 50 digits (`mpmath`).
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paczero.audit.arrays import Bools
from paczero.audit.journal.information import Number, bit_information, entropy, gaussian_information, mp
from paczero.audit.journal.reader import Entry, Setting
from paczero.audit.journal.result import Finding, ReleaseFigures

# Tolerance relative to the figure or the step's share, for each 10,000 contested releases: ten times the rounding error
# of floats, and small enough that all steps together exceed the budget by at most 1e-12 of it.
_LEAK, _MANY = Fraction(1, 10**12), 10_000

_SAME = 1e-9

_WASTE = 1e-4  # relative: how far the information may stay below the share

_NIL = 1e-280  # nats: below it floats lose digits, and the largest noise is used

_KEPT, _LONGEST = 200, 200  # findings kept, characters of each text in a finding

_FLIP = 2**64  # f is a multiple of one part in so many

# Mechanisms with candidates: the noise and the values that a contested release may have. `mi` solves for its noise.
CONTESTED = {"zpl": (0.5, (1, -1)), "skip": (0.0, (0,)), "half-sign": (0.0, (1, -1)), "mi": (None, (1, -1))}

_REAL = ("none", "dpzero", "dp-aggzo")

PLAIN = (*_REAL, "dp-sign", "full-sign", "coin")  # mechanisms without candidates


class Split(NamedTuple):
    """The division of the possible candidates by the sign of one direction.

    Attributes:
        plus: probability of a positive sign.
        minority: probability of the less likely sign.
        common: the sign of all, or 0 where there are both.
    """

    plus: Number
    minority: Number
    common: int


class Posterior:
    """The posterior over candidates, as weights of 50 digits; 0 for a candidate that a noiseless release excluded.

    Args:
        subsets: M.
        start: (M,) probabilities to start from; all alike where left out.
    """

    def __init__(self, subsets: int, start: Sequence[Number] | None = None) -> None:
        self._weights: list[Number] = list(start or [mp.mpf(1)] * subsets)

    def split(self, signs: Bools) -> Split:
        """See `Split`; signs (M,), true for positive."""
        flags = signs.tolist()
        plus = [weight for weight, flag in zip(self._weights, flags, strict=True) if flag and weight]
        minus = [weight for weight, flag in zip(self._weights, flags, strict=True) if not flag and weight]
        mass, rest = mp.fsum(plus), mp.fsum(minus)
        common = 0 if plus and minus else 1 if plus else -1
        return Split(mass / (mass + rest), min(mass, rest) / (mass + rest), common)

    def observe(self, signs: Bools, *, plus: Number, minus: Number) -> None:
        """Bayes' rule: each candidate's weight times the likelihood of the release under its sign."""
        likelihood = {True: plus, False: minus}
        pairs = zip(self._weights, signs.tolist(), strict=True)
        self._weights = [weight * likelihood[flag] for weight, flag in pairs]

    def probabilities(self) -> npt.NDArray[np.float64]:
        """(M,) summing to 1, each rounded once."""
        total = mp.fsum(self._weights)
        return np.array([float(weight / total) for weight in self._weights])


class StepChecker:
    """Checks the steps of a journal in order.

    Args:
        setting: the run's header.
        start: (M,) what earlier runs with the same secret told about it; nothing where left out.

    Attributes:
        posterior: the posterior after the steps so far.
        spent: the exact sum of charges, nats.
        information: the total information that the noise lets through, nats.
        findings: the first 200.
        found: the number of findings.
        unanimous, contested: number of releases of each kind, for mechanisms with candidates.
    """

    def __init__(self, setting: Setting, start: Sequence[Number] | None = None) -> None:
        self.setting = setting
        self.posterior, self._uniform = Posterior(setting.subsets, start), Posterior(setting.subsets)
        self.spent = Fraction(0)
        self.information = mp.mpf(0)
        self.findings: list[Finding] = []
        self.found = 0
        self.unanimous = self.contested = 0
        self._next = 0
        self._exceeded: set[str] = set()
        self._uncertainty = self._measure_uncertainty()

    def note(self, step: int | None, direction: int | None, what: str, found: object, expected: object) -> None:
        """Keeps a finding; each of its texts is cut to one short line."""
        self.found += 1
        if len(self.findings) < _KEPT:
            self.findings.append(Finding(step, direction, what, _line(str(found)), _line(str(expected))))

    def take(self, entry: Entry) -> Iterator[ReleaseFigures]:
        """The K releases of the next step, each checked."""
        if entry.step != self._next:
            self.note(self._next, None, "step", f"step {entry.step}", f"step {self._next}")
        step = entry.step if 0 <= entry.step < self.setting.steps else min(self._next, self.setting.steps - 1)
        self._next = step + 1
        if not entry.chained:
            self.note(step, None, "chain", "it does not match this line and the one before", "an unchanged line")
        share = self._share(step)
        for k in range(self.setting.directions):
            if entry.signs:
                yield self._of_candidates(step, k, entry, share)
            else:
                yield self._plain(step, k, entry)

    def _share(self, step: int) -> Fraction:
        """Nats that each direction of a step may spend."""
        if self.setting.name != "mi":
            return Fraction(0)
        budget = Fraction(self.setting.budget or 0.0)
        left = max(budget - self.spent, Fraction(0))
        if self.setting.mechanism.get("allocation", "adaptive") == "uniform":
            whole = min(budget / self.setting.steps, left)
        else:
            whole = left / (self.setting.steps - step)
        return whole / self.setting.directions

    def _of_candidates(self, step: int, k: int, entry: Entry, share: Fraction) -> ReleaseFigures:
        signs, noise = entry.signs[k], entry.noise[k]
        real = self.posterior.split(signs)
        # Only `mi` uses earlier releases; for the others all candidates stay possible.
        split = real if self.setting.name == "mi" else self._uniform.split(signs)
        if entry.unanimous[k] != (split.common != 0):
            words = {True: "all candidates agree", False: "candidates disagree"}
            self.note(step, k, "unanimity", words[entry.unanimous[k]], words[split.common != 0])
        if abs(mp.mpf(entry.q[k]) - split.plus) > max(_SAME * split.plus, _NIL):
            self.note(step, k, "q", repr(entry.q[k]), mp.nstr(split.plus, 17))
        self.unanimous += split.common != 0
        self.contested += split.common == 0
        leak = self._leak(real, noise)
        self._check_noise(step, k, split, noise, leak, share)
        self._check_charge(step, k, entry.beta[k], leak, share)
        self._check_release(step, k, entry, split)
        if real.common == 0:
            self._learn(signs, entry, k)
        return self._figures(step, k, entry, real, leak, share)

    def _leak(self, real: Split, noise: float) -> Number:
        """Information about S* in a release with this noise, nats."""
        if real.common or self.setting.name in ("zpl", "skip"):  # these never read S*
            return mp.mpf(0)
        if self.setting.name == "half-sign":
            return entropy(real.minority)
        if self._gaussian:
            return gaussian_information(real.minority, mp.mpf(max(noise, 0.0)))
        return bit_information(real.minority, _flip(noise))

    def _check_noise(self, step: int, k: int, split: Split, noise: float, leak: Number, share: Fraction) -> None:
        wanted = 0.0 if split.common else CONTESTED[self.setting.name][0]
        if wanted is not None:
            if noise != wanted:
                self.note(step, k, "noise", repr(noise), repr(wanted))
            return
        if noise < 0 or not (self._gaussian or (noise <= 0.5 and (Fraction(noise) * _FLIP).denominator == 1)):
            self.note(step, k, "noise", repr(noise), "σ >= 0" if self._gaussian else "0 to 1/2, in units of 2^-64")
            return
        target = min(_mpf(share), entropy(split.minority))
        least = target * (1 - _WASTE)
        if noise == 0 or target < _NIL or leak >= least:
            return
        # Too much noise, unless the next smaller f already exceeds the share.
        if self._gaussian or bit_information(split.minority, _flip(noise * (1 - 2**-48) - 2**-62)) < least:
            found = f"{noise!r}, which lets {mp.nstr(leak, 17)} nats through"
            self.note(step, k, "noise", found, f"noise that lets {mp.nstr(target, 17)} nats through")

    def _check_charge(self, step: int, k: int, charged: float, leak: Number, share: Fraction) -> None:
        owed = leak if self.setting.name == "mi" else mp.mpf(0)  # the others leak nothing or promise nothing
        short = charged < 0 or owed - mp.mpf(charged) > max(self._slack * max(owed, _mpf(share)), _NIL)
        if short or abs(mp.mpf(charged) - owed) > max(_SAME * owed, _NIL):
            self.note(step, k, "charge", f"{charged!r} nats", f"{mp.nstr(owed, 17)} nats, as this noise lets through")
        if Fraction(charged) > share * (1 + _LEAK):
            self.note(step, k, "share", f"{charged!r} nats were charged", f"at most {float(share)!r} nats")
        self.spent += Fraction(max(charged, 0.0))
        self.information += leak
        budget = self.setting.budget
        if budget is not None:
            self._once(step, k, "budget", f"{float(self.spent)!r} nats in all", self.spent > Fraction(budget), budget)
            exceeded = self.information > mp.mpf(budget) * (1 + self._slack)
            self._once(step, k, "information", f"{mp.nstr(self.information, 17)} nats in all", exceeded, budget)

    def _once(self, step: int, k: int, what: str, found: str, exceeded: bool, budget: float) -> None:
        """Notes only the first time that the budget is exceeded."""
        if exceeded and what not in self._exceeded:
            self._exceeded.add(what)
            self.note(step, k, what, found, f"at most the budget, {budget!r} nats")

    def _check_release(self, step: int, k: int, entry: Entry, split: Split) -> None:
        y, output = entry.y[k], None if entry.output is None else entry.output[k]
        if (output is not None) != self._gaussian:
            self.note(step, k, "release", f"its output is {output!r}", "a real number of the gaussian channel only")
        allowed = (split.common,) if split.common else CONTESTED[self.setting.name][1]
        if self._gaussian and output is not None and not split.common:
            allowed = (1 if output >= 0 else -1,)
        fine = output is None or entry.noise[k] > 0 or output == y  # without noise, the sign itself
        if type(y) is not int or y not in allowed or not fine:
            found = repr(y) if output is None else f"{y!r} of {output!r}"
            self.note(step, k, "release", found, " or ".join(map(str, allowed)))

    def _learn(self, signs: Bools, entry: Entry, k: int) -> None:
        """Updates the posterior by a contested release, with the noise that the journal states."""
        if self.setting.name in ("zpl", "skip"):
            return
        if self._gaussian and entry.noise[k] > 0:
            if math.isinf(entry.noise[k]) or entry.output is None:
                return
            pull = mp.mpf(entry.output[k]) / mp.mpf(entry.noise[k]) ** 2  # densities e^±pull, up to a common factor
            self.posterior.observe(signs, plus=mp.exp(pull), minus=mp.exp(-pull))
        else:
            flip = _flip(entry.noise[k]) if self.setting.name == "mi" and not self._gaussian else mp.mpf(0)
            kept, positive = 1 - flip, entry.y[k] > 0
            self.posterior.observe(signs, plus=kept if positive else flip, minus=flip if positive else kept)
        self._uncertainty = self._measure_uncertainty()

    def _plain(self, step: int, k: int, entry: Entry) -> ReleaseFigures:
        """Checks a release of a mechanism without candidates; it reveals nothing about S*."""
        name = self.setting.name
        stated = self.setting.mechanism
        noise = float(stated.get("eps0", stated.get("sigma", 0.0)))
        for what, found, expected in (
            ("unanimity", entry.unanimous[k], False),
            ("q", entry.q[k], 0.5),
            ("charge", entry.beta[k], 0.0),
            ("noise", entry.noise[k], noise),
        ):
            if found != expected:
                self.note(step, k, what, repr(found), repr(expected))
        y = entry.y[k]
        if type(y) is not (float if name in _REAL else int) or (name not in _REAL and y not in (1, -1)):
            self.note(step, k, "release", repr(y), "a real number" if name in _REAL else "1 or -1")
        half = mp.mpf(1) / 2
        return self._figures(step, k, entry, Split(half, half, 0), mp.mpf(0), Fraction(0))

    def _figures(self, step: int, k: int, entry: Entry, split: Split, leak: Number, share: Fraction) -> ReleaseFigures:
        noise = entry.noise[k]
        return ReleaseFigures(
            step=step,
            direction=k,
            unanimous=split.common != 0,
            q=float(split.plus),
            noise=None if math.isinf(noise) else noise,
            share=float(share),
            charged=entry.beta[k],
            information=float(leak),
            released=float(entry.y[k]),
            spent=float(self.spent),
            entropy=self._uncertainty[0],
            likeliest=self._uncertainty[1],
        )

    def _measure_uncertainty(self) -> tuple[float, float]:
        """Entropy of the posterior in nats, and its largest probability."""
        p = self.posterior.probabilities()
        return float(-(p[p > 0] * np.log(p[p > 0])).sum()) + 0.0, float(p.max())

    @property
    def _slack(self) -> Number:
        return _mpf(_LEAK * (1 + self.contested // _MANY))

    @property
    def _gaussian(self) -> bool:
        return self.setting.name == "mi" and self.setting.mechanism.get("channel", "bit") == "gaussian"


def _flip(noise: float) -> Number:
    """f as a number of 50 digits, clipped to [0, 1/2]."""
    return mp.mpf(min(max(noise, 0.0), 0.5))


def _line(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _mpf(value: Fraction) -> Number:
    return mp.mpf(value.numerator) / value.denominator
