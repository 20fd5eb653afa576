"""The result of the exact audit: figures of each release and of the run, and findings.

>>> print(Finding(7, 0, "charge", "0.001 nats were charged", "0.0012 nats, which this noise lets through"))
step 7, direction 0: charge: 0.001 nats were charged; expected 0.0012 nats, which this noise lets through
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A value in the files that differs from the recomputed one.

    Attributes:
        step: t; None for the run as a whole.
        direction: k; None for the step as a whole.
        what: `chain`, `step`, `unanimity`, `q`, `noise`, `charge`, `share`, `release`, `budget`, `information`,
            `candidates`, `transcript`, `settings`, `epsilon` or `statement`.
        found: the value in the run's files.
        expected: the recomputed value.
    """

    step: int | None
    direction: int | None
    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        """The finding in one line."""
        where = "the run" if self.step is None else f"step {self.step}"
        where += "" if self.direction is None else f", direction {self.direction}"
        return f"{where}: {self.what}: {self.found}; expected {self.expected}"


@dataclass(frozen=True, slots=True)
class ReleaseFigures:
    """The recomputed figures of one direction of one step. Private to the owner, as the journal is.

    Attributes:
        step: t.
        direction: k.
        unanimous: whether all possible candidates have the same sign.
        q: probability of a positive sign before the release; 0.5 without candidates.
        noise: f or σ in the journal; None if it is infinite.
        share: nats that this direction may spend.
        charged: nats charged in the journal.
        information: nats that the noise lets through.
        released: y.
        spent: nats charged up to and with this release.
        entropy: nats of uncertainty about S* that remain after the releases so far.
        likeliest: the largest posterior probability of a candidate.
    """

    step: int
    direction: int
    unanimous: bool
    q: float
    noise: float | None
    share: float
    charged: float
    information: float
    released: float
    spent: float
    entropy: float
    likeliest: float


@dataclass(frozen=True)
class ExactAudit:
    """The figures of a run, and the findings.

    Attributes:
        mechanism: its name.
        void: whether the coins come from a test seed; then nothing is promised.
        steps: T.
        steps_run: steps in the journal.
        directions: K.
        subsets: M; 0 without candidates.
        units: N.
        budget: B, nats; None if nothing is promised.
        charged: the exact sum of all charges, rounded once.
        information: the total that the noise lets through, nats.
        success_bound: p for B, solved from ln 2 − h(p) = B; of a differentially private run (e^ε + δ)/(1 + e^ε); 1.0
            where nothing is promised.
        success_stated: p of the statement; None if there is none yet.
        epsilon, delta: of a differentially private run, as stated; None for others.
        delta_found: recomputed δ at that ε, for the run's noise and steps; None if it is not recomputed.
        unanimous: number of releases on which all possible candidates agree.
        contested: number of the other releases, for mechanisms with candidates.
        releases: (T·K) every release.
        posterior: (M,) probability of each candidate being S*, given everything released.
        unit_posterior: (N,) probability that each unit is in S*, given everything released.
        units_above_bound: units whose better guess is right with a probability above `success_bound`; reported only.
        findings: the first 200.
        findings_in_all: their number.
        notes: what is not recomputed, and why.
    """

    mechanism: str
    void: bool
    steps: int
    steps_run: int
    directions: int
    subsets: int
    units: int
    budget: float | None
    charged: float
    information: float
    success_bound: float
    success_stated: float | None
    epsilon: float | None
    delta: float | None
    delta_found: float | None
    unanimous: int
    contested: int
    releases: tuple[ReleaseFigures, ...] = field(repr=False)
    posterior: tuple[float, ...] = field(repr=False)
    unit_posterior: tuple[float, ...] = field(repr=False)
    units_above_bound: int
    findings: tuple[Finding, ...]
    findings_in_all: int
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there are no findings."""
        return self.findings_in_all == 0

    def to_dict(self, *, releases: bool = True) -> dict[str, Any]:
        """For JSON, with or without the single releases."""
        content = self if releases else replace(self, releases=())
        return {k: v for k, v in asdict(content).items() if releases or k != "releases"} | {"passed": self.passed}
