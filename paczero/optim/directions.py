"""Random directions that need no storage: each element is a function of (seed, step, k, parameter name, index).

>>> law = direction_law("rademacher")
>>> law.draw(seed=0, step=7, k=0, name="layer.weight", start=0, stop=4).shape
torch.Size([4])

The generator is the counter-based Philox4x32-10 of Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy
as 1, 2, 3* (SC 2011); its published test vectors are in the tests. A block of four 32-bit words has

    key      the first 64 bits of SHA-256("purpose|seed|name"), so names and uses get streams of their own
    counter  (block, low word; block, high word; step; k)

and gives 128 signs or 4 normal values. Any part of a direction can be made without the rest, and has the same bits
however a direction is cut. Only integer operations and the float64 operations + − × ÷ are used, which IEEE 754 defines
to the last bit, so both laws give the same bits on any device and for any number of threads. (Logarithms, cosines and
square roots of libraries differ between processors, and with the alignment of an element in memory.) Chunks are small
enough to stay in the processor's cache.
"""

import functools
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from paczero.errors import PACZeroError

Words = tuple[Tensor, Tensor, Tensor, Tensor]

Key = tuple[int, int] | tuple[Tensor, Tensor]

_MASK = 0xFFFFFFFF

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)

KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

_ROUNDS = 10

# 2^13 blocks: each integer operation then works on 64 KiB, which stays in the second-level cache, and is below the
# size from which torch wakes other threads (32,768 elements), whose meeting costs more than the work.
_CPU_BLOCKS = 2**13

_DEVICE_BLOCKS = 2**18

# The bytes' eight signs: +1 where a bit is 0, −1 where it is 1 (float32's own sign bit), lowest bit first.
_BYTE_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")

_BYTE_SIGNS = 1 - 2 * _BYTE_BITS.astype(np.float32)

# ln u is split at √½ so that what is left for the series lies in [√½, √2); this is its float64 bit pattern, cut.
ROOT_HALF_BITS = 0x3FE6A09E00000000

ONE_BITS = 0x3FF0000000000000

# Half the exponent and half the mantissa, by shifting the bits of a float64, is its root to 5 %, with this added.
ROOT_GUESS_BITS = 0x1FF7A3BEA91D9B1B

# Terms of the three series, enough for a relative error below 1e-11 before the one rounding to float32 (6e-8).
LN2 = 0.6931471805599453

ATANH = [1 / (2 * i + 1) for i in range(7)]

SINE = [(-1) ** i / math.factorial(2 * i + 1) for i in range(6)]

COSINE = [(-1) ** i / math.factorial(2 * i) for i in range(7)]


