"""The trained weights: perturbed twice a direction, updated once a step, exact to the bit.

    weights = PerturbedParameters(dict(model.named_parameters()), law=direction_law("rademacher"), seed=0, mu=1e-3)
    with contextlib.closing(weights.perturb(step=0, k=0)) as signs:
        losses = {sign: loss(model) for sign in signs}
    weights.update(step=0, rate=1e-3, y=[+1])

The arithmetic is part of the transcript's format, because a replay must give the same weights (arXiv 2605.06505
releases the bits only; the weights follow from them). Every intermediate is float32 and materialised, every operation
is rounded by itself (no scaled or fused addition), and each result is rounded once to the weight's dtype:

    perturbation  θ ± round32(round32(μ) · z)
    update        θ − round32(round32(η/K) · Σ_k round32(round32(y_k) · z_k)), the sum in the order of k

Large sets are updated chunk by chunk (`chunked.py`), small ones, such as adapters, as one tensor (`flat.py`).
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
from paczero.optim.chunked import CHUNK, ChunkedParameters, torch_kernel
from paczero.optim.directions import DirectionLaw
from paczero.optim.flat import FlatParameters

# Up to so many elements a set is updated as one tensor, and its directions are kept from the perturbations to the
# update (32 MiB). `restore: arithmetic` is chosen to save memory, so its buffers are no longer than a chunk.
_FLAT_LIMIT = {"copy": 2**23, "arithmetic": CHUNK}

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
        mu: μ, half the distance between the two perturbations, in units of weight.
        restore: `copy` keeps a second copy of the weights and restores it exactly; `arithmetic` keeps none and adds
            +μz, −2μz, +μz, so the weights drift by rounding, deterministically.
        purpose: separates uses of one seed ("direction" for training, "pilot" for pilot directions).
        kernel: `auto` compiles the updates of large sets where numba is installed, `off` never; the bits are the same.

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
        self._storage: FlatParameters | ChunkedParameters | None = None
        self.kernel = kernel

    def layout(self) -> list[list]:
        """[name, dtype, shape] of each parameter in the order of names, as the transcript's header holds it."""
        return [[name, str(p.dtype).removeprefix("torch."), list(p.shape)] for name, p in self.parameters.items()]

    def perturb(self, step: int, k: int) -> Generator[int, None, None]:
        """Yields +1, then −1, while the weights are θ + sign · μ · z; restores the weights afterwards.

        Wrap it in contextlib.closing: then the weights are restored at once where the body raises or stops early
        (`copy`: bit for bit; `arithmetic`: by the additions that are left, to the same weights as `skip`). An
        interrupt within an arithmetic addition cannot be undone; build the weights again by replay.
        """
        return self._perturb_copy(step, k) if self.restore == "copy" else self._perturb_in_place(step, k)

    def skip(self, step: int, k: int) -> None:
        """What `perturb` does to the weights, without an evaluation: nothing for `copy`, drift for `arithmetic`."""
        if self.restore == "arithmetic":
            for _ in self._perturb_in_place(step, k):
                pass

    def update(self, step: int, rate: float, y: Sequence[float]) -> None:
        """θ ← θ − (η/K) Σ_k y_k z_k, rounded as described above.

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
        if rate32 != 0:  # adding a product of 0 would turn −0.0 into +0.0
            self._stored().update(step, factors, -rate32)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over names, dtypes, shapes and bytes; the same on any device."""
        return fingerprint_tensors(self.parameters)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU, by name."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}

    def load(self, snapshot: Mapping[str, Tensor]) -> None:
        """Sets the weights to a snapshot. Raises PACZeroError, and sets none, where names, shapes or dtypes differ."""
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

    def _stored(self) -> FlatParameters | ChunkedParameters:
        """What updates the parameters; made at the first update, since importing compiled kernels takes time."""
        if self._storage is None or not self._storage.on_same_devices():
            kernel, limit = kernels.select_kernel(self.law, self.kernel), _FLAT_LIMIT[self.restore]
            # A compiled kernel makes the directions of a large set in less time than it takes to read them.
            if self.elements > limit or (self.elements > CHUNK and kernel is not torch_kernel):
                self._storage = ChunkedParameters(
                    self.parameters, law=self.law, seed=self.seed, purpose=self.purpose, kernel=kernel
                )
            else:
                self._storage = FlatParameters(
                    self.parameters, law=self.law, seed=self.seed, purpose=self.purpose, keep=limit
                )
        return self._storage

    def _perturb_copy(self, step: int, k: int) -> Generator[int, None, None]:
        stored = self._stored()
        stored.save()
        try:
            for sign in (1, -1):
                stored.shift(step, k, sign * round32(self.mu), saved=True)
                yield sign
        finally:
            stored.restore()

    def _perturb_in_place(self, step: int, k: int) -> Generator[int, None, None]:
        stored, mu = self._stored(), round32(self.mu)
        shifts = iter((mu, -2 * mu, mu))
        stored.shift(step, k, next(shifts), saved=False)
        try:
            yield 1
            stored.shift(step, k, next(shifts), saved=False)
            yield -1
        finally:
            for by in shifts:
                stored.shift(step, k, by, saved=False)


class WeightEMA:
    """The exponential moving average of the iterates, in float32. It is post-processing and costs no privacy.

    After n updates it is Σ_i e^(n−i) θ_i / Σ_i e^(n−i), i = 1..n, without the weights before the first update:
    a ← a + (θ − a)/c with c ← e·c + 1.

    Args:
        weights: the trained parameters.
        decay: e in [0, 1); 0 keeps the last iterate.
    """

    def __init__(self, weights: PerturbedParameters, decay: float) -> None:
        if not 0 <= decay < 1:
            raise PACZeroError(f"average: {decay!r} was given; expected a number in [0, 1)")
        self.weights, self.decay = weights, decay
        self._mass = 0.0
        self._average: dict[str, Tensor] = {}

    def observe(self) -> None:
        """Adds the weights after an update to the average."""
        self._mass = self.decay * self._mass + 1
        step_size = round32(1 / self._mass)
        for name, parameter in self.weights.parameters.items():
            value = parameter.detach()
            if step_size == 1:  # the first, or no decay: exactly the weights
                self._average[name] = value.to(torch.float32, copy=True)
                continue
            average = self._average[name].view(-1)
            for start in range(0, value.numel(), CHUNK):
                chunk = average[start : start + CHUNK]
                chunk.add_((value.view(-1)[start : start + CHUNK].float() - chunk).mul_(step_size))

    def snapshot(self) -> dict[str, Tensor]:
        """The average on the CPU, rounded once to each weight's dtype; before any update the weights themselves."""
        if not self._average:
            return self.weights.snapshot()
        parameters = self.weights.parameters
        return {name: a.to("cpu", parameters[name].dtype, copy=True) for name, a in self._average.items()}

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the weights are the average, for evaluation; they are restored bit for bit after it."""
        before = self.weights.snapshot()
        self.weights.load(self.snapshot())
        try:
            yield
        finally:
            self.weights.load(before)
