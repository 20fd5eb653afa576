"""Positive controls: broken mechanisms, rebuilt deliberately. A valid audit catches each of them.

    [control.caught for control in controls()]
    # [True, True, True, ...]

Each is a release object that goes through the same loop, files, attacks and tests as an honest mechanism
(`simulation`, `reruns`), on losses that cost little (`losses`). Some of them lie in their journal too, as a mistake in
the code would. Training cannot reach this code. Honest mechanisms go the same way and must *not* be caught. Sources:
the authors' code (repository bilgehanertan/paczero) for the seeded secret, the bisection with an absolute tolerance and
the posterior that is lost; the others are ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paczero.audit.losses import QuadraticLosses
from paczero.audit.reruns import GOOD, RerunsResult, attack
from paczero.audit.simulation import Progress, Simulation, scratch, settings
from paczero.config import MechanismConfig, PACZeroConfig
from paczero.mechanism.base import Mechanism, UnitIndices
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.dp import DPSign
from paczero.mechanism.pac import MI, ZPL, Signs, _Terms
from paczero.mechanism.randomness import Coins, RandomStreams, poisson_sample
from paczero.mechanism.secret import create_secret, open_secret
from paczero.training.factory import make_mechanism

_UNITS, _SUBSETS, _STEPS = 32, 32, 24
_INTERRUPTED = 6  # steps between two interruptions
_SEED = 42  # an unchanged default

Build = Callable[..., Mechanism]


@dataclass(frozen=True)
class Control:
    """A deliberate leak, and whether it is caught.

    Attributes:
        name: of the leak.
        meaning: the defect, in a sentence.
        leaks: whether there is a leak; False for an honest mechanism, which must not be caught.
        caught: whether the decision is the right one.
        caught_by: the attacks and tests that failed.
        detail: what the first of them saw.
        runs: number of re-runs.
    """

    name: str
    meaning: str
    leaks: bool
    caught: bool
    caught_by: str
    detail: str
    runs: int


@dataclass(frozen=True)
class Broken:
    """A mechanism that does not do what its settings promise; with the defaults, an honest one.

    Attributes:
        name, meaning: as in `Control`.
        mechanism: what is promised.
        build: makes the release object.
        draw_secret: writes the file of S*.
        runs: number of re-runs.
        leaks: as in `Control`.
        good: as for `Simulation`; with 0.95 many releases are unanimous or nearly so.
    """

    name: str
    meaning: str
    mechanism: MechanismConfig
    build: Build = make_mechanism
    draw_secret: Callable[..., None] = create_secret
    runs: int = 40
    leaks: bool = True
    good: float = 0.5


def controls(
    *,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    chosen: "tuple[Broken, ...] | None" = None,
    model: bool = False,
) -> tuple[Control, ...]:
    """Runs all of them.

    Args:
        seed: public, of models and records; coins and secrets come from where the mechanism draws them.
        progress: called with (name, done, total).
        chosen: the mechanisms to run; all by default.
        model: as for `audited`.
    """
    found = []
    for number, broken in enumerate(BROKEN if chosen is None else chosen):
        progress(f"deliberate leaks, {broken.name}", number, len(BROKEN))
        found.append(_judged(broken, audited(broken, seed=seed, model=model)))
    return tuple(found)


def audited(broken: Broken, *, runs: int | None = None, seed: int = 0, model: bool = False) -> RerunsResult:
    """The re-runs of one mechanism, judged by what its settings promise.

    Args:
        broken: the mechanism.
        runs: number of re-runs; its own by default.
        seed: public.
        model: whether it trains the small language model, as re-runs do. By default it trains on quadratic losses:
            mechanism, loop, files, attacks and tests are the same, and forward passes are left out.
    """
    args = settings(broken.mechanism, steps=_STEPS)
    losses = None if model else QuadraticLosses(_UNITS, good=broken.good, seed=seed)
    made = Simulation(
        args, units=_UNITS, good=broken.good, seed=seed, build=broken.build, draw_secret=broken.draw_secret,
        losses=losses,
    )  # fmt: skip
    with scratch() as root:
        trials = [made.run(root / str(number)) for number in range(broken.runs if runs is None else runs)]
    return attack(trials, made, seed=seed)


def failed_of(result: RerunsResult) -> list[tuple[str, str]]:
    """(name, what was seen) of the tests and attacks that fail."""
    found = [(test.name, test.detail) for test in result.channel if test.failed]
    told = result.information
    if told is not None and told.exceeded:
        found.append(("information", f"{told.low:.3f} nats or more, where {told.budget:g} are promised"))
    for made in result.attacks:
        if made.comparison.exceeded:
            interval = made.comparison.interval
            detail = f"right in {interval.estimate:.1%} of runs, where {made.comparison.bound:.1%} is allowed"
            found.append((made.title, detail))
    return found


def _judged(broken: Broken, result: RerunsResult) -> Control:
    failed = failed_of(result)
    by = "; ".join(name for name, _ in failed) or "none"
    detail = f"{failed[0][1]}; {result.runs} re-runs" if failed else f"nothing fails in {result.runs} re-runs"
    return Control(broken.name, broken.meaning, broken.leaks, bool(failed) == broken.leaks, by, detail, result.runs)


def _given(args: PACZeroConfig, stated: Mapping[str, Any], membership: Any, secret: Path, units: int) -> dict[str, Any]:
    """The arguments of `ZPL`."""
    return {"membership": membership, "clip": stated["clip"], "coins": Coins(), "directions": args.directions}


def _zpl(made_by: Callable[..., Mechanism], **more: Any) -> Build:
    def build(args: PACZeroConfig, stated: Any, membership: Any, secret: Path, *, units: int) -> Mechanism:
        made = made_by(**_given(args, stated, membership, secret, units) | more)
        made.secret_file = secret  # type: ignore[attr-defined]
        return made

    return build


def _mi(made_by: Callable[..., Mechanism], **more: Any) -> Build:
    def build(args: PACZeroConfig, stated: Any, membership: Any, secret: Path, *, units: int) -> Mechanism:
        given = _given(args, stated, membership, secret, units)
        own = {"budget": args.mechanism.budget, "steps": args.max_steps, "secret": secret}
        return made_by(**given | own | more)

    return build


class _FollowingCoin(ZPL):
    """Its coin shows the secret candidate's sign in 60 % of cases."""

    secret_file: Path

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        return BitChannel.sample(open_secret(self.secret_file).signs_of(signs), 0.4, word)


