"""What a step releases: one bit a direction, from the signs of all candidates. The only reader of the secret.

>>> import numpy as np
>>> from paczero.mechanism.secret import SeededCoins
>>> membership = np.array([[True, False], [False, True]])
>>> zpl = ZPL(membership, clip=1.0, coins=SeededCoins(0))
>>> zpl.release(0, np.array([[0.5], [0.25]])).y     # both candidates agree
(1,)
>>> zpl.release(1, np.array([[0.5], [-0.5]])).unanimous
(False,)

The mechanisms here share everything but what a contested direction does:

- unanimous (every candidate that is still possible has the same sign): that sign, at no cost, and nothing is learnt;
- contested, `ZPL`: a fair coin, at no cost; the secret is never read, so I(S*; Y) = 0;
- contested, `MI`: the secret candidate's sign through a channel calibrated to the step's share of the budget, given
  what earlier releases already told; the charge comes before the draw;
- contested, `Skip`: 0; contested, `HalfSign`: the secret candidate's sign as it is. Ablations.

Paper: arXiv 2605.06505; posterior and budget are `posterior.py`'s and `ledger.py`'s.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.base import Part, Release, StepCounter
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.channels import channel as channel_named
from paczero.mechanism.ledger import Ledger
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.secret import Coins, open_secret
from paczero.mechanism.signs import direction_signs


class _Terms(NamedTuple):
    """Everything about one direction's release that does not depend on the secret or on coins."""

    unanimous: bool
    q: float
    beta: float
    noise: float


