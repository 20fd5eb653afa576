import hashlib
import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.optim import directions
from paczero.optim.directions import GAUSSIAN, RADEMACHER, direction_law, philox4x32, uniform

LAWS = pytest.mark.parametrize("law", [RADEMACHER, GAUSSIAN], ids=lambda law: law.name)
WORD = 2**32


def slow_philox(counter, key):
    """Philox4x32-10 in Python integers, one block: the oracle."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (q >> 32) ^ c1 ^ k0, q % WORD, (p >> 32) ^ c3 ^ k1, p % WORD
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return c0, c1, c2, c3


def slow_block(purpose, seed, name, block, step, k):
    digest = hashlib.sha256(f"{purpose}|{seed}|{name}".encode()).digest()
    key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
    return slow_philox((block % WORD, block // WORD, step, k), key)


def draw(law, start, stop, *, seed=0, step=0, k=0, name="w", purpose="direction"):
    return law.draw(seed=seed, step=step, k=k, name=name, start=start, stop=stop, purpose=purpose)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the vectors published with Random123
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_random123_vectors(counter, key, expected):
    words = tuple(torch.tensor([int(word, 16)]) for word in counter.split())
    k0, k1 = (int(word, 16) for word in key.split())
    assert [f"{int(word):08x}" for word in philox4x32(words, (k0, k1))] == expected.split()


@given(st.lists(st.integers(0, WORD - 1), min_size=6, max_size=6))
@settings(max_examples=50, deadline=None)
def test_philox_is_the_slow_one(words):
    counter = tuple(torch.tensor([word, word ^ 1]) for word in words[:4])
    got = philox4x32(counter, (words[4], words[5]))
    for i, flip in enumerate((0, 1)):
        assert tuple(int(w[i]) for w in got) == slow_philox([w ^ flip for w in words[:4]], words[4:])


@pytest.mark.parametrize("start", [0, 128 * 5, 128 * (2**33 + 7)])
def test_signs_are_the_bits_of_the_blocks(start):
    got = draw(RADEMACHER, start, start + 256, seed=3, step=17, k=2, name="a.b|c", purpose="pilot")
    bits = [
        word >> j & 1
        for block in (start // 128, start // 128 + 1)
        for word in slow_block("pilot", 3, "a.b|c", block, 17, 2)
        for j in range(32)
    ]
    assert got.dtype == torch.float32
    assert got.tolist() == [1.0 - 2.0 * bit for bit in bits]


@pytest.mark.parametrize("factor", [1.0, 0.0, -0.0, -1.7000000225380063e-03])
def test_both_ways_to_unpack_signs_agree(factor):
    words = tuple(torch.randint(0, WORD, (300,)) for _ in range(4))
    table, shift = torch.empty(300 * 128), torch.empty(300 * 128)
    RADEMACHER.spread(RADEMACHER.pack(words), factor, table)
    RADEMACHER.spread(torch.stack(words, dim=1).to(torch.int32), factor, shift)
    assert torch.equal(table.view(torch.int32), shift.view(torch.int32))


def exact_normals(a, b):
    radius = mpmath.sqrt(-2 * mpmath.log(mpmath.mpf(2 * a + 1) / 2**33))
    quadrant, rest = divmod(b, 2**30)
    angle = mpmath.pi / 2 * (quadrant + mpmath.mpf(2 * rest + 1) / 2**31 - mpmath.mpf(1) / 2)
    return radius * mpmath.cos(angle), radius * mpmath.sin(angle)


def test_normals_are_box_muller_to_the_last_float32_bit():
    edges = [0, 1, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, WORD - 2, WORD - 1, 3037000499, 2**29]
    pairs = list(itertools.product(edges, edges))
    pairs += [(a, b) for a, b in np.random.default_rng(0).integers(0, WORD, (300, 2)).tolist()]
    words = torch.tensor(pairs).T.contiguous()
    out = torch.empty(len(pairs) * 4)
    GAUSSIAN.spread(GAUSSIAN.pack((words[0], words[1], words[0], words[1])), 1.0, out)
    got = out.view(-1, 2, 2).double().numpy()
    assert np.array_equal(got[:, 0], got[:, 1])
    for (a, b), values in zip(pairs, got[:, 0], strict=True):
        for exact, value in zip(exact_normals(a, b), values, strict=True):
            # half a unit in the last place is the rounding itself
            assert abs(exact - value) <= 0.5001 * np.spacing(np.float32(abs(value))), (a, b)
    assert np.abs(got).max() < 6.8


def test_root():
    x = torch.logspace(-10, 2, 5000, dtype=torch.float64)
    assert np.abs(directions._root(x).numpy() / np.sqrt(x.numpy()) - 1).max() < 1e-12


@LAWS
@given(cuts=st.lists(st.integers(0, 3000), min_size=2, max_size=8), origin=st.sampled_from([0, 1, 2**20, 2**39 - 2]))
@settings(max_examples=40, deadline=None)
def test_any_split_gives_the_same_values(law, cuts, origin):
    cuts = sorted(cuts)
    whole = draw(law, origin, origin + 3000)
    pieces = [draw(law, origin + a, origin + b) for a, b in itertools.pairwise(cuts)]
    assert torch.equal(torch.cat(pieces), whole[cuts[0] : cuts[-1]])


@LAWS
@given(counts=st.lists(st.integers(0, 700), max_size=6), chunk=st.sampled_from([50, 2**13]))
@settings(max_examples=20, deadline=None)
def test_all_parameters_at_once_give_the_same_values(law, counts, chunk):
    sizes = {f"w{i}": count for i, count in enumerate(counts)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directions, "_CPU_BLOCKS", chunk)
        layout = law.layout(seed=3, sizes=sizes, purpose="pilot")
        flat = law.draw_flat(layout, step=2**31, k=1)
    for name, count in sizes.items():
        start = layout.starts[name]
        assert torch.equal(
            flat[start : start + count], draw(law, 0, count, seed=3, step=2**31, k=1, name=name, purpose="pilot")
        )


@LAWS
def test_internal_chunks_and_threads_do_not_matter(law, monkeypatch):
    count = 2 * directions._CPU_BLOCKS * law.per_block + 77
    count = min(count, 300_077)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = draw(law, 5, count)
        torch.set_num_threads(2)
        monkeypatch.setattr(directions, "_CPU_BLOCKS", 2**18)
        two = draw(law, 5, count)
        monkeypatch.setattr(directions, "_CPU_BLOCKS", 37)
        assert torch.equal(one[:9999], draw(law, 5, 10_004))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)


@LAWS
def test_moments_and_independence_of_streams(law):
    count = 100_000
    streams = [
        draw(law, 0, count),
        draw(law, 0, count, name="w2"),
        draw(law, 0, count, step=1),
        draw(law, 0, count, k=1),
        draw(law, 0, count, seed=1),
        draw(law, 0, count, purpose="pilot"),
        draw(law, 1, count + 1),
        draw(law, 128, count + 128),
    ]
    values = torch.stack(streams).double().numpy()
    bound = 5 / math.sqrt(count)  # five standard errors
    assert np.abs(values.mean(axis=1)).max() < bound
    assert np.abs((values**2).mean(axis=1) - 1).max() < bound * math.sqrt(2)
    correlations = np.corrcoef(values) - np.eye(len(streams))
    assert np.abs(correlations).max() < bound
    if law is GAUSSIAN:
        assert np.abs((values**4).mean(axis=1) - 3).max() < bound * math.sqrt(96)


def test_each_place_of_a_block_is_balanced():
    values = draw(RADEMACHER, 0, 128 * 4000).view(-1, 128).double()
    bound = 5 / math.sqrt(4000)
    assert values.mean(0).abs().max() < bound
    assert (values.T @ values / 4000 - torch.eye(128)).abs().max() < 1.2 * bound  # 8128 pairs


def test_the_law_and_its_use_are_named():
    assert direction_law("rademacher") is RADEMACHER
    assert direction_law("gaussian") is GAUSSIAN
    with pytest.raises(PACZeroError, match="direction_law: 'cauchy'"):
        direction_law("cauchy")


@pytest.mark.parametrize("bad", [{"step": -1}, {"k": -1}, {"step": WORD}, {"k": WORD}])
def test_step_and_k_have_a_range(bad):
    with pytest.raises(PACZeroError, match=next(iter(bad))):
        draw(RADEMACHER, 0, 1, **bad)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_indices_have_a_range(start, stop):
    with pytest.raises(PACZeroError, match="start"):
        draw(RADEMACHER, start, stop)


def test_an_empty_piece():
    assert draw(RADEMACHER, 7, 7).shape == (0,)
    assert draw(GAUSSIAN, 4, 4).shape == (0,)


def test_uniform_is_exact_and_symmetric():
    values = uniform(seed=5, name="a", count=50_001)
    words = slow_block("adapter", 5, "a", 1, 0, 0)
    assert values[4:8].tolist() == [(2 * (word >> 8) + 1 - 2**24) / 2**24 for word in words]
    assert values.shape == (50_001,)
    assert values.abs().max() < 1
    assert abs(values.double().mean()) < 5 / math.sqrt(3 * 50_000)
    assert abs(values.double().square().mean() - 1 / 3) < 0.01
    assert torch.equal(values[:100], uniform(seed=5, name="a", count=100))
    assert not torch.equal(values[:100], uniform(seed=6, name="a", count=100))
