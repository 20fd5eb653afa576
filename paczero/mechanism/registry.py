"""One specification a mechanism: all that other modules need to know of it.

Other modules ask the specification and never compare names.

>>> spec = spec_of("dp-sign")
>>> spec.hides, spec.is_dp, spec.real, spec.candidates
('pool', True, False, False)
>>> from paczero.mechanism.randomness import RandomStreams
>>> spec.build(clip=1.0, eps0=0.1, units=50, rng=RandomStreams(), directions=2, budget=None).name
'dp-sign'

`zpl` and `mi` are the paper's (arXiv 2605.06505). `none` is MeZO. `dpzero`, `dp-aggzo` and `dp-sign` are differentially
private over the pool. The others are ablations, which show what each part of a mechanism contributes to the utility.

To add a mechanism, write one class, one line of `SPECS` and one test:

- The class implements `base.Mechanism`; `base.StatelessMechanism` and `pac.SignMechanism` do most of it. The names of
  its constructor's arguments say what it needs: `membership` (the candidates), `secret` (the file of S*), `budget`,
  `sigma` or `eps0` (then ε and δ are settings of it), `sampling_prob`, `clip`, `directions`, and so on.
- The name is added to the type of `MechanismConfig.name`, and its sentences to `release/wording`.
- Its settings are added to the table of tests/training/test_factory.py, which tests what all mechanisms share.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from paczero.errors import PACZeroError
from paczero.mechanism.base import Mechanism
from paczero.mechanism.dp import AggZO, DPSign, DPZero
from paczero.mechanism.nonprivate import Coin, FullSign, Mean
from paczero.mechanism.pac import MI, ZPL, HalfSign, Skip

Hides = Literal["all", "half", "pool", "nothing"]


@dataclass(frozen=True)
class MechanismSpec:
    """One mechanism.

    Attributes:
        made_by: its class.
        hides: `half`: which half of the pool is the secret one (by mutual information); `pool`: who is in the pool at
            all (by differential privacy); `all`: everything, as nothing is learned; or `nothing`.
        real: whether it releases real numbers; otherwise +1 and -1.
        zero: whether it may release 0 beside +1 and -1.
        per_direction: whether the accounting of (ε, δ) counts each direction as a release of its own; otherwise a
            step's K values are one release.
    """

    made_by: type[Any]
    hides: Hides
    real: bool = False
    zero: bool = False
    per_direction: bool = False

    @property
    def name(self) -> str:
        """As in settings and headers."""
        return str(self.made_by.name)

    @cached_property
    def arguments(self) -> Mapping[str, inspect.Parameter]:
        """What the class's constructor takes, by name."""
        return inspect.signature(self.made_by).parameters

    @property
    def candidates(self) -> bool:
        """Whether it uses candidate subsets."""
        return "membership" in self.arguments

    @property
    def reads_secret(self) -> bool:
        """Whether it opens the file of S*."""
        return "secret" in self.arguments

    @property
    def has_budget(self) -> bool:
        """Whether a budget in nats, a channel and an allocation are settings of it."""
        return "budget" in self.arguments

    @property
    def is_dp(self) -> bool:
        """Whether ε and δ are settings of it, from which its noise follows."""
        return self.noise is not None

    @property
    def isolates_units(self) -> bool:
        """Whether a unit's derivative must be a function of that unit alone: its sensitivity is that of one unit."""
        return self.is_dp

    @property
    def noise(self) -> str | None:
        """What its noise is called: `sigma` (more is more private), `eps0` (less is), or None without ε and δ."""
        return next((name for name in ("sigma", "eps0") if name in self.arguments), None)

    @property
    def sampled(self) -> bool:
        """Whether a step may use a secret Poisson sample of the pool."""
        return "sampling_prob" in self.arguments

    @property
    def individual(self) -> bool:
        """Whether each unit may have an account of its own."""
        return "rho" in self.arguments

    @property
    def needs_clip(self) -> bool:
        """Whether it needs a bound on each unit's derivative."""
        return "clip" in self.arguments and self.arguments["clip"].default is inspect.Parameter.empty

    @property
    def one_direction(self) -> bool:
        """Whether K must be 1."""
        return "directions" not in self.arguments

    def budget(self, requested: float | None) -> float | None:
        """B in nats, the most that a run tells about the secret half, where `requested` is set; None: no bound."""
        if self.hides == "nothing":
            return None
        return requested if self.has_budget else 0.0

    def build(self, **available: Any) -> Mechanism:
        """An instance, made from those of `available` that the class takes; None counts as absent.

        Raises:
            PACZeroError: an argument without a default is absent, or the class refuses a value.
        """
        chosen = {name: available[name] for name in self.arguments if available.get(name) is not None}
        for name, argument in self.arguments.items():
            if name not in chosen and argument.default is inspect.Parameter.empty:
                raise PACZeroError(f"{name}: none was given; {self.name!r} needs it")
        made: Mechanism = self.made_by(**chosen)
        return made


SPECS = {
    spec.name: spec
    for spec in (
        MechanismSpec(ZPL, "half"),
        MechanismSpec(MI, "half"),
        MechanismSpec(Mean, "nothing", real=True),
        MechanismSpec(DPZero, "pool", real=True),
        MechanismSpec(AggZO, "pool", real=True),
        MechanismSpec(DPSign, "pool", per_direction=True),
        MechanismSpec(FullSign, "nothing"),
        MechanismSpec(HalfSign, "nothing"),
        MechanismSpec(Coin, "all"),
        MechanismSpec(Skip, "half", zero=True),
    )
}
DEFAULT = ZPL.name  # what a run uses where none is named, and what the cost of privacy is reported of
REFERENCE = Mean.name  # MeZO: what utility is compared with

# What a header states of a differentially private mechanism beside settings: it follows from them and from the dev set.
FOLLOWING = ("sigma", "eps0", "rho", "posterior_success")


def spec_of(name: str) -> MechanismSpec:
    """The specification of a mechanism.

    Raises:
        PACZeroError: no mechanism has this name.
    """
    if name not in SPECS:
        raise PACZeroError(f"mechanism: {name!r} was given; expected one of {', '.join(SPECS)}")
    return SPECS[name]
