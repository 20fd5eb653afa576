"""The compiled kernels; importing this module needs numba (`kernels.py` decides whether they are used).

A kernel computes θ ← origin + scale · Σ_k f_k z_k on a chunk of one parameter, batch by batch, with the operations and
in the order of `directions.py` and `chunked.py`. Words are uint64: numba turns int64 with uint64 into a float.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from paczero.optim import directions

_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

_MULTIPLIER_0, _MULTIPLIER_1 = (np.uint64(multiplier) for multiplier in directions.MULTIPLIERS)

_STEP_0, _STEP_1 = (np.uint64(step) for step in directions.KEY_STEPS)

# One word's bits, lowest first. Given to the kernel as an argument: a loop of known length is unrolled, not vectorised.
_BITS = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))

_U0, _U1, _U2, _U30, _U52 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(30), np.uint64(52)

_TO_ROOT_HALF = np.uint64(directions.ONE_BITS - directions.ROOT_HALF_BITS)

_ROOT_HALF = np.uint64(directions.ROOT_HALF_BITS)

_ROOT_GUESS = np.uint64(directions.ROOT_GUESS_BITS)

_MANTISSA = np.uint64(2**52 - 1)

# An integer below 2^52 in the mantissa of 2^52 is that number plus 2^52: exact, and vectorised; a conversion is not.
_TWO_52_BITS, _TWO_52 = np.uint64(0x4330000000000000), 2.0**52

_TWO_52_AND_BIAS = 2.0**52 + 1023 + 33

_TWO_52_AND_QUARTER = 2.0**52 + 2**30 - 1

_LN2 = directions.LN2

_ATANH, _SINE, _COSINE = tuple(directions.ATANH), tuple(directions.SINE), tuple(directions.COSINE)

_TURN = math.pi / 2**32

_IN_QUADRANT = np.uint64(2**30 - 1)

# Elements in the first-level cache at once; a block gives 128 signs or 4 normal values.
_SIGN_BLOCKS = 32

_NORMAL_BLOCKS = 256


# numba's own annotations would make every decorated function untyped.
_njit: Any = numba.njit

_intrinsic: Any = intrinsic


def _jit(function: Callable[..., Any]) -> Any:
    """Compiles on first use; the code is cached where a cache directory can be written."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": False}
    try:
        return _njit(cache=True, **options)(function)
    except RuntimeError:  # neither this directory nor the user's can be written
        return _njit(**options)(function)


@_jit
def _make_words(words, first, count, key0, key1, step, k):  # type: ignore[no-untyped-def]
    """Philox4x32-10 of blocks [first, first + count) into words, uint32 (4, ≥ count)."""
    for b in range(count):
        block = np.uint64(first + b)
        c0, c1, c2, c3 = block & _MASK, block >> _HALF, step, k
        a, e = key0, key1
        for _ in range(10):
            p, q = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
            c0, c2 = (q >> _HALF) ^ c1 ^ a, (p >> _HALF) ^ c3 ^ e
            c1, c3 = q & _MASK, p & _MASK
            a, e = (a + _STEP_0) & _MASK, (e + _STEP_1) & _MASK
        words[0, b], words[1, b] = np.uint32(c0), np.uint32(c1)
        words[2, b], words[3, b] = np.uint32(c2), np.uint32(c3)


@_jit
def _finish(out, origin, start, total, base, scale):  # type: ignore[no-untyped-def]
    """out ← origin + scale · total where the batch, which begins at element `base`, overlaps the chunk."""
    low, high = max(start, base), min(start + len(out), base + len(total))
    count = high - low
    target, added = out[low - start : high - start], total[low - base : high - base]
    if out.ctypes.data == origin.ctypes.data:  # one array in the loop: the compiler must assume that two overlap
        for i in range(count):
            target[i] += added[i] * scale
    else:
        source = origin[low - start : high - start]
        for i in range(count):
            target[i] = source[i] + added[i] * scale


