"""What the exact audit gives back: figures of every release, of the run as a whole, and what does not follow.

>>> print(Finding(7, 0, "charge", "0.001 nats were charged", "0.0012 nats, which this noise lets through"))
step 7, direction 0: charge: 0.001 nats were charged; what follows is 0.0012 nats, which this noise lets through
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that does not follow.

    Attributes:
        step: t; None where it is about the run as a whole.
        direction: k; None where it is about the step as a whole.
        what: `chain`, `step`, `unanimity`, `q`, `noise`, `charge`, `share`, `release`, `budget`, `information`,
            `candidates`, `transcript`, `settings`, `epsilon` or `statement`.
        found: what the run's files say.
        expected: what follows.
    """

    step: int | None
    direction: int | None
    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        """One line for people."""
        where = "the run" if self.step is None else f"step {self.step}"
        where += "" if self.direction is None else f", direction {self.direction}"
        return f"{where}: {self.what}: {self.found}; what follows is {self.expected}"


@dataclass(frozen=True, slots=True)
class ReleaseFigures:
    """One direction of one step, computed again. The owner's to see, as all of a journal is.

    Attributes:
        step: t.
        direction: k.
        unanimous: whether all candidates that are still possible have one sign.
        q: probability of a positive sign before the release; 0.5 where there are no candidates.
        noise: f or σ that the journal says was used; None where it was infinite.
        share: nats that this direction could have spent.
        charged: nats that the journal charged.
        information: nats that the noise really lets through.
        released: y.
        spent: nats charged up to and with this release.
        entropy: nats of uncertainty about S* left to somebody who saw all so far.
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
    """What came of it.

    Attributes:
        mechanism: its name.
        void: whether coins were those of a test seed, so that nothing is promised whatever the journal says.
        steps: T.
        steps_run: steps in the journal.
        directions: K.
        subsets: M; 0 where no candidates are asked.
        units: N.
        budget: B, nats; None where nothing is promised.
        charged: the exact sum of all charges, rounded once.
        information: the sum of what the noise lets through, nats.
        success_bound: p for B, solved from ln 2 − h(p) = B; of a differentially private run (e^ε + δ)/(1 + e^ε); 1.0
            where nothing is promised.
        success_stated: p of the statement; None where there is none yet.
        epsilon, delta: of a differentially private run, as stated; None for others.
        delta_found: δ at that ε, for the noise and steps of the run, computed again; None where it was not.
        unanimous: releases on which all possible candidates agreed.
        contested: the others, where candidates are asked.
        releases: (T·K) every release.
        posterior: (M,) probability of each candidate being S*, given everything released.
        unit_posterior: (N,) probability that each unit is in S*, given everything released.
        units_above_bound: units of which the better guess is right with more than `success_bound` by that; reported,
            never decides.
        findings: what does not follow, the first 200.
        findings_in_all: how many there are.
        notes: what was not, or could not be, computed again.
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
        """Whether everything follows."""
        return self.findings_in_all == 0

    def to_dict(self, *, releases: bool = True) -> dict[str, Any]:
        """For JSON; without `releases` where they would be too many."""
        content = asdict(self) | {"passed": self.passed}
        if not releases:
            del content["releases"]
        return content
