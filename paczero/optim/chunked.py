"""Updates of weights, chunk by chunk: θ ← origin + scale · Σ_k f_k z_k, every operation rounded to float32 by itself.

Both updates of a step have this form, because multiplying by 1 and changing a sign are exact: a perturbation has the
one factor μ (or −μ, −2μ) and the scale 1; the step's update has the released y_k as factors and the scale −η/K.

A direction is made, used and dropped while it is in the processor's cache, so buffers have a fixed size, and the
weights are read and written once. Large updates are shared among threads, each with chunks and buffers of its own; no
result depends on that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paczero.optim.directions import DirectionLaw, block_words, chunk_size, stream_key

CHUNK = 2**20  # elements that one thread updates at once: 4 MiB of float32, and a multiple of the generator's chunks

DEVICE_CHUNK = 2**25  # on other devices than a CPU, where the number of kernel launches counts

# Elements of a buffer on a CPU: 128 KiB of float32 stay in the second-level cache, and torch starts threads of its own
# only beyond this size.
_CPU_BUFFER = 2**15


@dataclass(frozen=True)
class AxpyUpdate:
    """What is added to the weights: scale · Σ_k f_k z_k.

    Attributes:
        law, seed, purpose, step: of the directions.
        ks: the numbers k of the directions, ascending.
        factors: f_k, float32 values.
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
    """Consecutive elements of one parameter.

    Attributes:
        name: of the parameter.
        start: flat index of the first element.
        out: the weights (n,), of any supported dtype; written.
        origin: what the update starts from (n,), of the same dtype; may be `out` itself.
    """

    name: str
    start: int
    out: Tensor
    origin: Tensor


Kernel = Callable[[AxpyUpdate, Sequence[ParameterChunk]], None]


class ChunkedParameters:
    """A large trained set, updated chunk by chunk.

    Args:
        parameters: canonical name -> parameter.
        law, seed, purpose: of the directions.
        kernel: applies an update to chunks.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], *, law: DirectionLaw, seed: int, purpose: str, kernel: Kernel
    ) -> None:
        self.parameters, self.law, self.seed, self.purpose, self.kernel = parameters, law, seed, purpose, kernel
        self._saved: dict[str, Tensor] = {}

    def on_same_devices(self) -> bool:
        """Whether the parameters are on the devices where they were saved."""
        return all(saved.device == self.parameters[name].device for name, saved in self._saved.items())

    @torch.no_grad()
    def save(self) -> None:
        """Keeps a copy of the weights."""
        for name, parameter in self.parameters.items():
            if name not in self._saved:
                self._saved[name] = torch.empty_like(parameter)
            self._saved[name].copy_(parameter)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts back the copy, bit for bit."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self._saved[name])

    def shift(self, step: int, k: int, by: float, *, saved: bool) -> None:
        """θ ← (the saved copy, or θ itself) + by · z; by is a float32 value."""
        self._apply(step, [k], [by], 1.0, self._saved if saved else None)

    def update(self, step: int, factors: Sequence[float], scale: float) -> None:
        """θ ← θ + scale · Σ_k f_k z_k."""
        self._apply(step, range(len(factors)), factors, scale, None)

    def _apply(
        self, step: int, ks: Sequence[int], factors: Sequence[float], scale: float, origins: Mapping[str, Tensor] | None
    ) -> None:
        update = AxpyUpdate(self.law, self.seed, self.purpose, step, ks, factors, scale)
        apply_update(update, list(chunks(self.parameters, origins)), self.kernel)


def chunks(
    weights: Mapping[str, Tensor], origins: Mapping[str, Tensor] | None = None, size: int | None = None
) -> Iterator[ParameterChunk]:
    """The weights in chunks; `origins` where an update does not start from the weights themselves."""
    for name, weight in weights.items():
        flat = weight.detach().view(-1)
        origin = flat if origins is None else origins[name].view(-1)
        length = size or (CHUNK if flat.device.type == "cpu" else DEVICE_CHUNK)
        for start in range(0, flat.numel(), length):
            yield ParameterChunk(name, start, flat[start : start + length], origin[start : start + length])


def apply_update(update: AxpyUpdate, parts: Sequence[ParameterChunk], kernel: Kernel) -> None:
    """Applies an update to all chunks, with as many threads as torch uses where that is faster."""
    threads = min(torch.get_num_threads(), sum(part.out.numel() for part in parts) // CHUNK)
    if threads < 2 or any(part.out.device.type != "cpu" for part in parts):
        kernel(update, parts)
        return
    # A new pool costs about 100 µs of an update that takes milliseconds. It leaves no thread behind for a fork, and an
    # interrupt is raised only when no thread is writing any more.
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, update, parts[first::threads]) for first in range(threads)]:
            done.result()


def torch_kernel(update: AxpyUpdate, parts: Sequence[ParameterChunk]) -> None:
    """The update by plain torch; every other kernel must equal it bit for bit."""
    buffers: dict[torch.device, list[Tensor]] = {}
    for part in parts:
        device = part.out.device
        if device not in buffers:
            longest = max(p.out.numel() for p in parts if p.out.device == device) + 2 * update.law.per_block
            buffers[device] = _buffers(update, device, longest)
        size, per_block = chunk_size(device), update.law.per_block
        last = -(-(part.start + part.out.numel()) // per_block)
        for first in range(part.start // per_block, last, size):
            _update_blocks(update, part, first, min(first + size, last), buffers[device])


def _buffers(update: AxpyUpdate, device: torch.device, longest: int) -> list[Tensor]:
    """A buffer for the sum, and one for the next product where there are several directions."""
    size = min(_CPU_BUFFER, longest) if device.type == "cpu" else longest
    return [torch.empty(size, dtype=torch.float32, device=device) for _ in update.ks[:2]]


def _update_blocks(update: AxpyUpdate, part: ParameterChunk, first: int, last: int, buffers: list[Tensor]) -> None:
    """Updates the elements of a chunk that lie in blocks [first, last)."""
    packed = [_packed(update, part, first, last, k) for k in update.ks]
    per_block = update.law.per_block
    size = len(buffers[0]) // per_block
    for low in range(first, last, size):
        high = min(low + size, last)
        total = _sum(
            update, [blocks[low - first : high - first] for blocks in packed], (high - low) * per_block, buffers
        )
        start = max(low * per_block, part.start)
        stop = min(high * per_block, part.start + part.out.numel())
        total = total[start - low * per_block : stop - low * per_block]
        if update.scale != 1:
            total.mul_(update.scale)
        elements = slice(start - part.start, stop - part.start)
        if part.out.dtype == torch.float32:
            torch.add(part.origin[elements], total, out=part.out[elements])
        else:
            part.out[elements].copy_(total.add_(part.origin[elements]))


def _packed(update: AxpyUpdate, part: ParameterChunk, first: int, last: int, k: int) -> Any:
    block = torch.arange(first, last, dtype=torch.int64, device=part.out.device)
    return update.law.pack(block_words(block, update.key(part.name), update.step, k))


def _sum(update: AxpyUpdate, packed: Sequence[Any], length: int, buffers: list[Tensor]) -> Tensor:
    """Σ_k f_k z_k in the order of k, each product and each sum rounded by itself."""
    total = buffers[0][:length]
    update.law.spread(packed[0], update.factors[0], total)
    for blocks, factor in zip(packed[1:], update.factors[1:], strict=True):
        product = buffers[1][:length]
        update.law.spread(blocks, factor, product)
        total.add_(product)
    return total
