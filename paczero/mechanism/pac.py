"""PAC mechanisms: one bit a direction, from the signs of all candidates. The only reader of the secret.

>>> import numpy as np
>>> from paczero.mechanism.randomness import Coins
>>> membership = np.array([[True, False], [False, True]])
>>> zpl = ZPL(membership, clip=1.0, coins=Coins(0))
>>> zpl.release(0, np.array([[0.5], [0.25]])).y     # both candidates agree
(1,)
>>> zpl.release(1, np.array([[0.5], [-0.5]])).unanimous
(False,)

A direction is unanimous where every candidate that is still possible has the same sign. Then that sign is released, at
no cost, and nothing is learnt. All other directions are contested, and the mechanisms differ in these alone:

- `ZPL` releases a fair coin, at no cost. The secret is never read, so I(S*; Y) = 0.
- `MI` releases the secret candidate's sign through a channel. The channel is calibrated to the direction's allowance of
  nats, given what earlier releases already told. The charge comes before the draw.
- `Skip` releases 0 and `HalfSign` the secret candidate's sign as it is. Both are ablations.

Paper: arXiv 2605.06505.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.base import Floats, Release, StepCounter, UnitIndices
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.channels import channel as channel_named
from paczero.mechanism.ledger import Ledger
from paczero.mechanism.margins import Margin, margins
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.randomness import Coins
from paczero.mechanism.secret import open_secret
from paczero.mechanism.signs import direction_signs

Signs = npt.NDArray[np.int8]


class _Terms(NamedTuple):
    """Everything about one direction's release that depends neither on the secret nor on coins."""

    unanimous: bool
    q: float
    beta: float
    noise: float


