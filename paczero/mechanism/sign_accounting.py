"""What the bits of `dp-sign` reveal about one unit: an exact, adaptive accountant that rounds upwards.

>>> Bits(eps0=0.04, count=500).delta(2.0) < 1e-6
True

One bit is +1 with log-odds x where the unit contributes nothing, and with log-odds x + s, |s| <= ε₀, where it
contributes. x may depend on all earlier bits (the weights do), so an adversary who chooses x at each bit bounds it.
The likelihood ratio Λ of the two cases is then a martingale where the unit is absent, and

    δ(ε) = V_0(1),   V_T(Λ) = (Λ − e^ε)₊,   V_t(Λ) = sup_x Σ_y q_x(y) V_{t+1}(Λ p_x(y)/q_x(y)).

V is convex in Λ, so the extreme s = ±ε₀ are the worst, and by exchange of the two values of y they are one case. The
two ratios of a bit are r and r/κ with κ = e^ε₀ and 1 <= r <= κ. With s = r/κ, one step takes the chord of V_{t+1}
between Λs and Λκs, at Λ, for the worst s. A secret Poisson sample at rate γ replaces a ratio r by 1 + γ(r − 1); adding
and removing the unit are then two cases, and the worse one counts.

How it is computed, with every error upwards: V is kept on a grid of ln Λ and interpolated linearly in Λ, which is above
a convex V. For an interpolated V, the chord as a function of s is (a·s + b + c/s)/(κ − 1) with a, c <= 0 on each piece
of s in which both ends stay in one cell of the grid. So its supremum is in closed form, and no x is left out. V for the
threshold e^ε is e^ε·V¹(Λe^(−ε)) with V¹ for the threshold 1: one program gives δ for every ε. Many bits are made of
blocks: the program gives a block's V¹, and two blocks in a row cost at most what the kinks of the one spread over the
other give (both have a dominating pair; Zhu, Dong & Wang 2022, arXiv 2106.08567, Theorem 10).

A closed form stands beside it: a bit is ε₀-bounded-range, so T bits are Tε₀²/8-zCDP (Cesar & Rogers 2021, arXiv
2004.07223), from which δ follows (Canonne, Kamath & Steinke 2020, arXiv 2004.00010, Proposition 12). The smaller δ
counts.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from paczero.mechanism.gaussian_accounting import epsilon_at, require_noise

Array = npt.NDArray[np.float64]

_LONGEST = 512  # bits in a block; with sampling fewer, since a bit then has more pieces
_LONGEST_SAMPLED = 128
_CELLS = 16  # cells of the grid between the two ratios of a bit; even, so that the symmetric bit lies on the grid
_CELLS_OF_BLOCK = 60  # cells in a standard deviation of a block, at least
_WIDEST = 0.04  # and no cell is wider
_TAIL = 10.0  # the grid ends so many standard deviations of ln Λ out; what lies beyond is bounded from above
_FARTHEST = 20.0  # ε beyond so many means has the δ of the grid's end, which is next to nothing
_WIDEST_GRID = 200.0  # of ln Λ to either side, so that Λ has a float
_LEAST_SHIFT = 1e-4  # of γε₀; below, differences between the two cases lose too many digits
_MOST_DEVIATION = 20.0  # of ln Λ; above, all bits together tell nearly all
_UP = 1 + 1e-6  # covers what floats lose in all steps of the program


def concentrated_delta(rho: float, epsilon: float) -> float:
    """δ at ε >= 0, at most, of ρ-zero-concentrated differential privacy."""

    def log_delta(log_excess: float) -> float:
        excess = math.exp(log_excess)  # of the order above 1
        return excess * ((1 + excess) * rho - epsilon) - log_excess - (1 + excess) * math.log1p(1 / excess)

    best = minimize_scalar(log_delta, bounds=(-20, 20), method="bounded").fun  # each order gives a bound
    return math.exp(min(best, 0.0))


@dataclass(frozen=True)
class Bits:
    """A number of bits in a row, each of which one unit can move by ε₀ in log-odds.

    Attributes:
        eps0: ε₀ > 0.
        count: T·K, how many bits.
        rate: γ in (0, 1], the Poisson rate at which each bit draws its units; 1 takes all.
        cell: the width of the grid's cells, relative to what is usual; a wider one is faster and more pessimistic.
    """

    eps0: float
    count: int
    rate: float = 1.0
    cell: float = 1.0
    _tables: dict[float, list["_Profile"]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_noise("eps0", self.eps0)

    def delta(self, epsilon: float) -> float:
        """δ at ε >= 0, at most: the smallest of what is known."""
        return min(self.exact_delta(epsilon), self.renyi_delta(epsilon), self.simple_delta())

    def simple_delta(self) -> float:
        """δ at any ε, at most: by Pinsker's inequality, and as no more than a unit that is in some sample reveals."""
        divergence = self.count * self.eps0**2 / 8
        ever_sampled = 1.0 if self.rate == 1 else -math.expm1(self.count * math.log1p(-self.rate))
        return min(math.sqrt(divergence / 2) * _UP, ever_sampled * _UP, 1.0)

    def exact_delta(self, epsilon: float) -> float:
        """δ at ε >= 0, at most, by the adaptive program; 1 where floats are too coarse, or bits tell nearly all."""
        if not self._in_reach:
            return 1.0
        found = max(profile.delta(epsilon) for profile in self._profiles(epsilon)) * _UP
        return min(found, 1.0) if math.isfinite(found) else 1.0

    def renyi_delta(self, epsilon: float) -> float:
        """δ at ε >= 0, at most, by the closed form. It takes the rate as 1, which makes it larger only."""
        return concentrated_delta(self.count * self.eps0**2 / 8, epsilon)

    def epsilon(self, delta: float) -> float:
        """ε at δ in (0, 1), at most; 0 where δ alone allows all that the bits reveal."""
        mean = 2 * self._deviation  # of a Gaussian release that reveals about as much
        if self._in_reach:
            self._profiles(
                mean**2 / 2 + mean * math.sqrt(2 * math.log(1 / delta))
            )  # one table, which reaches far enough
        return epsilon_at(self.delta, delta)

    @property
    def _in_reach(self) -> bool:
        """Whether floats are fine enough for the program, and it is worth its time."""
        return self.rate * self.eps0 >= _LEAST_SHIFT and self._deviation <= _MOST_DEVIATION

    @property
    def _deviation(self) -> float:
        """About the standard deviation of ln Λ after all bits."""
        return self.rate * math.sinh(min(self.eps0, 100.0) / 2) * math.sqrt(self.count)

    def _profiles(self, epsilon: float) -> list["_Profile"]:
        """V¹ of the one or two cases, down to ln Λ = −ε; a grid that goes further down serves, too."""
        mean = 2 * self._deviation
        farthest = mean**2 / 2 + _FARTHEST * mean
        needed = min(epsilon, farthest)
        reach = min((known for known in self._tables if known >= needed), default=min(1.25 * epsilon, farthest))
        if reach not in self._tables:
            cases, cells = (False, True) if self.rate < 1 else (False,), 4 if self.cell > 1 else _CELLS
            self._tables[reach] = [
                self._compose(_Bit(self.eps0, self.rate, swapped, cells), reach) for swapped in cases
            ]
        return self._tables[reach]

    def _compose(self, bit: "_Bit", reach: float) -> "_Profile":
        """All bits, as 2^d equal blocks; the last block may have some bits too many, which reveal more only."""
        longest = _LONGEST if self.rate == 1 else _LONGEST_SAMPLED
        doublings = max(0, math.ceil(math.log2(self.count / longest)))
        size = math.ceil(self.count / 2**doublings)
        deviation = self._deviation / math.sqrt(self.count / size)  # of a block
        profile = _program(bit, size, _TAIL * deviation, 0.0 if doublings else reach)
        for left in reversed(range(doublings)):
            while _CELLS_OF_BLOCK * profile.cell < deviation:
                profile = profile.coarser()
            deviation *= math.sqrt(2)
            profile = profile.twice(_TAIL * deviation, 0.0 if left else reach)
        return profile


