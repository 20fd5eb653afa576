"""Choosing among runs costs the sum of their promises: exact distributions of small searches, and the warning."""

import itertools
import math

import pytest

from paczero.experiments.composition import Searched, searched
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.channels import BitChannel


def test_the_sum_is_stated():
    text = searched([Searched("mi", 0.1), Searched("mi", 0.23), Searched("none"), Searched("zpl", 0.5)])
    assert text is not None
    assert text.startswith("4 runs on the pool: ") and "0.33 nats (p = 0.8819)" in text
    assert "0 nats (p = 0.5)" in (searched([Searched("zpl"), Searched("zpl")]) or "")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([Searched("mi", 0.4), Searched("mi", 0.4)], "no bound: ln 2 or more"),
        ([Searched("mi", 0.1), Searched("half-sign")], "no bound on the secret half"),
        ([Searched("none"), Searched("full-sign")], "none of them makes a promise"),
        ([Searched("dp-sign", epsilon=1.0), Searched("dpzero", epsilon=2.0)], "ε = 3 over the pool"),
        ([Searched("dp-sign", epsilon=1.0), Searched("zpl")], "no ε over the pool"),
        ([Searched("dp-sign", epsilon=1.0), Searched("coin")], "ε = 1 over the pool"),
    ],
)
def test_each_kind_of_promise_has_its_own_sum(runs, message):
    assert message in (searched(runs) or "")


def test_one_run_is_no_search():
    assert searched([Searched("mi", 0.3)]) is None and searched([]) is None


@pytest.mark.parametrize("runs", [1, 2, 3, 4])
def test_a_chosen_run_may_tell_more_than_it_states_and_never_more_than_the_sum(runs):
    # The secret of each run is a fair bit. A channel releases it with probability 1/8 and otherwise says that it is
    # erased. A guess about a kept run that was not erased is right more often than the p of one run.
    released = 1 / 8
    nats = released * math.log(2)  # of an erasure channel
    right = 0.0
    for kept in itertools.product((False, True), repeat=runs):
        probability = math.prod(released if each else 1 - released for each in kept)
        right += probability * (1.0 if any(kept) else 0.5)
    assert right <= posterior_success(runs * nats)
    if runs == 4:
        assert right > posterior_success(nats)


def test_bits_of_one_secret_add_up():
    f = BitChannel.calibrate(0.5, 0.05)
    # the best guess from three runs on one secret is the majority of their bits
    majority = sum(math.comb(3, k) * (1 - f) ** k * f ** (3 - k) for k in (2, 3))
    assert posterior_success(0.05) < majority <= posterior_success(0.15)
