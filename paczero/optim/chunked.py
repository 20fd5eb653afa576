"""How weights move, piece by piece: θ ← origin + scale · Σ_k f_k z_k, every operation rounded to float32 by itself.

Both moves of a step are of this kind, for multiplying by 1 and changing a sign are exact: a shift has the one factor μ
(or −μ, −2μ) and the scale 1; an update has the released y_k as factors and the scale −η/K.

Directions are made chunk by chunk, used while they are in the processor's cache and forgotten, so a move needs buffers
of a fixed size and reads and writes the weights once. A large move is shared among threads, each with pieces of its
own and buffers of its own; no result depends on that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paczero.optim.directions import DirectionLaw, block_words, chunk_size, stream_key

PIECE = 2**20  # elements that one thread takes at once: 4 MiB of float32, and whole chunks of the generator

DEVICE_PIECE = 2**25  # elsewhere than on a CPU, where what counts is how many kernels are started

# Elements that are made, used and forgotten: 128 KiB of float32 stay in the second-level cache, and torch wakes other
# threads (who would meet in vain) only beyond this size.
_CPU_SPREAD = 2**15


@dataclass(frozen=True)
class AxpyUpdate:
    """What is added to the weights.

    Attributes:
        law, seed, purpose, step: which directions.
        ks: the numbers k of the directions, ascending.
        factors: f_k of each, float32 values.
        scale: a float32 value.
    """

    law: DirectionLaw
    seed: int
    purpose: str
    step: int
    ks: Sequence[int]
    factors: Sequence[float]
    scale: float = 1.0

    def key(self, name: str) -> tuple[int, int]:
        """The generator's key for a parameter."""
        return stream_key(self.purpose, self.seed, name)


@dataclass(frozen=True)
class ParameterChunk:
    """A stretch of one parameter.

    Attributes:
        name: of the parameter.
        start: flat index of the first element.
        out: the weights (n,), of any supported type; written.
        origin: what the move starts from (n,), of the same type; may be `out` itself.
    """

    name: str
    start: int
    out: Tensor
    origin: Tensor


Work = Callable[[AxpyUpdate, Sequence[ParameterChunk]], None]


def pieces(
    weights: Mapping[str, Tensor], origins: Mapping[str, Tensor] | None = None, size: int | None = None
) -> Iterator[ParameterChunk]:
    """The weights, cut; `origins` where the move does not start from the weights themselves."""
    for name, weight in weights.items():
        flat = weight.detach().view(-1)
        origin = flat if origins is None else origins[name].view(-1)
        step = size or (PIECE if flat.device.type == "cpu" else DEVICE_PIECE)
        for start in range(0, flat.numel(), step):
            yield ParameterChunk(name, start, flat[start : start + step], origin[start : start + step])


def apply(move: AxpyUpdate, parts: Sequence[ParameterChunk], work: Work) -> None:
    """Do a move on all pieces, by as many threads as torch uses where that is worth it."""
    threads = min(torch.get_num_threads(), sum(part.out.numel() for part in parts) // PIECE)
    if threads < 2 or any(part.out.device.type != "cpu" for part in parts):
        work(move, parts)
        return
    # A pool of its own each time (some 100 µs of a move that takes milliseconds): nothing is left behind for a fork,
    # and an interrupt is raised when all threads have put down what they were writing.
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, move, parts[first::threads]) for first in range(threads)]:
            done.result()


def by_torch(move: AxpyUpdate, parts: Sequence[ParameterChunk]) -> None:
    """The move by plain torch: what every other way must equal bit for bit."""
    buffers: dict[torch.device, list[Tensor]] = {}
    for part in parts:
        device = part.out.device
        if device not in buffers:
            longest = max(p.out.numel() for p in parts if p.out.device == device) + 2 * move.law.per_block
            buffers[device] = _buffers(move, device, longest)
        size, per_block = chunk_size(device), move.law.per_block
        last = -(-(part.start + part.out.numel()) // per_block)
        for first in range(part.start // per_block, last, size):
            _move_chunk(move, part, first, min(first + size, last), buffers[device])


def _buffers(move: AxpyUpdate, device: torch.device, longest: int) -> list[Tensor]:
    """The sum, and where there are several directions a place for the next."""
    size = min(_CPU_SPREAD, longest) if device.type == "cpu" else longest
    return [torch.empty(size, dtype=torch.float32, device=device) for _ in move.ks[:2]]


def _move_chunk(move: AxpyUpdate, part: ParameterChunk, first: int, last: int, buffers: list[Tensor]) -> None:
    """The move on what a piece has of blocks [first, last)."""
    packed = [_packed(move, part, first, last, k) for k in move.ks]
    per_block = move.law.per_block
    size = len(buffers[0]) // per_block
    for low in range(first, last, size):
        high = min(low + size, last)
        total = _sum(move, [chunk[low - first : high - first] for chunk in packed], (high - low) * per_block, buffers)
        start = max(low * per_block, part.start)
        stop = min(high * per_block, part.start + part.out.numel())
        total = total[start - low * per_block : stop - low * per_block]
        if move.scale != 1:
            total.mul_(move.scale)
        place = slice(start - part.start, stop - part.start)
        if part.out.dtype == torch.float32:
            torch.add(part.origin[place], total, out=part.out[place])
        else:
            part.out[place].copy_(total.add_(part.origin[place]))


def _packed(move: AxpyUpdate, part: ParameterChunk, first: int, last: int, k: int) -> Any:
    block = torch.arange(first, last, dtype=torch.int64, device=part.out.device)
    return move.law.pack(block_words(block, move.key(part.name), move.step, k))


def _sum(move: AxpyUpdate, packed: Sequence[Any], length: int, buffers: list[Tensor]) -> Tensor:
    """Σ_k f_k z_k in the order of k, each product and each sum rounded by itself."""
    total = buffers[0][:length]
    move.law.spread(packed[0], move.factors[0], total)
    for chunk, factor in zip(packed[1:], move.factors[1:], strict=True):
        product = buffers[1][:length]
        move.law.spread(chunk, factor, product)
        total.add_(product)
    return total
