"""Updates compiled by numba, where it is installed (`pip install 'paczero[fast]'`): faster, with the same bits.

One pass makes words, signs or normal values, sums them and updates the weights, so that a direction exists for a few
blocks at a time in the first-level cache. The generator, both laws and the order of operations are those of
`directions.py`; nothing is contracted to a fused multiply-add, because numba's `fastmath` is off. torch converts other
dtypes than float32, chunk by chunk.

A kernel runs in one thread without Python's lock; `chunked.apply_update` gives each thread chunks of its own. Compiled
code is cached beside this file or in the user's cache directory, so that compiling takes its seconds once.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence

import numpy as np
import torch

from paczero.optim.chunked import AxpyUpdate, Kernel, ParameterChunk, torch_kernel
from paczero.optim.directions import DirectionLaw

ABSENT = "plain torch; pip install 'paczero[fast]' compiles them (the same bits, several times faster)"

_CHUNK = 2**15  # elements of another dtype that are converted at once


@functools.cache
def _kernels() -> dict[str, Callable[..., None]]:
    from paczero.optim.numba_kernels import KERNELS

    return KERNELS


@functools.cache
def describe() -> str:
    """One line: whether updates of large trained sets are compiled here, and if not, why."""
    if importlib.util.find_spec("numba") is None:
        return ABSENT
    try:
        import numba

        _kernels()
    except Exception as error:
        return f"plain torch; numba is installed but does not work here ({type(error).__name__}: {error})"
    return f"compiled by numba {numba.__version__}"


def select_kernel(law: DirectionLaw, setting: str) -> Kernel:
    """The kernel for a law of directions: compiled where the setting is `auto` and numba works, else plain torch."""
    if setting == "off" or not describe().startswith("compiled") or law.name not in _kernels():
        return torch_kernel
    return functools.partial(_compiled, _kernels()[law.name])


def _compiled(kernel: Callable[..., None], update: AxpyUpdate, parts: Sequence[ParameterChunk]) -> None:
    """Updates chunks on the CPU by a compiled kernel, others by torch."""
    on_devices = [part for part in parts if part.out.device.type != "cpu"]
    if on_devices:
        torch_kernel(update, on_devices)
    ks, factors = np.array(update.ks, dtype=np.uint64), np.array(update.factors, dtype=np.float32)
    buffer = torch.empty(_CHUNK)
    for part in parts:
        if part.out.device.type != "cpu":
            continue
        key0, key1 = update.key(part.name)
        common = (np.uint64(key0), np.uint64(key1), np.uint64(update.step), ks, factors, np.float32(update.scale))
        if part.out.dtype == torch.float32:
            kernel(part.out.numpy(), part.origin.numpy(), part.start, *common)
            continue
        for begin in range(0, part.out.numel(), _CHUNK):
            out = part.out[begin : begin + _CHUNK]
            values = buffer[: out.numel()].copy_(part.origin[begin : begin + _CHUNK])
            kernel(values.numpy(), values.numpy(), part.start + begin, *common)
            out.copy_(values)