class _SignMechanism(StepCounter, ABC):
    """Signs of the candidates and records, shared by all mechanisms that ask candidates.

    Args:
        membership: (N, M) bool, which unit is in which candidate.
        clip: c > 0.
        coins: where contested releases draw from; word k of a step serves direction k.
        directions: K >= 1.
    """

    name: str

    def __init__(self, membership: npt.NDArray[np.bool_], *, clip: float, coins: Coins, directions: int = 1) -> None:
        members = np.asarray(membership)
        if members.ndim != 2 or members.dtype != np.bool_ or not members.size or members.shape[1] % 2:
            raise PACZeroError(
                f"membership: {members.dtype} of shape {members.shape} was given; expected bool (N, M) with an even M"
            )
        super().__init__(directions)
        self._membership = members
        self._clip = clip
        self._coins = coins
        self._posterior = Posterior.uniform(members.shape[1])

    def release(
        self, step: int, derivatives: npt.NDArray[np.float64], *, nonfinite: int = 0, part: Part = None
    ) -> Release:
        """Releases step `step`; see `Mechanism.release`.

        Raises:
            PACZeroError: another step is next, or shapes disagree.
        """
        values = self._checked(derivatives)
        members = self._membership if part is None else self._membership[self._rows(part)]
        signs, found = direction_signs(
            values, members, clip=self._clip, empty="positive" if part is None else "majority"
        )
        self._next(step, PACZeroError)
        share = self._share(step)
        terms, outputs = [], []
        for k in range(self.directions):
            term = self._terms(signs[k], share)
            if term.unanimous:
                output = float(self._common_sign(signs[k]))
            else:
                output = self._draw(signs[k], term.noise, self._coins.word(step, k))
                self._learn(signs[k], output, term.noise)
            terms.append(term)
            outputs.append(output)
        return Release(
            step=step,
            y=tuple(self._released(output) for output in outputs),
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
        share = self._share(release.step)
        for k in range(self.directions):
            signs = self._unpack(release.signs[k], where)
            term = self._terms(signs, share)
            written = _Terms(release.unanimous[k], release.q[k], release.beta[k], release.noise[k])
            if term != written:
                raise IntegrityError(f"{where}: its unanimity, q, charge or noise do not follow from its signs")
            output = float(release.y[k]) if release.output is None else release.output[k]
            expected = self._recalled(output) if not term.unanimous else float(self._common_sign(signs))
            if type(release.y[k]) is not int or release.y[k] != self._released(expected) or output != expected:
                raise IntegrityError(f"{where}: y does not follow from what was drawn")
            if not term.unanimous:
                self._learn(signs, output, term.noise)

    @property
    def budget(self) -> float | None:
        """B, nats; None where no promise is made."""
        return 0.0

    @property
    def spent(self) -> float:
        """Nats charged so far."""
        return 0.0

    @property
    def _real_output(self) -> bool:
        """Whether what is drawn is a real number, of which the release is the sign."""
        return False

    def _share(self, step: int) -> float:
        """Nats that each direction of a step may leak."""
        return 0.0

    @abstractmethod
    def _terms(self, signs: npt.NDArray[np.int8], share: float) -> _Terms:
        """How one direction is released; its charge is on the ledger when this returns."""

    @abstractmethod
    def _draw(self, signs: npt.NDArray[np.int8], noise: float, word: int) -> float:
        """A contested direction's output; its sign is released."""

    def _learn(self, signs: npt.NDArray[np.int8], output: float, noise: float) -> None:
        """What an observer concludes about the secret from a contested output: nothing, where it tells nothing."""
        return

    def _released(self, output: float) -> int:
        """The value that is released of an output."""
        return 1 if output >= 0 else -1

    def _recalled(self, output: float) -> float:
        """The output of a contested direction that the journal may hold where it holds this one."""
        return output

    def _rows(self, part: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """The part's indices, once they are known to be different units of the pool."""
        rows, units = np.asarray(part), len(self._membership)
        if (
            rows.ndim != 1
            or not rows.size
            or rows.min() < 0
            or rows.max() >= units
            or np.unique(rows).size != rows.size
        ):
            raise PACZeroError(f"part: expected different unit numbers from 0 to {units - 1}; see draw_part")
        return rows

    def _common_sign(self, signs: npt.NDArray[np.int8]) -> int:
        """The sign that all possible candidates of a unanimous direction have."""
        return int(signs[np.argmax(self._posterior.supported)])

    def _unpack(self, packed: bytes, where: str) -> npt.NDArray[np.int8]:
        subsets = self._membership.shape[1]
        bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
        if bits.size != -(-subsets // 8) * 8 or bits[subsets:].any():
            raise IntegrityError(f"{where}: it does not hold the signs of {subsets} candidates")
        return np.where(bits[:subsets] > 0, 1, -1).astype(np.int8)


class ZPL(_SignMechanism):
    """Zero privacy loss: a contested direction releases a fair coin. I(S*; Y) = 0; the secret is never read."""

    name = "zpl"

    def _terms(self, signs: npt.NDArray[np.int8], share: float) -> _Terms:
        term = _counted(signs)
        return term if term.unanimous else term._replace(noise=0.5)

    def _draw(self, signs: npt.NDArray[np.int8], noise: float, word: int) -> float:
        return BitChannel.sample(1, noise, word)


class Skip(_SignMechanism):
    """An ablation: a contested direction releases 0, so that the weights do not follow it.

    I(S*; Y) = 0 as with a coin, but everybody sees which directions were contested.
    """

    name = "skip"

    def _terms(self, signs: npt.NDArray[np.int8], share: float) -> _Terms:
        return _counted(signs)

    def _draw(self, signs: npt.NDArray[np.int8], noise: float, word: int) -> float:
        return 0.0

    def _released(self, output: float) -> int:
        return int(output)

    def _recalled(self, output: float) -> float:
        return 0.0


class HalfSign(_SignMechanism):
    """An ablation without any promise: a contested direction releases the secret candidate's sign as it is.

    Args:
        membership, clip, coins, directions: as for `ZPL`.
        secret: the file of `create_secret`; opened when a sign must be released, never kept.
    """

    name = "half-sign"

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
        self._secret = _drawn_from(secret, self._membership.shape[1])

    @property
    def budget(self) -> float | None:
        """None: nothing is promised."""
        return None

    def _terms(self, signs: npt.NDArray[np.int8], share: float) -> _Terms:
        return _counted(signs)

    def _draw(self, signs: npt.NDArray[np.int8], noise: float, word: int) -> float:
        return float(open_secret(self._secret).signs_of(signs))


class MI(_SignMechanism):
    """A budget of mutual information: a contested direction releases the secret candidate's sign through a channel.

    Args:
        membership, clip, coins, directions: as for `ZPL`.
        budget: B, nats over the whole run.
        steps: T.
        channel: `bit` or `gaussian`.
        allocation: `adaptive` or `uniform`.
        secret: the file of `create_secret`; opened when a sign must be released, never kept.

    Raises:
        PACZeroError: a value out of range, or the secret cannot be read.
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
    ) -> None:
        super().__init__(membership, clip=clip, coins=coins, directions=directions)
        self._channel = channel_named(channel)
        self._ledger = Ledger(budget, steps, allocation)
        self._secret = _drawn_from(secret, self._membership.shape[1])

    @property
    def budget(self) -> float | None:
        """B, nats."""
        return self._ledger.budget

    @property
    def spent(self) -> float:
        """Nats charged so far."""
        return self._ledger.spent

    @property
    def _real_output(self) -> bool:
        return self._channel.name == "gaussian"

    def _share(self, step: int) -> float:
        return self._ledger.share(step) / self.directions

    def _terms(self, signs: npt.NDArray[np.int8], share: float) -> _Terms:
        q = self._posterior.mass_of_plus(signs)
        minority = self._posterior.minority(signs)
        if minority == 0.0:
            return _Terms(True, q, 0.0, 0.0)
        noise = self._channel.calibrate(minority, share)
        # Both come from the same formula; where rounding makes what is achieved larger by an ulp, the share stands.
        beta = min(self._channel.information(minority, noise), share)
        self._ledger.charge(beta)
        return _Terms(False, q, beta, noise)

    def _draw(self, signs: npt.NDArray[np.int8], noise: float, word: int) -> float:
        return self._channel.sample(open_secret(self._secret).signs_of(signs), noise, word)

    def _learn(self, signs: npt.NDArray[np.int8], output: float, noise: float) -> None:
        self._posterior = self._posterior.observed(self._channel.log_likelihood(signs, output, noise))


def _counted(signs: npt.NDArray[np.int8]) -> _Terms:
    """Whether all candidates agree, and the share of +1, where no candidate has ever been ruled out."""
    plus = int(np.count_nonzero(signs > 0))
    return _Terms(plus in (0, signs.size), plus / signs.size, 0.0, 0.0)


def _drawn_from(secret: Path | str, subsets: int) -> Path:
    """The secret's file, once it is known to name one of that many candidates."""
    found = open_secret(secret).subsets
    if found != subsets:
        raise IntegrityError(
            f"secret: drawn from {found} candidates, but this run has {subsets}; use the run's own secret"
        )
    return Path(secret)