class SignMechanism(StepCounter, ABC):
    """Signs of the candidates and records, shared by all mechanisms that use candidates.

    Args:
        membership: (N, M) bool, which unit is in which candidate.
        clip: c > 0.
        coins: where contested releases draw from; word k of a step serves direction k.
        directions: K >= 1.
        start: what releases of earlier runs with the same secret tell about it; uniform where left out.

    Attributes:
        name: as in a transcript's header.
        budget: B in nats; None where nothing is promised.
    """

    name: str
    budget: float | None = 0.0
    _contested_noise = 0.0
    _contested_values: tuple[int, ...] = (1, -1)
    _real_output = False  # whether what is drawn is a real number, of which the release is the sign

    def __init__(
        self,
        membership: npt.NDArray[np.bool_],
        *,
        clip: float,
        coins: Coins,
        directions: int = 1,
        start: Posterior | None = None,
    ) -> None:
        members = np.asarray(membership)
        if members.ndim != 2 or members.dtype != np.bool_ or not members.size or members.shape[1] % 2:
            raise PACZeroError(
                f"membership: {members.dtype} of shape {members.shape} was given; expected bool (N, M) with an even M"
            )
        super().__init__(directions)
        self._membership = members
        self._clip = clip
        self._coins = coins
        self._posterior = start or Posterior.uniform(members.shape[1])
        if self._posterior.log_weights.size != members.shape[1]:
            raise PACZeroError(f"start: of {self._posterior.log_weights.size} candidates; expected {members.shape[1]}")

    @property
    def posterior(self) -> Posterior:
        """What an observer of all releases so far, those of earlier runs too, concludes about the secret."""
        return self._posterior

    def release(
        self, step: int, derivatives: Floats, *, nonfinite: int = 0, unit_indices: UnitIndices | None = None
    ) -> Release:
        """Releases step `step`; see `Mechanism.release`."""
        values = self._checked(derivatives)
        if unit_indices is None:
            signs, found = direction_signs(values, self._membership, clip=self._clip)
        else:
            members = self._membership[self._distinct(unit_indices)]
            signs, found = direction_signs(values, members, clip=self._clip, empty="majority")
        self._next(step, PACZeroError)
        allowance = self._allowance(step)
        terms, outputs = [], []
        for k in range(self.directions):
            term = self._terms(signs[k], allowance)
            if term.unanimous:
                output = float(self._common_sign(signs[k]))
            else:
                output = self._draw(signs[k], term.noise, self._coins.word(step, k))
                self._learn(signs[k], output, term.noise)
            terms.append(term)
            outputs.append(output)
        return Release(
            step=step,
            y=tuple(int(np.sign(output)) for output in outputs),
            unanimous=tuple(term.unanimous for term in terms),
            signs=tuple(np.packbits(row > 0).tobytes() for row in signs),
            q=tuple(term.q for term in terms),
            beta=tuple(term.beta for term in terms),
            noise=tuple(term.noise for term in terms),
            output=tuple(outputs) if self._real_output else None,
            nonfinite=nonfinite + found,
        )

    def restore(self, release: Release) -> None:
        """Takes a written release again; see `Mechanism.restore`. Neither the secret nor a coin is touched."""
        where = f"journal step {release.step}"
        self._next(release.step, IntegrityError)
        if len(release.y) != self.directions or len(release.signs) != self.directions:
            raise IntegrityError(f"{where}: {len(release.y)} directions, but the run has {self.directions}")
        if (release.output is None) == self._real_output:
            raise IntegrityError(f"{where}: written by another channel than this run's")
        allowance = self._allowance(release.step)
        for k, y in enumerate(release.y):
            signs = self._unpack(release.signs[k], where)
            term = self._terms(signs, allowance)
            if term != (release.unanimous[k], release.q[k], release.beta[k], release.noise[k]):
                raise IntegrityError(f"{where}: its unanimity, q, charge or noise do not follow from its signs")
            output = float(y) if release.output is None else release.output[k]
            possible = (self._common_sign(signs),) if term.unanimous else self._contested_values
            if type(y) is not int or y not in possible or y != np.sign(output) or (term.unanimous and output != y):
                raise IntegrityError(f"{where}: y does not follow from what was drawn")
            if not term.unanimous:
                self._learn(signs, output, term.noise)

    def margins(self, derivatives: Floats, unit_indices: UnitIndices | None = None) -> tuple[Margin, ...]:
        """How much each direction hangs on one unit, while all candidates are possible; see `Mechanism.margins`."""
        return margins(derivatives, self._membership, clip=self._clip, unit_indices=unit_indices)

    def _allowance(self, step: int) -> float:
        """Nats that each direction of a step may leak."""
        return 0.0

    def _terms(self, signs: Signs, allowance: float) -> _Terms:
        """How one direction is released; its charge is on the ledger when this returns."""
        plus = int(np.count_nonzero(signs > 0))
        unanimous = plus in (0, signs.size)
        return _Terms(unanimous, plus / signs.size, 0.0, 0.0 if unanimous else self._contested_noise)

    @abstractmethod
    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        """A contested direction's output; its sign is released."""

    def _learn(self, signs: Signs, output: float, noise: float) -> None:
        """Updates what an observer concludes about the secret from a contested output; by default nothing."""
        return

    def _distinct(self, unit_indices: UnitIndices) -> UnitIndices:
        """The indices, once they are known to be different units of the pool."""
        rows, units = np.asarray(unit_indices), len(self._membership)
        if not rows.size or rows.min() < 0 or rows.max() >= units or np.unique(rows).size != len(rows):
            raise PACZeroError(f"unit_indices: expected different unit numbers from 0 to {units - 1}; see draw_units")
        return rows

    def _common_sign(self, signs: Signs) -> int:
        """The sign that all possible candidates of a unanimous direction have."""
        return int(signs[np.argmax(self._posterior.supported)])

    def _unpack(self, packed: bytes, where: str) -> Signs:
        subsets = self._membership.shape[1]
        bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
        if bits.size != -(-subsets // 8) * 8 or bits[subsets:].any():
            raise IntegrityError(f"{where}: it does not hold the signs of {subsets} candidates")
        return np.where(bits[:subsets] > 0, 1, -1).astype(np.int8)


class ZPL(SignMechanism):
    """Zero privacy loss: a contested direction releases a fair coin. I(S*; Y) = 0; the secret is never read."""

    name = "zpl"
    _contested_noise = 0.5

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        return BitChannel.sample(1, noise, word)


class Skip(SignMechanism):
    """An ablation: a contested direction releases 0, so that the weights do not follow it.

    I(S*; Y) = 0 as with a coin, but the release shows which directions were contested.
    """

    name = "skip"
    _contested_values = (0,)

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        return 0.0


class HalfSign(SignMechanism):
    """An ablation without any promise: a contested direction releases the secret candidate's sign as it is.

    Args:
        membership, clip, coins, directions: as for `ZPL`. There is no start: it takes no secret that is used again.
        secret: the file of `create_secret`; opened when a sign must be released, never kept.
    """

    name = "half-sign"
    budget = None

    def __init__(
        self,
        membership: npt.NDArray[np.bool_],
        *,
        clip: float,
        coins: Coins,
        secret: Path | str,
        directions: int = 1,
    ) -> None:
        super().__init__(membership, clip=clip, coins=coins, directions=directions)
        self._secret = _checked_secret(secret, self._membership.shape[1])

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        return float(open_secret(self._secret).signs_of(signs))


class MI(SignMechanism):
    """A budget of mutual information: a contested direction releases the secret candidate's sign through a channel.

    Args:
        membership, clip, coins, directions: as for `ZPL`.
        budget: B, nats of the whole run.
        steps: T.
        secret: the file of `create_secret`; opened when a bit must be drawn, never kept.
        channel: `bit` or `gaussian`.
        allocation: `adaptive` or `uniform`.
        start: see `SignMechanism`. With it, charges add to those of the earlier runs: I(S*; all) = E[all charges].

    Raises:
        PACZeroError: an argument out of range, or the secret cannot be read.
        IntegrityError: the secret was drawn from another number of candidates.
    """

    name = "mi"

    def __init__(
        self,
        membership: npt.NDArray[np.bool_],
        *,
        clip: float,
        coins: Coins,
        budget: float,
        steps: int,
        secret: Path | str,
        directions: int = 1,
        channel: str = "bit",
        allocation: str = "adaptive",
        start: Posterior | None = None,
    ) -> None:
        super().__init__(membership, clip=clip, coins=coins, directions=directions, start=start)
        self._channel = channel_named(channel)
        self._real_output = self._channel.real
        self._ledger = Ledger(budget, steps, allocation)
        self.budget = self._ledger.budget
        self._secret = _checked_secret(secret, self._membership.shape[1])

    @property
    def spent(self) -> float:
        """Nats charged so far."""
        return self._ledger.spent

    def _allowance(self, step: int) -> float:
        return self._ledger.allowance(step) / self.directions

    def _terms(self, signs: Signs, allowance: float) -> _Terms:
        q = self._posterior.mass_of_plus(signs)
        minority = self._posterior.minority(signs)
        if minority == 0.0:
            return _Terms(True, q, 0.0, 0.0)
        noise = self._channel.calibrate(minority, allowance)
        # Both come from the same formula; where rounding makes what is achieved larger by an ulp, the allowance stands.
        beta = min(self._channel.information(minority, noise), allowance)
        self._ledger.charge(beta)
        return _Terms(False, q, beta, noise)

    def _draw(self, signs: Signs, noise: float, word: int) -> float:
        return self._channel.sample(open_secret(self._secret).signs_of(signs), noise, word)

    def _learn(self, signs: Signs, output: float, noise: float) -> None:
        self._posterior = self._posterior.observed(self._channel.log_likelihood(signs, output, noise))


def _checked_secret(secret: Path | str, subsets: int) -> Path:
    """The secret's file, once it is known to name one of that many candidates."""
    found = open_secret(secret).subsets
    if found != subsets:
        raise IntegrityError(
            f"secret: drawn from {found} candidates, but this run has {subsets}; use the run's own secret"
        )
    return Path(secret)