@dataclass(frozen=True)
class _Bit:
    """One bit as the adversary can shape it, by s in [1/κ, 1].

    Without sampling the two ratios are s and κs. With it they are 1 − γ + γs and 1 − γ + γκs, or their inverses where
    the two cases are swapped.
    """

    eps0: float
    rate: float
    swapped: bool
    cells: int

    @property
    def kappa(self) -> float:
        return math.exp(self.eps0)

    @property
    def cell(self) -> float:
        """The width of a cell of the grid, in ln Λ."""
        width = self.eps0 if self.rate == 1 else 2 * self.rate * math.sinh(self.eps0 / 2)
        widest = _WIDEST * _CELLS / self.cells
        cells = max(self.cells, 2 * math.ceil(width / widest / 2))
        return width / cells

    def log_ratios(self, s: float) -> tuple[float, float]:
        """The logarithms of the two ratios: of s and of κs."""
        values = (s, self.kappa * s)
        near, far = (math.log(v) if self.rate == 1 else math.log1p(self.rate * (v - 1)) for v in values)
        return (-near, -far) if self.swapped else (near, far)

    def pieces(self, cell: float) -> list[tuple[float, float, int, int]]:
        """The pieces of [1/κ, 1] in each of which both ratios stay in one cell, with these two cells."""
        low, high = 1 / self.kappa, 1.0
        reach = math.ceil(max(map(abs, (*self.log_ratios(low), *self.log_ratios(high)))) / cell)
        ratios = 1 + np.expm1(np.arange(-reach, reach + 1) * cell) / self.rate
        cuts = np.sort(np.concatenate([ratios, ratios / self.kappa]))
        cuts = cuts[(cuts > low * (1 + 1e-12)) & (cuts < 1 - 1e-12)]
        ends = [low, *cuts[np.diff(cuts, prepend=0) > 1e-9 * self.eps0].tolist(), high]
        found = []
        for start, stop in pairwise(ends):
            near, far = (math.floor(ratio / cell) for ratio in self.log_ratios(math.sqrt(start * stop)))
            found.append((start, stop, near, far))
        return found

    def lines(self, offset: Array, slope: Array, ratio: Array) -> tuple[Array, Array]:
        """a and b of V = offset + slope·Λ at one end, where V is a + b·s or a + b·κs.

        Swapped, V is multiplied by the inverse of the end's ratio, which its weight in the chord has as a factor.
        """
        if self.swapped:
            return offset * (1 - self.rate) + slope * ratio, self.rate * offset
        return offset + slope * ratio * (1 - self.rate), self.rate * slope * ratio


