"""Checks of arguments: numbers in range and arrays of finite numbers.

>>> numbers("scores", [0.5, 1]).tolist()
[0.5, 1.0]
"""

import operator

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def numbers(name: str, values: npt.ArrayLike, *, dimensions: int = 1) -> Floats:
    """`values` as float64.

    Raises:
        PACZeroError: wrong number of dimensions, no numbers, an empty array, or a value that is not finite.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise ValueError(array.dtype)
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise PACZeroError(f"{name}: no numbers were given; expected an array of finite numbers") from None
    if array.ndim != dimensions or not array.size:
        shape = "a value each" if dimensions == 1 else f"{dimensions} dimensions"
        raise PACZeroError(f"{name}: shape {array.shape} was given; expected {shape}, one or more")
    if not np.isfinite(array).all():
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise PACZeroError(
            f"{name}: {bad} of {array.size} values given are NaN or infinite; leave them out or correct them"
        )
    return array


def flags(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Bools:
    """`values` as bool of that shape; numbers must be 0 or 1.

    Raises:
        PACZeroError: wrong shape, or a value other than 0 and 1.
    """
    array = np.asarray(values)
    if array.shape != shape:
        raise PACZeroError(f"{name}: shape {array.shape} was given; expected {shape}")
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise PACZeroError(f"{name}: a value other than false and true (0 and 1) was given")
    return array.astype(np.bool_)


def count(name: str, value: int, least: int = 0, most: int | None = None) -> int:
    """A whole number from `least` to `most`.

    Raises:
        PACZeroError: anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise PACZeroError(f"{name}: {value!r} was given; expected a whole number") from None
    if number < least or (most is not None and number > most):
        expected = f"{least} or more" if most is None else f"{least} to {most}"
        raise PACZeroError(f"{name}: {number} was given; expected {expected}")
    return number


def inside(name: str, value: float) -> float:
    """A number strictly between 0 and 1, such as a confidence.

    Raises:
        PACZeroError: anything else.
    """
    number = _number(name, value)
    if not 0 < number < 1:
        raise PACZeroError(f"{name}: {value!r} was given; expected a number above 0 and below 1")
    return number


def share(name: str, value: float) -> float:
    """A number from 0 to 1, such as a probability; PACZeroError for anything else."""
    number = _number(name, value)
    if not 0 <= number <= 1:
        raise PACZeroError(f"{name}: {value!r} was given; expected a number from 0 to 1")
    return number


def _number(name: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise PACZeroError(f"{name}: {value!r} was given; expected a number") from None
