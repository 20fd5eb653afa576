"""What there is to know of each mechanism before it runs, in one table, so that nobody else has to ask for its name.

>>> KINDS["dp-sign"].protects, KINDS["dp-sign"].real
('pool', False)

`zpl` and `mi` are the paper's (arXiv 2605.06505). `none` is MeZO, `dpzero`, `dp-aggzo` and `dp-sign` are differentially
private over the pool. The others are ablations: they answer what of the utility comes from where.
"""

from dataclasses import dataclass
from typing import Literal

Protects = Literal["all", "half", "pool", "nothing"]


@dataclass(frozen=True)
class Kind:
    """One mechanism.

    Attributes:
        name: as in settings and headers.
        protects: which half of the pool was the secret one (`half`, by mutual information), who is in the pool at all
            (`pool`, by differential privacy), `all` there is (nothing is learned), or `nothing`.
        candidates: whether candidate subsets are drawn and asked.
        real: whether real numbers are released; +1 and -1 otherwise.
        zero: whether 0 may be released beside +1 and -1.
        clipped: whether a bound on each unit's derivative is needed.
        sampled: whether a step may use a secret Poisson sample of the pool.
    """

    name: str
    protects: Protects
    candidates: bool = False
    real: bool = False
    zero: bool = False
    clipped: bool = True
    sampled: bool = False

    @property
    def private(self) -> bool:
        """Whether (ε, δ) are settings of it."""
        return self.protects == "pool"

    def budget(self, given: float | None) -> float | None:
        """B in nats, the most that a run tells about the secret half, where `given` was asked for; None: no bound."""
        if self.protects == "nothing":
            return None
        return given if self.name == "mi" else 0.0


KINDS = {
    kind.name: kind
    for kind in (
        Kind("zpl", "half", candidates=True),
        Kind("mi", "half", candidates=True),
        Kind("none", "nothing", real=True, clipped=False),
        Kind("dpzero", "pool", real=True, sampled=True),
        Kind("dp-aggzo", "pool", real=True, sampled=True),
        Kind("dp-sign", "pool"),
        Kind("full-sign", "nothing"),
        Kind("half-sign", "nothing", candidates=True),
        Kind("coin", "all", clipped=False),
        Kind("skip", "half", candidates=True, zero=True),
    )
}