@_jit
def _rademacher(out, origin, start, key0, key1, step, ks, factors, scale, bits):  # type: ignore[no-untyped-def]
    words = np.empty((4, _SIGN_BLOCKS), np.uint32)
    total = np.empty(_SIGN_BLOCKS * 128, np.float32)
    last = -(-(start + len(out)) // 128)
    for first in range(start // 128, last, _SIGN_BLOCKS):
        count = min(_SIGN_BLOCKS, last - first)
        for number in range(len(ks)):
            _make_words(words, first, count, key0, key1, step, ks[number])
            plus = factors[number]
            minus = -plus
            for b in range(count):
                for w in range(4):
                    word, base = words[w, b], b * 128 + w * 32
                    if number == 0:
                        for j in range(len(bits)):
                            total[base + j] = minus if word & bits[j] else plus
                    else:
                        for j in range(len(bits)):
                            total[base + j] += minus if word & bits[j] else plus
        _finish(out, origin, start, total[: count * 128], first * 128, scale)


def rademacher(*arguments: Any) -> None:
    """(out, origin, start, key0, key1, step, ks, factors, scale): the update along signs."""
    _rademacher(*arguments, _BITS)


@_intrinsic
def _bits_of(typing_context, value):  # type: ignore[no-untyped-def]
    """The bit pattern of a float64, as uint64."""
    return numba.uint64(numba.float64), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(64))


@_intrinsic
def _float_of(typing_context, bits):  # type: ignore[no-untyped-def]
    """The float64 of a bit pattern, uint64."""
    return numba.float64(numba.uint64), lambda _, builder, __, given: builder.bitcast(given[0], ir.DoubleType())


@_jit
def _radius(word):  # type: ignore[no-untyped-def]
    """√(−2 ln u), u = (2 word + 1)/2^33."""
    bits = _bits_of(_float_of((word * _U2 + _U1) | _TWO_52_BITS) - _TWO_52) + _TO_ROOT_HALF
    exponent = _float_of((bits >> _U52) | _TWO_52_BITS) - _TWO_52_AND_BIAS
    mantissa = _float_of((bits & _MANTISSA) + _ROOT_HALF)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    s = ratio * ratio
    p = _ATANH[6] * s + _ATANH[5]
    p = ((((p * s + _ATANH[4]) * s + _ATANH[3]) * s + _ATANH[2]) * s + _ATANH[1]) * s + _ATANH[0]
    square = (exponent * _LN2 + p * ratio * 2.0) * -2.0
    root = _float_of((_bits_of(square) >> _U1) + _ROOT_GUESS)
    root = (square / root + root) * 0.5
    root = (square / root + root) * 0.5
    return (square / root + root) * 0.5


@_jit
def _turned(word, quadrants):  # type: ignore[no-untyped-def]
    """Cosine (quadrants = 0) or sine (1) of a word's angle, but for the sign."""
    angle = (_float_of((word & _IN_QUADRANT) * _U2 | _TWO_52_BITS) - _TWO_52_AND_QUARTER) * _TURN
    s = angle * angle
    p = _SINE[5] * s + _SINE[4]
    sine = ((((p * s + _SINE[3]) * s + _SINE[2]) * s + _SINE[1]) * s + _SINE[0]) * angle
    p = (_COSINE[6] * s + _COSINE[5]) * s + _COSINE[4]
    cosine = (((p * s + _COSINE[3]) * s + _COSINE[2]) * s + _COSINE[1]) * s + _COSINE[0]
    return sine if ((word >> _U30) + quadrants) & _U1 else cosine


@_jit
def _make_normals(values, first, words, angles, count, radii):  # type: ignore[no-untyped-def]
    """Box–Muller: elements `first` and `first + 1` of each block into values (≥ 4 count,). One loop each: then it is
    vectorised, which saves more than the sine and cosine that are computed twice."""
    for i in range(count):
        radii[i] = _radius(np.uint64(words[i]))
    for i in range(count):
        word = np.uint64(angles[i])
        across = _turned(word, _U0)
        values[4 * i + first] = np.float32((-across if ((word >> _U30) + _U1) & _U2 else across) * radii[i])
    for i in range(count):
        word = np.uint64(angles[i])
        up = _turned(word, _U1)
        values[4 * i + first + 1] = np.float32((-up if (word >> _U30) & _U2 else up) * radii[i])


@_jit
def gaussian(out, origin, start, key0, key1, step, ks, factors, scale):  # type: ignore[no-untyped-def]
    """The update along normal values."""
    words, radii = np.empty((4, _NORMAL_BLOCKS), np.uint32), np.empty(_NORMAL_BLOCKS)
    values, total = np.empty(_NORMAL_BLOCKS * 4, np.float32), np.empty(_NORMAL_BLOCKS * 4, np.float32)
    last = -(-(start + len(out)) // 4)
    for first in range(start // 4, last, _NORMAL_BLOCKS):
        count = min(_NORMAL_BLOCKS, last - first)
        for number in range(len(ks)):
            _make_words(words, first, count, key0, key1, step, ks[number])
            _make_normals(values, 0, words[0], words[1], count, radii)
            _make_normals(values, 2, words[2], words[3], count, radii)
            factor = factors[number]
            if number == 0:
                for i in range(4 * count):
                    total[i] = values[i] * factor
            else:
                for i in range(4 * count):
                    total[i] += values[i] * factor
        _finish(out, origin, start, total[: 4 * count], first * 4, scale)


KERNELS = {"rademacher": rademacher, "gaussian": gaussian}
