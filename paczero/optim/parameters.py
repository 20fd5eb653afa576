"""The trained weights and everything that moves them: two sides a direction, one update a step, exact to the bit.

>>> weights = PerturbedParameters(dict(model.named_parameters()), law=direction_law("rademacher"), seed=0, mu=1e-3)
>>> with contextlib.closing(weights.perturb(step=0, k=0)) as sides:
...     losses = {side: loss(model) for side in sides}
>>> weights.update(step=0, rate=1e-3, y=[+1])

The arithmetic is part of the format, because whoever replays a transcript must get the same weights (arXiv 2605.06505
releases the bits only; the weights follow from them). Every intermediate is float32 and materialised, every operation
is rounded by itself (no scaled or fused addition), and each result is rounded once to the weight's type:

    side      θ ± round32(round32(μ) · z)
    update    θ − round32(round32(η/K) · Σ_k round32(round32(y_k) · z_k)), the sum in the order of k

Large sets are moved piece by piece (`moves.py`), small ones, such as adapters, as one tensor (`together.py`).
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from paczero.errors import PACZeroError
from paczero.optim import kernels
from paczero.optim.chunked import PIECE, AxpyUpdate, Work, apply, by_torch, pieces
from paczero.optim.directions import DirectionLaw
from paczero.optim.flat import FlatParameters

# Up to so many elements a set is moved as one tensor, its directions kept from the sides to the update (32 MiB).
# Whoever asks for `restore: arithmetic` wants no buffer beyond that of a piece, and a compiled kernel makes directions
# anew in less time than it takes to read them.
_TOGETHER = {"copy": 2**23, "arithmetic": PIECE}

_HASH_BYTES = 2**24

_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def round32(value: float) -> float:
    """The float32 nearest to value; infinite beyond its range."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def fingerprint_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over name, type, shape and bytes of each tensor in the order of names; the same on any device.

    A tensor's bytes are its elements in row-major order, little endian, however it lies in memory. Streams: no copy
    of a contiguous tensor is made beyond 16 MiB. Used for trained weights and for the base model alike.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        header = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        digest.update(json.dumps(header, separators=(",", ":")).encode() + b"\n")
        flat = tensor.contiguous().view(-1).view(torch.uint8)
        for start in range(0, flat.numel(), _HASH_BYTES):
            digest.update(flat[start : start + _HASH_BYTES].cpu().numpy().data)
    return digest.hexdigest()