@dataclass(frozen=True)
class _Profile:
    """V for the threshold 1, on a grid of ln Λ, as its excess over (Λ − 1)₊, so that small values keep their digits.

    Attributes:
        excess: at each point of the grid; never below the true one.
        cell: the width of a cell, in ln Λ.
        zero: the index at which Λ is 1.
    """

    excess: Array
    cell: float
    zero: int

    def delta(self, epsilon: float) -> float:
        """δ at ε; below the grid, V is taken as large as at its end. NaN where a float overflowed."""
        if not np.isfinite(self.excess).all():
            return math.nan
        log = (np.arange(len(self.excess)) - self.zero) * self.cell
        call = self.excess + np.maximum(np.expm1(log), 0.0)
        value = float(np.interp(math.exp(-epsilon), np.exp(log), call))
        if value == 0:
            return 0.0
        return math.exp(min(epsilon + math.log(value), 0.0)) if value > 0 else math.nan

    def at(self, indices: npt.NDArray[np.int64]) -> Array:
        """The excess at indices that may lie beyond the grid: below it falls with Λ at least, above it never grows."""
        inside = self.excess[np.clip(indices, 0, len(self.excess) - 1)]
        return inside * np.exp(np.minimum(indices, 0) * self.cell)

    def coarser(self) -> "_Profile":
        """With every other point of the grid: linear in between, so nowhere below."""
        return _Profile(self.excess[self.zero % 2 :: 2], 2 * self.cell, self.zero // 2)

    def twice(self, tail: float, reach: float) -> "_Profile":
        """Of two such blocks, one after the other."""
        zero, size = _grid(self.cell, tail, reach)
        steps = np.arange(size) - zero
        around = self.at(np.arange(-size, size + 1) + self.zero)
        excess = self.at(steps + self.zero)
        ratio, last = np.exp(steps * self.cell), size - 1
        call, put = (excess + np.maximum(sign * np.expm1(steps * self.cell), 0.0) for sign in (1, -1))
        rising, falling = (np.diff(values) / np.diff(ratio) for values in (call, put))
        kinks = np.empty(size)
        kinks[1:last] = np.where(steps[1:last] <= 0, np.diff(rising), np.diff(falling))
        kinks[0], kinks[last] = rising[0] - call[0] / ratio[0], -falling[-1]
        spread = np.convolve(np.maximum(kinks, 0.0) * ratio, around)[size : 2 * size]
        return _Profile(excess + spread, self.cell, zero)


def _grid(cell: float, tail: float, reach: float) -> tuple[int, int]:
    """The index of Λ = 1 and the number of points, for a grid of ln Λ from −(tail + reach) to the tail."""
    tail, reach = min(tail, _WIDEST_GRID), min(reach, _WIDEST_GRID)
    zero = math.ceil((tail + reach) / cell) + 1
    return zero, zero + math.ceil(tail / cell) + 2


def _program(bit: _Bit, count: int, tail: float, reach: float) -> _Profile:
    """V¹ of `count` bits, by value iteration."""
    cell = bit.cell
    pieces = bit.pieces(cell)
    margin = 1 + max(max(abs(near), abs(far)) for *_, near, far in pieces)
    zero, size = _grid(cell, tail, reach)
    wide = np.arange(-margin, size + margin)
    log, ratio = (wide - zero) * cell, np.exp((wide - zero) * cell)
    payoffs = [np.maximum(np.expm1(log), 0.0), np.maximum(-np.expm1(log), 0.0)]
    profile = _Profile(np.zeros(size), cell, zero)
    for _ in range(count):
        excess, halves = profile.at(wide), []
        # Below the threshold V is small. Above it V − (Λ − 1) is small, and the chord of a line is the line.
        for rows, payoff in zip((slice(0, zero), slice(zero, size)), payoffs, strict=True):
            inner = slice(rows.start, rows.stop + 2 * margin)
            worst = _worst_chords(bit, pieces, (excess + payoff)[inner], ratio[inner], margin)
            halves.append(worst - payoff[inner][margin:-margin])
        profile = _Profile(np.concatenate(halves), cell, zero)
    return profile


def _worst_chords(
    bit: _Bit, pieces: list[tuple[float, float, int, int]], values: Array, ratio: Array, margin: int
) -> Array:
    """sup over s of the chord of `values` at each point but the `margin` at either end; never below the value there."""
    slope = np.diff(values) / np.diff(ratio)
    offset = values[:-1] - slope * ratio[:-1]
    size, here, kappa = len(values) - 2 * margin, ratio[margin:-margin], bit.kappa
    worst = values[margin:-margin].copy()
    for start, stop, near, far in pieces:
        a, b = bit.lines(offset[margin + near :][:size], slope[margin + near :][:size], here)
        c, d = bit.lines(offset[margin + far :][:size], slope[margin + far :][:size], here)
        # ((κs − 1)(a + bs) + (1 − s)(c + dκs)) / ((κ − 1)s)
        linear, inverse = np.minimum(kappa * (b - d), 0.0), np.minimum(c - a, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            s = np.sqrt(inverse / linear)
        s = np.clip(np.nan_to_num(s, nan=start), start, stop)
        chord = (linear * s + (kappa * (a + d) - b - c) + inverse / s) / math.expm1(bit.eps0)
        np.maximum(worst, np.where(np.isfinite(chord), chord, np.nan), out=worst)  # NaN stays, and counts as 1
    return worst