class _FloatUnanimity(ZPL):
    """Takes a direction as unanimous where the mean of the signs is nearly one; the journal has it as a coin."""

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        mean = float(signs.mean())
        return float(np.sign(mean)) if abs(mean) > 0.8 else super()._draw(signs, noise, word)


class _HalfFlips(MI):
    """Flips half as often as it charges for."""

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        return super()._draw(signs, noise / 2, word)


class _Forgetful(MI):
    """Never learns from its releases: noise is calibrated to the prior."""

    def _learn(self, signs: Signs, output: float, noise: float) -> None:
        return


class _Interrupted(MI):
    """Begins with a new posterior after each interruption, while the budget goes on."""

    def _allowance(self, step: int) -> float:
        if step % _INTERRUPTED == 0:
            self._posterior = type(self._posterior).uniform(self._membership.shape[1])
        return super()._allowance(step)


class _Bisection(MI):
    """Finds the flip probability to within 1e-6 nats, whatever the allowance is."""

    def _terms(self, signs: Signs, allowance: float) -> _Terms:
        minority = self._posterior.minority(signs)
        if minority == 0.0:
            return super()._terms(signs, allowance)
        low, high = 0.0, 0.5
        while True:
            flip = (low + high) / 2
            achieved = BitChannel.information(minority, flip)
            if abs(achieved - allowance) < 1e-6:
                break
            low, high = (flip, high) if achieved > allowance else (low, flip)
        self._ledger.charge(allowance)
        return _Terms(False, self._posterior.mass_of_plus(signs), allowance, flip)


class _FloatSupport(MI):
    """Takes a direction as unanimous, at no charge, where q is 0 or 1 to within a tolerance."""

    def _terms(self, signs: Signs, allowance: float) -> _Terms:
        q = self._posterior.mass_of_plus(signs)
        if min(q, 1 - q) < 0.05:
            return _Terms(True, q, 0.0, 0.0)
        return super()._terms(signs, allowance)

    def _common_sign(self, signs: Signs) -> int:
        return 1 if self._posterior.mass_of_plus(signs) > 0.5 else -1