def _checked(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    if not parameters:
        raise PACZeroError("parameters: none were given; expected one trained parameter or more")
    seen: dict[tuple[torch.device, int], str] = {}
    for name in sorted(parameters):
        parameter = parameters[name]
        if parameter.dtype not in _TYPES:
            raise PACZeroError(f"{name}: type {parameter.dtype} was given; expected float32, float16 or bfloat16")
        if not parameter.is_contiguous():
            raise PACZeroError(
                f"{name}: its memory is not contiguous (strides {tuple(parameter.stride())}); "
                "do parameter.data = parameter.data.contiguous() before training"
            )
        if parameter.numel():
            other = seen.setdefault((parameter.device, parameter.data_ptr()), name)
            if other != name:
                raise PACZeroError(f"{name}: shares its memory with {other} (tied weights); give one of the two")
    return {name: parameters[name] for name in sorted(parameters)}


class PerturbedParameters:
    """The trained parameters, by canonical name.

    Args:
        parameters: canonical name -> parameter, float32, float16 or bfloat16, contiguous, none given twice.
        law: of the directions.
        seed: the public seed.
        mu: μ, half the distance between the two sides, in units of weight.
        restore: `copy` keeps a second copy of the weights and puts back exactly what was there; `arithmetic` keeps
            none and moves by +μz, −2μz, +μz, whose rounding drifts, deterministically.
        purpose: keeps uses of one seed apart ("direction" for training, "pilot" for pilot directions).
        kernel: `auto` compiles the moves of large sets where numba is installed, `off` never; the bits are the same.

    Raises:
        PACZeroError: a parameter of another type, not contiguous or tied to another; μ not positive; restore unknown.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        law: DirectionLaw,
        seed: int,
        mu: float,
        restore: str = "copy",
        purpose: str = "direction",
        kernel: str = "auto",
    ) -> None:
        if restore not in ("copy", "arithmetic"):
            raise PACZeroError(f"restore: {restore!r} was given; expected 'copy' or 'arithmetic'")
        if kernel not in ("auto", "off"):
            raise PACZeroError(f"kernel: {kernel!r} was given; expected 'auto' or 'off'")
        if not (math.isfinite(mu) and round32(mu) > 0):
            raise PACZeroError(f"mu: {mu!r} was given; expected a finite number above 0")
        self.parameters = _checked(parameters)
        self.law, self.seed, self.mu, self.restore, self.purpose = law, seed, mu, restore, purpose
        self.elements = sum(parameter.numel() for parameter in self.parameters.values())
        self._saved: dict[str, Tensor] = {}
        self._set: FlatParameters | None = None
        self.kernel = kernel

    def layout(self) -> list[list]:
        """[name, type, shape] of each parameter in the order of names, as the transcript's header holds it."""
        return [[name, str(p.dtype).removeprefix("torch."), list(p.shape)] for name, p in self.parameters.items()]

    def perturb(self, step: int, k: int) -> Generator[int, None, None]:
        """Yield +1, then −1, while the weights stand at θ + side · μ · z; afterwards they are restored.

        Wrap it in contextlib.closing: then the weights are restored at once where the body raises or stops early
        (`copy`: bit for bit; `arithmetic`: by the moves that are left, so to where `skip` leads). An interrupt
        within an arithmetic move itself cannot be undone; build the weights again by replay.
        """
        if self.restore == "copy":
            return self._copied_sides(step, k)
        return self._moved_sides(step, k)

    def skip(self, step: int, k: int) -> None:
        """Do to the weights what `sides` does in all, without an evaluation: nothing for `copy`, drift otherwise."""
        if self.restore == "arithmetic":
            for _ in self._moved_sides(step, k):
                pass

    def update(self, step: int, rate: float, y: Sequence[float]) -> None:
        """θ ← θ − (η/K) Σ_k y_k z_k, rounded as the module says.

        Args:
            step: t, from 0.
            rate: η_t, in weight per unit of y. Where η_t/K rounds to 0 in float32 no weight changes.
            y: the step's K released values, ±1 or real.

        Raises:
            PACZeroError: y is empty; rate or a value of y is not finite in float32.
        """
        factors = [round32(value) for value in y]
        if not factors or not all(math.isfinite(factor) for factor in factors):
            raise PACZeroError(f"y: {list(y)!r} was given; expected one finite number or more")
        rate32 = round32(rate / len(factors))
        if not math.isfinite(rate32):
            raise PACZeroError(f"rate: {rate!r} was given; expected a finite number")
        together = self._together()
        if rate32 == 0:  # a product of 0 would still turn −0.0 into +0.0
            return
        if together is not None:
            together.update(step, factors, -rate32)
        else:
            self._move(step, range(len(factors)), factors, -rate32)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over names, types, shapes and bytes: any changed bit changes it, the device does not."""
        return fingerprint_tensors(self.parameters)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU, by name."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}

    def load(self, snapshot: Mapping[str, Tensor]) -> None:
        """Set the weights to a snapshot. Raises PACZeroError where names, shapes or types differ; then none is set."""
        for name in sorted(self.parameters.keys() ^ snapshot.keys()):
            where = "the weights" if name in self.parameters else "the snapshot"
            raise PACZeroError(f"snapshot: {name} is in {where} only; expected the same names in both")
        for name, p in self.parameters.items():
            new = snapshot[name]
            if (new.shape, new.dtype) != (p.shape, p.dtype):
                raise PACZeroError(
                    f"snapshot: {name} has {new.dtype} {tuple(new.shape)}; expected {p.dtype} {tuple(p.shape)}"
                )
        for name, p in self.parameters.items():
            p.detach().copy_(snapshot[name])

    @property
    def _work(self) -> Work:
        """How pieces move; asked when the first does, since what compiles takes its time to load."""
        return kernels.select_kernel(self.law, self.kernel)

    def _together(self) -> FlatParameters | None:
        """The set as one tensor, where it is small."""
        keep = _TOGETHER[self.restore]
        if self.elements > keep or (self.elements > PIECE and self._work is not by_torch):
            return None
        if self._set is None or not self._set.fits():
            self._set = FlatParameters(self.parameters, law=self.law, seed=self.seed, purpose=self.purpose, keep=keep)
        return self._set

    def _move(
        self, step: int, ks: Sequence[int], factors: Sequence[float], scale: float, *, saved: bool = False
    ) -> None:
        move = AxpyUpdate(self.law, self.seed, self.purpose, step, ks, factors, scale)
        apply(move, list(pieces(self.parameters, self._saved if saved else None)), self._work)

    def _shift(self, step: int, k: int, by: float, *, saved: bool) -> None:
        """θ ← (the saved copy, or θ itself) + by · z; by is a float32 value."""
        together = self._together()
        if together is not None:
            together.shift(step, k, by, saved=saved)
        else:
            self._move(step, [k], [by], 1.0, saved=saved)

    def _save(self) -> None:
        together = self._together()
        if together is not None:
            together.save()
            return
        for name, parameter in self.parameters.items():
            if name not in self._saved or self._saved[name].device != parameter.device:
                self._saved[name] = torch.empty_like(parameter, requires_grad=False)
            self._saved[name].copy_(parameter.detach())

    def _restore(self) -> None:
        together = self._together()
        if together is not None:
            together.restore()
            return
        for name, parameter in self.parameters.items():
            parameter.detach().copy_(self._saved[name])

    def _copied_sides(self, step: int, k: int) -> Generator[int, None, None]:
        self._save()
        try:
            for side in (1, -1):
                self._shift(step, k, side * round32(self.mu), saved=True)
                yield side
        finally:
            self._restore()

    def _moved_sides(self, step: int, k: int) -> Generator[int, None, None]:
        mu = round32(self.mu)
        moves = iter((mu, -2 * mu, mu))
        self._shift(step, k, next(moves), saved=False)
        try:
            yield 1
            self._shift(step, k, next(moves), saved=False)
            yield -1
        finally:
            for by in moves:
                self._shift(step, k, by, saved=False)


class WeightEMA:
    """The exponential average of the iterates, in float32 (post-processing of released bits: it costs no privacy).

    After n updates it is Σ_i e^(n−i) θ_i / Σ_i e^(n−i), i = 1..n, so the weights before the first update have no part
    in it: a ← a + (θ − a)/c with c ← e·c + 1.

    Args:
        weights: what is averaged.
        decay: e in [0, 1); 0 keeps the last iterate.
    """

    def __init__(self, weights: PerturbedParameters, decay: float) -> None:
        if not 0 <= decay < 1:
            raise PACZeroError(f"average: {decay!r} was given; expected a number in [0, 1)")
        self.weights, self.decay = weights, decay
        self._mass = 0.0
        self._average: dict[str, Tensor] = {}

    def observe(self) -> None:
        """Take the weights as they are after an update into the average."""
        self._mass = self.decay * self._mass + 1
        share = round32(1 / self._mass)
        for name, parameter in self.weights.parameters.items():
            value = parameter.detach()
            if share == 1:  # the first, or no decay: exactly the weights
                self._average[name] = value.to(torch.float32, copy=True)
                continue
            average = self._average[name].view(-1)
            for start in range(0, value.numel(), PIECE):
                piece = average[start : start + PIECE]
                piece.add_((value.view(-1)[start : start + PIECE].float() - piece).mul_(share))

    def snapshot(self) -> dict[str, Tensor]:
        """The average on the CPU, rounded once to each weight's type; before any update the weights themselves."""
        if not self._average:
            return self.weights.snapshot()
        parameters = self.weights.parameters
        return {name: a.to("cpu", parameters[name].dtype, copy=True) for name, a in self._average.items()}

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The weights are the average within the block (for evaluation), and restored bit for bit after it."""
        before = self.weights.snapshot()
        self.weights.load(self.snapshot())
        try:
            yield
        finally:
            self.weights.load(before)
