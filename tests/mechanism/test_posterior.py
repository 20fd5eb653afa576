"""The observer's belief: Bayes' rule, unanimity by counting, masses that never underflow."""

import dataclasses
import json
import math
import sys

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism import BitChannel, GaussianChannel, Posterior


def signs(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int8)


@pytest.mark.parametrize("subsets", [2, 3, 6, 128, 1000])
def test_uniform_masses_are_exact(subsets: int) -> None:
    posterior = Posterior.uniform(subsets)
    for minority in range(subsets // 2 + 1):
        row = np.where(np.arange(subsets) < minority, 1, -1)
        assert posterior.minority(row) == posterior.minority(-row) == minority / subsets
        assert posterior.mass_of_plus(row) == minority / subsets


@given(st.lists(st.tuples(st.integers(0, 63), st.sampled_from([-1, 1]), st.floats(1e-12, 0.5)), max_size=12))
def test_bayes_rule_against_many_digits(releases) -> None:
    posterior = Posterior.uniform(6)
    with mp.workdps(50):
        weights = [mp.mpf(1) / 6] * 6
        for pattern, output, f in releases:
            row = np.array([1 if pattern >> m & 1 else -1 for m in range(6)])
            posterior = posterior.observed(BitChannel.log_likelihood(row, output, f))
            weights = [w * (1 - mp.mpf(f) if s == output else mp.mpf(f)) for w, s in zip(weights, row, strict=True)]
        expected = [w / sum(weights) for w in weights]
        for log_weight, weight in zip(posterior.log_weights, expected, strict=True):
            assert abs(log_weight - mp.log(weight)) < 1e-13 * (1 + abs(mp.log(weight)))
    assert posterior.probabilities.sum() == pytest.approx(1, abs=1e-14)


def test_gaussian_releases_use_the_density() -> None:
    posterior = Posterior.uniform(2).observed(GaussianChannel.log_likelihood(signs(1, -1), 0.3, 2.0))
    assert posterior.probabilities[0] == pytest.approx(1 / (1 + math.exp(-2 * 0.3 / 4)), rel=1e-14)


def test_a_noiseless_release_excludes_for_good() -> None:
    posterior = Posterior.uniform(4).observed(BitChannel.log_likelihood(signs(1, 1, 1, -1), 1, 0.0))
    assert posterior.supported.tolist() == [True, True, True, False]
    assert posterior.minority(signs(1, 1, 1, -1)) == 0.0
    assert posterior.minority(signs(1, 1, -1, -1)) == pytest.approx(1 / 3, rel=1e-15)
    later = posterior.observed(np.array([0.0, 0.0, 0.0, 1e6]))
    assert later.probabilities[3] == 0.0


def test_unanimity_is_counted_not_computed() -> None:
    """A candidate may be as unlikely as it likes: while it is possible, its sign makes a step contested."""
    posterior, row = Posterior.uniform(4), signs(1, 1, 1, -1)
    for _ in range(3):
        posterior = posterior.observed(BitChannel.log_likelihood(row, 1, 2.0**-64))
    assert posterior.mass_of_plus(row) == 1.0  # a float q would call this unanimous
    assert 0 < posterior.minority(row) < 1e-57
    for _ in range(1000):
        posterior = posterior.observed(BitChannel.log_likelihood(row, 1, 2.0**-64))
    assert posterior.probabilities[3] == 0.0
    assert posterior.minority(row) == sys.float_info.min
    assert posterior.minority(signs(1, 1, 1, 1)) == 0.0
    assert BitChannel.calibrate(posterior.minority(row), 1e-9) == 0.0  # costs nothing to speak of, but is charged
    assert 0 < BitChannel.information(posterior.minority(row), 0.0) < 1e-304


def test_it_comes_back_from_far() -> None:
    posterior, row = Posterior.uniform(4), signs(1, 1, 1, -1)
    for output in [1] * 2000 + [-1] * 2000:
        posterior = posterior.observed(BitChannel.log_likelihood(row, output, 2.0**-60))
    assert posterior.log_weights == pytest.approx(np.log([0.25] * 4), abs=1e-7)


def test_a_release_that_nobody_could_have_made_is_refused() -> None:
    posterior = Posterior.uniform(3).observed(BitChannel.log_likelihood(signs(1, 1, -1), 1, 0.0))
    with pytest.raises(IntegrityError, match="no possible candidate"):
        posterior.observed(BitChannel.log_likelihood(signs(1, 1, -1), -1, 0.0))


def test_it_is_frozen() -> None:
    posterior = Posterior.uniform(4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        posterior.log_weights = np.zeros(4)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        posterior.log_weights[0] = 0.0
    given_weights = np.zeros(2)
    Posterior(given_weights)
    assert given_weights.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Posterior.uniform(0),
        lambda: Posterior(np.zeros((2, 2))),
        lambda: Posterior(np.array([0.0, math.nan])),
        lambda: Posterior(np.array([0.0, math.inf])),
        lambda: Posterior(np.array([-math.inf, -math.inf])),
        lambda: Posterior.uniform(2).minority(signs(1, 1, 1)),
        lambda: Posterior.uniform(2).minority(signs(1, 0)),
        lambda: Posterior.uniform(2).observed(np.zeros(3)),
        lambda: Posterior.uniform(2).observed(np.array([0.0, math.nan])),
        lambda: Posterior.uniform(2).observed(np.array([0.0, math.inf])),
    ],
)
def test_what_is_no_distribution_or_sign_is_refused(call) -> None:
    with pytest.raises(PACZeroError, match="expected"):
        call()


@given(st.lists(st.one_of(st.just(-math.inf), st.floats(-2000, 0)), min_size=2, max_size=8))
def test_it_survives_json(weights: list[float]) -> None:
    """Also where rounding makes the likeliest candidate's logarithm positive."""
    if max(weights) > -math.inf:
        posterior = Posterior(np.array(weights))
        written = posterior.to_json()
        assert all(value is None or value <= 0 for value in written)
        again = Posterior.from_json(json.loads(json.dumps(written)))
        assert (again.supported == posterior.supported).all()
        assert again.log_weights == pytest.approx(posterior.log_weights, abs=1e-12, rel=1e-12)