class _PublicSample(DPSign):
    """Its sample comes from a public seed."""

    def sample(self, step: int) -> UnitIndices | None:
        self._drawn = poisson_sample(RandomStreams(_SEED).stream("sample", step), self._units, self._rate)
        return self._drawn


def changed(made_by: Callable[..., Mechanism] | None = None, **factors: float) -> Build:
    """A differentially private mechanism, some of whose stated values are multiplied by a factor."""

    def build(args: PACZeroConfig, stated: Any, membership: Any, secret: Path, *, units: int) -> Mechanism:
        changed = dict(stated) | {name: stated[name] * factor for name, factor in factors.items()}
        if made_by is None:
            return make_mechanism(args, changed, membership, secret, units=units)
        noise = {"clip": changed["clip"], "eps0": changed["eps0"], "sampling_prob": changed["sampling"]}
        return made_by(**noise, units=units, rng=RandomStreams())

    return build


def _overspent(args: PACZeroConfig, stated: Any, membership: Any, secret: Path, *, units: int) -> Mechanism:
    more = replace(args, mechanism=replace(args.mechanism, budget=0.33))
    return make_mechanism(more, stated, membership, secret, units=units)


def _seeded_secret(path: Path, *, subsets: int) -> None:
    create_secret(path, subsets=subsets, test_seed=_SEED)


_ZPL = MechanismConfig(name="zpl", subsets=_SUBSETS)
_ONE = MechanismConfig(name="mi", budget=0.33, subsets=_SUBSETS)
_MORE = replace(_ONE, budget=0.6)
_SIGN = MechanismConfig(name="dp-sign", epsilon=2.0)
_SAMPLED = replace(_SIGN, sampling_prob=0.5)
_GAUSS = MechanismConfig(name="dpzero", epsilon=2.0)

BROKEN: tuple[Broken, ...] = (
    Broken("following coin", "the coin of `zpl` follows S* in 60 % of cases", _ZPL, _zpl(_FollowingCoin), runs=120),
    Broken("half the flips", "`mi` flips half as often as it charges for", _ONE, _mi(_HalfFlips)),
    Broken("posterior not updated", "noise is calibrated to the prior at each step", _MORE, _mi(_Forgetful)),
    Broken("posterior lost on resume", "the posterior begins anew, the budget goes on", _MORE, _mi(_Interrupted)),
    Broken("seeded secret", "S* comes from a default seed", _ZPL, draw_secret=_seeded_secret),
    Broken("seeded coins", "the coins come from a default seed", _ZPL, _zpl(ZPL, coins=Coins(_SEED))),
    Broken(
        "absolute tolerance",
        "noise is found to within 1e-6 nats, where a step may leak 5e-8",
        replace(_ONE, budget=_STEPS * 5e-8),
        _mi(_Bisection),
    ),
    Broken("budget overspent", "0.33 nats are spent where 0.01 are promised", replace(_ONE, budget=0.01), _overspent),
    Broken("half the noise, dp-sign", "log-odds are twice what is accounted", _SIGN, changed(eps0=2.0), runs=80),
    Broken(
        "twice the sensitivity, dp-sign",
        "a unit moves the log-odds by twice what is accounted, since the clip is twice as large",
        _SIGN,
        changed(clip=2.0, eps0=2.0),
        runs=120,
    ),
    Broken("half the noise, dpzero", "σ is half of what is accounted", _GAUSS, changed(sigma=0.5)),
    Broken(
        "public sample", "the sample that is accounted as secret comes from a seed", _SAMPLED, changed(_PublicSample)
    ),
    Broken(
        "unanimity by a float, zpl",
        "nearly all candidates count as all",
        _ZPL,
        _zpl(_FloatUnanimity),
        runs=80,
        good=GOOD,
    ),
    Broken("unanimity by a float, mi", "a posterior mass near 1 counts as 1", _MORE, _mi(_FloatSupport)),
    Broken("honest zpl", "no defect: it must not be caught", _ZPL, leaks=False, good=GOOD),
    Broken("honest mi", "no defect: it must not be caught", _ONE, leaks=False, good=GOOD),
    Broken("honest dp-sign", "no defect: it must not be caught", _SAMPLED, leaks=False),
    Broken("honest dpzero", "no defect: it must not be caught", _GAUSS, leaks=False),
)
