"""Moves compiled by numba, where it is installed (`pip install 'paczero[fast]'`): the bits of `moves.by_torch`, faster.

>>> describe()
'compiled by numba 0.68.1'

One pass makes words, signs or normal values, sums them and moves the weights, so that a direction exists for a few
blocks at a time in the first-level cache. The generator, both laws and the order of operations are those of
`directions.py`; nothing is contracted to a fused multiply-add, because numba's `fastmath` stays off. Other types than
float32 are converted by torch, chunk by chunk.

A kernel runs in one thread and lets go of Python's lock; `moves.apply` gives each of torch's threads pieces of its
own. Compiled code is cached beside this file or in the user's cache directory, so that the seconds of compiling are
spent once; where neither can be written, once a process.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence

import numpy as np
import torch

from paczero.optim.chunked import AxpyUpdate, ParameterChunk, Work, by_torch
from paczero.optim.directions import DirectionLaw

ABSENT = "plain torch; pip install 'paczero[fast]' compiles them (the same bits, several times faster)"

_CHUNK = 2**15  # elements of another type that are converted at once

Kernel = Callable[..., None]


@functools.cache
def _kernels() -> dict[str, Kernel]:
    from paczero.optim.numba_kernels import KERNELS

    return KERNELS


@functools.cache
def describe() -> str:
    """One line: whether directions and updates of large trained sets are compiled here, and if not, why."""
    if importlib.util.find_spec("numba") is None:
        return ABSENT
    try:
        import numba

        _kernels()
    except Exception as error:
        return f"plain torch; numba is installed but does not work here ({type(error).__name__}: {error})"
    return f"compiled by numba {numba.__version__}"


def select_kernel(law: DirectionLaw, setting: str) -> Work:
    """How moves along a law's directions are done: compiled where the setting is `auto` and numba works."""
    if setting == "off" or not describe().startswith("compiled") or law.name not in _kernels():
        return by_torch
    return functools.partial(_compiled, _kernels()[law.name])


def _compiled(kernel: Kernel, move: AxpyUpdate, parts: Sequence[ParameterChunk]) -> None:
    """The move by a kernel; pieces on other devices than the CPU by torch."""
    elsewhere = [part for part in parts if part.out.device.type != "cpu"]
    if elsewhere:
        by_torch(move, elsewhere)
    ks, factors = np.array(move.ks, dtype=np.uint64), np.array(move.factors, dtype=np.float32)
    buffer = torch.empty(_CHUNK)
    for part in parts:
        if part.out.device.type != "cpu":
            continue
        key0, key1 = move.key(part.name)
        common = (np.uint64(key0), np.uint64(key1), np.uint64(move.step), ks, factors, np.float32(move.scale))
        if part.out.dtype == torch.float32:
            kernel(part.out.numpy(), part.origin.numpy(), part.start, *common)
            continue
        for begin in range(0, part.out.numel(), _CHUNK):
            out = part.out[begin : begin + _CHUNK]
            values = buffer[: out.numel()].copy_(part.origin[begin : begin + _CHUNK])
            kernel(values.numpy(), values.numpy(), part.start + begin, *common)
            out.copy_(values)
