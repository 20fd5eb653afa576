"""The Poisson sample of a step: each unit is in it with the same probability, independently. Secret, never stored.

>>> from paczero.mechanism.draws import Draws
>>> poisson_sample(Draws(test_seed=0).stream("sample", 0), 4, 0.5).tolist()
[0, 1, 3]

That nobody knows who was in it is what makes the noise of a step count for more (amplification by sampling), so a
sample of public randomness, such as that of `units_per_step`, would not do.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError
from paczero.mechanism.draws import Stream


def poisson_sample(stream: Stream, units: int, rate: float) -> npt.NDArray[np.int64]:
    """The units of one step, ascending; there may be none.

    Args:
        stream: where the words come from, 64 bits a unit.
        units: N >= 1.
        rate: in (0, 1), rounded down to a multiple of 2^−64.

    Raises:
        PACZeroError: a rate outside (0, 1), or no units.
    """
    if not 0 < rate < 1:
        raise PACZeroError(f"sampling: {rate!r} was given; expected a rate above 0 and below 1")
    if units < 1:
        raise PACZeroError(f"units: {units} were given; expected 1 or more")
    words = np.frombuffer(stream.take(8 * units), dtype="<u8")
    return np.flatnonzero(words < np.uint64(int(Fraction(rate) * 2**64)))
