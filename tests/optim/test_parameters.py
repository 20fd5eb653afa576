"""Sides, updates and the average against one obvious line of numpy an operation; exact restore; refusals."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paczero.errors import PACZeroError
from paczero.optim import chunked
from paczero.optim import parameters as parameters_module
from paczero.optim.directions import RADEMACHER
from paczero.optim.parameters import PerturbedParameters, WeightEMA, fingerprint_tensors

from ..small_weights import DTYPES, LAWS, RESTORES, make, parameters, same_bits

F32 = np.float32
APART = {"copy": 0, "arithmetic": 0}  # every set is a large one, moved piece by piece
TOGETHER = {"copy": 2**23, "arithmetic": 2**23}
WAYS = pytest.mark.parametrize("limits", [APART, TOGETHER], ids=["pieces", "together"])


def rounded(values, dtype):
    """Round float32 to nearest, ties to even, in a type; returned as float32."""
    if dtype == torch.float16:
        return values.astype(np.float16).astype(F32)
    if dtype == torch.bfloat16:
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(F32)
    return values


class Slow:
    """The same weights by one obvious line of numpy an operation."""

    def __init__(self, weights):
        self.weights = weights
        self.dtype = next(iter(weights.parameters.values())).dtype
        self.theta = {n: p.detach().float().numpy().reshape(-1).copy() for n, p in weights.parameters.items()}

    def z(self, step, k, name):
        law, seed = self.weights.law, self.weights.seed
        return law.draw(seed=seed, step=step, k=k, name=name, start=0, stop=len(self.theta[name])).numpy()

    def shifted(self, step, k, by):
        return {n: rounded(theta + self.z(step, k, n) * F32(by), self.dtype) for n, theta in self.theta.items()}

    def update(self, step, rate, y):
        for name, theta in self.theta.items():
            total = self.z(step, 0, name) * F32(y[0])
            for k in range(1, len(y)):
                total = total + self.z(step, k, name) * F32(y[k])
            self.theta[name] = rounded(theta - F32(rate / len(y)) * total, self.dtype)

    def check(self, theta=None):
        for name, expected in (theta or self.theta).items():
            got = self.weights.parameters[name].detach().float().numpy().reshape(-1)
            assert np.array_equal(got, expected), name
            assert np.array_equal(np.signbit(got), np.signbit(expected)), name


@DTYPES
@LAWS
@WAYS
@pytest.mark.parametrize("y", [(1,), (-1,), (1, -1), (0.123456789, -7.5e-3, 31.0)])
def test_update_is_the_slow_one(dtype, law, y, limits, monkeypatch):
    monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", limits)
    monkeypatch.setattr(chunked, "CHUNK", 128)
    weights = make(dtype, law=law)
    slow = Slow(weights)
    for step in range(3):
        weights.update(step, 3.3e-3, y)
        slow.update(step, 3.3e-3, y)
        slow.check()


@DTYPES
@LAWS
@RESTORES
@WAYS
def test_sides_are_the_slow_ones(dtype, law, restore, limits, monkeypatch):
    monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", limits)
    monkeypatch.setattr(chunked, "CHUNK", 256)
    weights = make(dtype, law=law, restore=restore, mu=1.7e-3)
    slow, mu = Slow(weights), F32(1.7e-3)
    for step, k in ((0, 0), (0, 1), (1, 0)):
        for side in weights.perturb(step, k):
            if restore == "copy":
                slow.check(slow.shifted(step, k, side * mu))
            else:
                slow.theta = slow.shifted(step, k, mu if side == 1 else F32(-2) * mu)
                slow.check()
        if restore == "arithmetic":
            slow.theta = slow.shifted(step, k, mu)
        slow.check()


@DTYPES
@RESTORES
@pytest.mark.parametrize("stop_at", [1, -1])
@pytest.mark.parametrize("how", ["raise", "break"])
@WAYS
def test_weights_are_restored_when_the_body_ends_early(dtype, restore, stop_at, how, limits, monkeypatch):
    monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", limits)
    weights, passed = make(dtype, restore=restore), make(dtype, restore=restore)
    before = weights.snapshot()
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(weights.perturb(5, 0)) as sides:
        for side in sides:
            if side == stop_at and how == "raise":
                raise KeyboardInterrupt
            if side == stop_at:
                break
    passed.skip(5, 0)
    assert same_bits(weights.snapshot(), passed.snapshot())
    if restore == "copy":
        assert same_bits(weights.snapshot(), before)


@WAYS
def test_an_interrupted_move_is_undone_by_the_copy(limits, monkeypatch):
    monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", limits)
    weights = make()
    before = weights.snapshot()
    sides = weights.perturb(0, 0)
    next(sides)

    def interrupted(*args, **kwargs):
        weights.parameters["a.weight"].detach().zero_()
        raise KeyboardInterrupt

    monkeypatch.setattr(weights._stored(), "shift", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(sides)
    assert same_bits(weights.snapshot(), before)


@DTYPES
@WAYS
def test_a_step_of_rate_zero_changes_no_bit(dtype, limits, monkeypatch):
    monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", limits)
    weights = make(dtype)
    before = weights.snapshot()
    for rate in (0.0, 1e-60):
        for _ in weights.perturb(0, 0):
            pass
        weights.update(0, rate, [1])
        weights.update(1, rate, [-1.5])
    assert same_bits(weights.snapshot(), before)


def test_gradients_and_grad_mode_are_left_alone():
    weights = make()
    for _ in weights.perturb(0, 0):
        assert torch.is_grad_enabled()
    weights.update(0, 1e-3, [1])
    assert all(p.requires_grad and p.grad is None for p in weights.parameters.values())


def test_mixed_types_and_purpose():
    mixed = parameters() | {"half": nn.Parameter(torch.ones(5, dtype=torch.float16))}
    one = PerturbedParameters(mixed, law=RADEMACHER, seed=0, mu=1e-3)
    assert [row for row in one.layout() if row[0] == "half"] == [["half", "float16", [5]]]
    assert [row[0] for row in one.layout()] == sorted(mixed)
    other = PerturbedParameters(parameters(), law=RADEMACHER, seed=4, mu=1e-3, purpose="pilot")
    ours = make()
    for weights in (other, ours):
        next(weights.perturb(0, 0))
        weights.update(0, 1e-2, [1])
    assert other.fingerprint() != ours.fingerprint()


@given(place=st.integers(0, 299), bit=st.integers(0, 7), byte=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_changed_bit_changes_the_fingerprint(place, bit, byte):
    weights = make()
    before = weights.fingerprint()
    assert before == make().fingerprint()
    weights.parameters["a.weight"].detach().view(torch.uint8)[4 * place + byte] ^= 1 << bit
    assert weights.fingerprint() != before


def test_fingerprint_covers_name_type_and_shape_but_not_the_memory():
    value = torch.arange(6.0).view(2, 3)
    print_ = fingerprint_tensors({"a": value})
    others = [{"b": value}, {"a": value.view(3, 2)}, {"a": value.view(torch.int32)}, {"a": value, "b": value}, {}]
    assert len({print_, *(fingerprint_tensors(other) for other in others)}) == 6
    assert print_ == fingerprint_tensors({"a": value.T.contiguous().T})
    assert print_ == fingerprint_tensors({"a": nn.Parameter(value)})
    assert fingerprint_tensors({"a": value, "b": value}) == fingerprint_tensors({"b": value, "a": value})
    assert fingerprint_tensors({"a": torch.tensor(1.0).bfloat16(), "e": torch.empty(0, 3)})


def test_snapshot_is_a_copy_and_load_takes_it_back():
    weights = make(torch.bfloat16)
    before, start = weights.snapshot(), weights.fingerprint()
    weights.update(0, 1e-2, [1])
    assert weights.fingerprint() != start
    weights.load(before)
    assert weights.fingerprint() == start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.ones(1)}, "extra is in the snapshot only"),
        ({"a.bias": torch.ones(2)}, "a.bias has torch.float32"),
        ({"a.bias": torch.ones(1).half()}, "a.bias has torch.float16"),
    ],
)
def test_load_refuses_another_layout_and_sets_nothing(change, message):
    weights = make()
    start = weights.fingerprint()
    with pytest.raises(PACZeroError, match=message):
        weights.load(make(seed=9).snapshot() | change)
    with pytest.raises(PACZeroError, match=r"a.bias is in the weights only"):
        weights.load({n: t for n, t in weights.snapshot().items() if n != "a.bias"})
    assert weights.fingerprint() == start


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "none were given"),
        ({"w": nn.Parameter(torch.ones(2, dtype=torch.float64))}, "w: type torch.float64"),
        ({"w": nn.Parameter(torch.ones(3, 2).T)}, "w: its memory is not contiguous"),
    ],
)
def test_parameters_are_checked(given_, message):
    with pytest.raises(PACZeroError, match=message):
        PerturbedParameters(given_, law=RADEMACHER, seed=0, mu=1e-3)


def test_tied_parameters_are_refused():
    value = torch.ones(3)
    with pytest.raises(PACZeroError, match="head: shares its memory with embed"):
        PerturbedParameters(
            {"embed": nn.Parameter(value), "head": nn.Parameter(value)}, law=RADEMACHER, seed=0, mu=1e-3
        )


@pytest.mark.parametrize(
    "wrong", [{"mu": 0}, {"mu": float("nan")}, {"mu": -1}, {"mu": 1e-60}, {"restore": "none"}, {"kernel": "on"}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(PACZeroError, match=next(iter(wrong))):
        PerturbedParameters(parameters(), law=RADEMACHER, seed=0, **({"mu": 1e-3} | wrong))


@pytest.mark.parametrize("y", [[], [float("nan")], [1, float("inf")], [1e39]])
def test_released_values_are_checked(y):
    weights = make()
    start = weights.fingerprint()
    with pytest.raises(PACZeroError, match="y: "):
        weights.update(0, 1e-3, y)
    with pytest.raises(PACZeroError, match="rate: "):
        weights.update(0, float("inf"), [1])
    assert weights.fingerprint() == start


@DTYPES
def test_average_weighs_the_iterates_exponentially(dtype):
    weights = make(dtype)
    average = WeightEMA(weights, 0.75)
    assert same_bits(average.snapshot(), weights.snapshot())
    iterates = []
    for step in range(6):
        weights.update(step, 1e-2, [1])
        average.observe()
        iterates.append({n: t.double() for n, t in weights.snapshot().items()})
        if step == 0:
            assert same_bits(average.snapshot(), weights.snapshot())
    shares = np.array([0.75 ** (5 - i) for i in range(6)])
    shares /= shares.sum()
    for name, got in average.snapshot().items():
        expected = sum(share * iterate[name] for share, iterate in zip(shares, iterates, strict=True))
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_average_without_decay_is_the_last_iterate_and_applies_within_a_block():
    weights = make()
    last, mean = WeightEMA(weights, 0.0), WeightEMA(weights, 0.9)
    for step in range(3):
        weights.update(step, 1e-2, [-1])
        last.observe()
        mean.observe()
    own = weights.snapshot()
    assert same_bits(last.snapshot(), own)
    with contextlib.suppress(KeyError), mean.applied():
        assert same_bits(weights.snapshot(), mean.snapshot())
        raise KeyError
    assert same_bits(weights.snapshot(), own)
    with pytest.raises(PACZeroError, match="average"):
        WeightEMA(weights, 1.0)
