"""Compiled moves give the bits of plain torch, and do without numba cleanly."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.optim import chunked, kernels
from paczero.optim.chunked import AxpyUpdate, ParameterChunk, torch_kernel
from paczero.optim.directions import GAUSSIAN, RADEMACHER, DirectionLaw

ROOT = Path(__file__).resolve().parents[2]
HAS_NUMBA = importlib.util.find_spec("numba") is not None
NEEDS_NUMBA = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")
LAWS = pytest.mark.parametrize("law", [RADEMACHER, GAUSSIAN], ids=lambda law: law.name)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
FLOATS = st.floats(-1e3, 1e3, width=32)


def bits(tensor):
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16).numpy()


def both(law, weights, start, *, in_place, **given_):
    """The same move by torch and by the kernel."""
    move = AxpyUpdate(law, seed=7, purpose="direction", **given_)
    results = []
    for work in (torch_kernel, kernels.select_kernel(law, "auto")):
        out = weights.clone() if in_place else torch.empty_like(weights)
        work(move, [ParameterChunk("layer.weight", start, out, out if in_place else weights)])
        results.append(bits(out))
    return results


@NEEDS_NUMBA
@LAWS
@given(
    size=st.integers(0, 5000),
    start=st.one_of(st.integers(0, 1000), st.sampled_from([128, 2**20, 128 * 2**32 - 64, 2**39 + 3])),
    dtype=st.sampled_from(DTYPES),
    step=st.integers(0, 2**32 - 1),
    first=st.integers(0, 2**31),
    factors=st.lists(FLOATS, min_size=1, max_size=5),
    scale=st.one_of(st.just(1.0), FLOATS),
    in_place=st.booleans(),
    spread=st.sampled_from([0.05, 1.0, 1e-30, 1e30]),
)
@settings(max_examples=150)
def test_kernels_give_the_bits_of_torch(law, size, start, dtype, step, first, factors, scale, in_place, spread):
    generator = torch.Generator().manual_seed(size)
    weights = (torch.randn(size, generator=generator) * spread).to(dtype)
    ks = range(first, first + len(factors))
    one, two = both(law, weights, start, in_place=in_place, step=step, ks=ks, factors=factors, scale=scale)
    assert np.array_equal(one, two)


@NEEDS_NUMBA
@LAWS
def test_a_million_values_have_the_same_bits_and_nothing_is_fused(law):
    weights = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    factors = [0.1234567, -3.2109876, 7.6543211e-3]
    move = {
        "step": 5,
        "ks": range(3),
        "factors": [float(np.float32(f)) for f in factors],
        "scale": float(np.float32(1e-3)),
    }
    one, two = both(law, weights, 0, in_place=True, **move)
    assert np.array_equal(one, two)
    # A fused a·b + c would differ from these in about every third element.
    z = [law.draw(seed=7, step=5, k=k, name="layer.weight", start=0, stop=2**20).double() for k in range(3)]
    total = (z[0] * move["factors"][0]).float().double()
    fused = (total + z[1] * move["factors"][1]).float()
    apart = total.float() + (z[1] * move["factors"][1]).float()
    if law is GAUSSIAN:
        assert (fused != apart).double().mean() > 0.1


@NEEDS_NUMBA
@LAWS
def test_threads_do_not_matter(law, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK", 10_000)
    weights, prints, threads = torch.randn(100_001), set(), torch.get_num_threads()
    move = AxpyUpdate(law, 1, "direction", 0, [0, 1], [1.0, -1.0], -0.25)
    try:
        for count, work in (
            (1, torch_kernel),
            (1, kernels.select_kernel(law, "auto")),
            (4, kernels.select_kernel(law, "auto")),
        ):
            torch.set_num_threads(count)
            given_ = {"w": weights.clone()}
            chunked.apply_update(move, list(chunked.chunks(given_)), work)
            prints.add(given_["w"].numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(prints) == 1


def test_off_is_plain_torch():
    assert kernels.select_kernel(RADEMACHER, "off") is torch_kernel


def test_a_law_without_a_kernel_is_done_torch_kernel():
    class Other(DirectionLaw):
        name, per_block = "other", 4

        pack = staticmethod(GAUSSIAN.pack)
        spread = staticmethod(GAUSSIAN.spread)

    assert kernels.select_kernel(Other(), "auto") is torch_kernel


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_numba_a_line_says_so():
    code = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba" else real(name, *rest)
from paczero.optim import kernels
from paczero.optim.directions import RADEMACHER
print(kernels.select_kernel(RADEMACHER, "auto").__name__, "numba" in sys.modules, kernels.describe())
"""
    assert run(code) == f"torch_kernel False {kernels.ABSENT}"


def test_a_numba_that_does_not_work_is_no_reason_not_to_train(tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('needs another numpy')")
    code = """
from paczero.optim import kernels
from paczero.optim.directions import RADEMACHER
print(kernels.select_kernel(RADEMACHER, "auto").__name__, kernels.describe())
"""
    told = run(code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert told.startswith("torch_kernel plain torch; numba is installed but does not work here (ImportError: needs")
    assert "\n" not in told


@NEEDS_NUMBA
def test_it_compiles_where_nothing_can_be_cached(tmp_path):
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import torch
from paczero.optim import kernels
from paczero.optim.directions import RADEMACHER
from paczero.optim.chunked import AxpyUpdate, ParameterChunk
w = torch.zeros(5)
move = AxpyUpdate(RADEMACHER, 0, "direction", 0, [0], [1.0])
kernels.select_kernel(RADEMACHER, "auto")(move, [ParameterChunk("w", 0, w, w)])
print(kernels.describe().startswith("compiled"), w.abs().tolist())
"""
    assert run(code) == "True [1.0, 1.0, 1.0, 1.0, 1.0]"