def philox4x32(counter: Words, key: Key) -> Words:
    """Philox4x32-10 of many counters.

    Args:
        counter: four int64 tensors of one shape, each word in [0, 2^32); they are overwritten.
        key: two words in [0, 2^32): integers, or int64 tensors of that shape with a key for each counter.

    Returns:
        four int64 tensors of that shape, words in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    p, q = torch.empty_like(c0), torch.empty_like(c2)
    for _ in range(_ROUNDS):
        # The 64-bit products wrap into the sign bit; the shift drags it along and the mask removes it.
        torch.mul(c0, MULTIPLIERS[0], out=p)
        torch.mul(c2, MULTIPLIERS[1], out=q)
        torch.bitwise_right_shift(q, 32, out=c0).bitwise_and_(_MASK).bitwise_xor_(c1).bitwise_xor_(k0)
        torch.bitwise_right_shift(p, 32, out=c2).bitwise_and_(_MASK).bitwise_xor_(c3).bitwise_xor_(k1)
        torch.bitwise_and(q, _MASK, out=c1)
        torch.bitwise_and(p, _MASK, out=c3)
        k0, k1 = (k0 + KEY_STEPS[0]) & _MASK, (k1 + KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


@functools.lru_cache(maxsize=4096)
def stream_key(purpose: str, seed: int, name: str) -> tuple[int, int]:
    """The two words of the key of a parameter's stream."""
    digest = hashlib.sha256(f"{purpose}|{seed}|{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def block_words(block: Tensor, key: Key, step: int, k: int) -> Words:
    """The four words of each block, given by number: int64 (B,), overwritten."""
    for name, value in (("step", step), ("k", k)):
        if not 0 <= value <= _MASK:
            raise PACZeroError(f"{name}: {value} was given; expected an integer from 0 to 2^32 - 1")
    high = torch.bitwise_right_shift(block, 32)
    return philox4x32((block.bitwise_and_(_MASK), high, torch.full_like(block, step), torch.full_like(block, k)), key)


def chunk_size(device: torch.device) -> int:
    """How many blocks are made at once."""
    return _CPU_BLOCKS if device.type == "cpu" else _DEVICE_BLOCKS


@dataclass(frozen=True)
class FlatLayout:
    """Several parameters' directions as one tensor, each starting at a block.

    Attributes:
        sizes: canonical name -> number of elements.
        starts: canonical name -> offset of its first element.
        elements: length of the tensor, gaps included.
        blocks: number of each block within its parameter's stream, int64 (B,).
        keys: the two words of each block's key, int64 (B,) each.
    """

    sizes: dict[str, int]
    starts: dict[str, int]
    elements: int
    blocks: Tensor
    keys: tuple[Tensor, Tensor]


class DirectionLaw(ABC):
    """How the elements of a direction are distributed (independent, mean 0, variance 1)."""

    name: ClassVar[str]
    per_block: ClassVar[int]

    @staticmethod
    @abstractmethod
    def pack(words: Words) -> Any:
        """Blocks, four int64 (B,) tensors of 32-bit words, as `spread` takes them: values, or bits; sliced along B."""

    @staticmethod
    def spread(packed: Any, factor: float, out: Tensor) -> None:
        """Writes factor · z of packed blocks to out, float32 (B · per_block,); factor is a float32 value."""
        torch.mul(packed.view(-1), factor, out=out)

    def _fill(self, blocks: Tensor, key: Key, step: int, k: int, out: Tensor) -> None:
        """Writes the blocks of these numbers, int64 (B,), to out, float32 (B · per_block,), chunk by chunk."""
        size = chunk_size(blocks.device)
        for begin in range(0, len(blocks), size):
            part = slice(begin, min(begin + size, len(blocks)))
            key_of_part = (key[0][part], key[1][part]) if isinstance(key[0], Tensor) else key
            words = block_words(blocks[part].clone(), key_of_part, step, k)
            self.spread(self.pack(words), 1.0, out[part.start * self.per_block : part.stop * self.per_block])

    def draw(
        self,
        *,
        seed: int,
        step: int,
        k: int,
        name: str,
        start: int,
        stop: int,
        device: torch.device | str = "cpu",
        purpose: str = "direction",
    ) -> Tensor:
        """Elements [start, stop) of direction k of `step` for the parameter `name`, flattened.

        Args:
            seed: the run's public seed.
            step, k: from 0, below 2^32.
            name: canonical name of the parameter.
            start, stop: flat indices; the values do not depend on how a parameter is cut.
            device: where the values are made; the bits are the same on each.
            purpose: separates uses of a seed: "direction" for training, "pilot" for the pilot directions.

        Returns:
            float32 (stop - start,).

        Raises:
            PACZeroError: an index, step or k outside its range.
        """
        if not 0 <= start <= stop:
            raise PACZeroError(f"start, stop: {start}, {stop} were given; expected 0 <= start <= stop")
        first, last = start // self.per_block, -(-stop // self.per_block)
        values = torch.empty((last - first) * self.per_block, dtype=torch.float32, device=device)
        blocks = torch.arange(first, last, dtype=torch.int64, device=device)
        self._fill(blocks, stream_key(purpose, seed, name), step, k, values)
        return values[start - first * self.per_block : stop - first * self.per_block]

    def layout(
        self, *, seed: int, sizes: Mapping[str, int], device: torch.device | str = "cpu", purpose: str = "direction"
    ) -> FlatLayout:
        """The offsets of several parameters' directions in one tensor, at any step.

        Args:
            sizes: canonical name -> number of elements. The rest as for `draw`.
        """
        counts = torch.tensor([-(-size // self.per_block) for size in sizes.values()], dtype=torch.int64)
        firsts = counts.cumsum(0) - counts
        blocks = torch.arange(int(counts.sum())) - firsts.repeat_interleave(counts)
        keys = torch.tensor([stream_key(purpose, seed, name) for name in sizes], dtype=torch.int64).view(-1, 2)
        k0, k1 = keys.repeat_interleave(counts, dim=0).T.contiguous().to(device)
        starts = dict(zip(sizes, (firsts * self.per_block).tolist(), strict=True))
        return FlatLayout(dict(sizes), starts, len(blocks) * self.per_block, blocks.to(device), (k0, k1))

    def draw_flat(self, layout: FlatLayout, *, step: int, k: int, out: Tensor | None = None) -> Tensor:
        """Direction k of `step` for all parameters of a layout: float32 (layout.elements,), in `out` if given."""
        if out is None:
            out = torch.empty(layout.elements, dtype=torch.float32, device=layout.blocks.device)
        self._fill(layout.blocks, layout.keys, step, k, out)
        return out


class Rademacher(DirectionLaw):
    """Signs ±1: element i is bit i mod 32 of word (i mod 128) div 32 of block i div 128; a set bit is −1."""

    name = "rademacher"
    per_block = 128

    @staticmethod
    def pack(words: Words) -> Any:
        """The bits themselves: on a CPU as a numpy array of bytes (B, 16), elsewhere as an int32 tensor (B, 4)."""
        if words[0].device.type != "cpu":
            return torch.stack(words, dim=1).to(torch.int32)
        packed = np.empty((len(words[0]), 4), dtype="<u4")
        for i, word in enumerate(words):
            packed[:, i] = word.numpy()
        return packed.view(np.uint8)

    @staticmethod
    def spread(packed: Any, factor: float, out: Tensor) -> None:
        factor_bits = int(np.float32(factor).view(np.int32))
        if not isinstance(packed, Tensor):  # eight signs a byte from a table: the fastest way on a CPU
            np.take(_table(factor_bits), packed.reshape(-1), axis=0, out=out.numpy().reshape(-1, 8), mode="clip")
            return
        # Each bit moves to the sign bit of the factor: the same values, on devices where a table is slow.
        shifts = torch.arange(31, -1, -1, dtype=torch.int32, device=out.device)
        bits = out.view(torch.int32).view(-1, 32)
        torch.bitwise_left_shift(packed.reshape(-1, 1), shifts, out=bits)
        bits.bitwise_and_(-(2**31)).bitwise_xor_(factor_bits)


@functools.lru_cache(maxsize=64)
def _table(factor_bits: int) -> np.ndarray:
    """The signs times a factor, given as its bits: 0.0 and −0.0 are one key to a cache but not one factor."""
    return _BYTE_SIGNS * np.int32(factor_bits).view(np.float32)


class Gaussian(DirectionLaw):
    """Standard normal values by Box–Muller: words (0, 1) of a block give elements 0 and 1, words (2, 3) elements 2, 3.

    From words (a, b): radius √(−2 ln((2a + 1)/2^33)), angle (π/2)(b div 2^30) + (π/2)((2(b mod 2^30) + 1)/2^31 − 1/2);
    radius × cosine, then radius × sine, in float64, rounded once to float32. At most 6.8 in size.
    """

    name = "gaussian"
    per_block = 4

    @staticmethod
    def pack(words: Words) -> Tensor:
        """The values, float32 (B, 4)."""
        radius = _radius(torch.stack((words[0], words[2])))
        cosine, sine = _circle(torch.stack((words[1], words[3])))
        values = torch.empty((len(words[0]), 4), dtype=torch.float32, device=radius.device)
        pairs = values.view(-1, 2, 2)
        pairs[:, :, 0] = cosine.mul_(radius).T
        pairs[:, :, 1] = sine.mul_(radius).T
        return values


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value.mul_(x).add_(coefficient)
    return value


def _radius(word: Tensor) -> Tensor:
    """√(−2 ln u), u = (2 word + 1)/2^33: ln by exponent and 2 artanh((m − 1)/(m + 1)), m in [√½, √2)."""
    bits = (2 * word + 1).to(torch.float64).view(torch.int64)
    bits += ONE_BITS - ROOT_HALF_BITS
    exponent = torch.bitwise_right_shift(bits, 52).sub_(1023 + 33).to(torch.float64)
    mantissa = bits.bitwise_and_(2**52 - 1).add_(ROOT_HALF_BITS).view(torch.float64)
    ratio = (mantissa - 1).div_(mantissa + 1)
    logarithm = _polynomial(ATANH, ratio * ratio).mul_(ratio).mul_(2)
    return _root(exponent.mul_(LN2).add_(logarithm).mul_(-2))


def _root(x: Tensor) -> Tensor:
    """√x, x > 0, by three of Newton's steps, each of which squares the relative error (the last one: 1e-13)."""
    root = torch.bitwise_right_shift(x.view(torch.int64), 1).add_(ROOT_GUESS_BITS).view(torch.float64)
    for _ in range(3):
        root = (x / root).add_(root).mul_(0.5)
    return root


def _circle(word: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the word's angle: a quarter turn a quadrant, Taylor's series within ±π/4 of its middle."""
    quadrant = torch.bitwise_right_shift(word, 30)
    angle = torch.bitwise_and(word, 2**30 - 1).mul_(2).sub_(2**30 - 1).to(torch.float64).mul_(math.pi / 2**32)
    square = angle * angle
    sine = _polynomial(SINE, square).mul_(angle)
    cosine = _polynomial(COSINE, square)
    odd = torch.bitwise_and(quadrant, 1).bool()
    across, up = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    # Signs by quadrant 0..3: + − − + for the cosine, + + − − for the sine.
    across.mul_(1 - torch.bitwise_right_shift(quadrant + 1, 1).bitwise_and_(1).mul_(2))
    up.mul_(1 - torch.bitwise_right_shift(quadrant, 1).mul_(2))
    return across, up


RADEMACHER = Rademacher()

GAUSSIAN = Gaussian()

_LAWS: dict[str, DirectionLaw] = {law.name: law for law in (RADEMACHER, GAUSSIAN)}


def direction_law(name: str) -> DirectionLaw:
    """The law of that name: `rademacher` or `gaussian`. Raises PACZeroError for any other."""
    if name not in _LAWS:
        raise PACZeroError(f"direction_law: {name!r} was given; expected one of {', '.join(_LAWS)}")
    return _LAWS[name]


class _Uniform(DirectionLaw):
    """Uniform on (−1, 1), for initial adapters; its variance is 1/3, so it is no law of directions."""

    per_block = 4

    @staticmethod
    def pack(words: Words) -> Tensor:
        """The values, float32 (B, 4)."""
        # 24 bits a value: odd numbers below 2^24 in size, over 2^24, are exact in float32 and symmetric about 0.
        odd = torch.bitwise_right_shift(torch.stack(words, dim=1), 8).mul_(2).sub_(2**24 - 1)
        return odd.to(torch.float32).mul_(2.0**-24)


def uniform(*, seed: int, name: str, count: int, purpose: str = "adapter") -> Tensor:
    """Values uniform on (−1, 1), float32 (count,), multiples of 2^−24, by the same generator."""
    return _Uniform().draw(seed=seed, step=0, k=0, name=name, start=0, stop=count, purpose=purpose)
