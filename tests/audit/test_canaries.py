"""Attacks on membership in the pool: they succeed without privacy, and fail if nothing is learned."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from paczero.audit import canaries as module
from paczero.audit.canaries import canaries, canary_settings, label_of, own_and_references
from paczero.audit.likelihoods import dp_scores
from paczero.audit.simulation import Simulation, scratch
from paczero.config import MechanismConfig

from ..written_runs import make_header


def short(mechanism, steps=6, **more):
    label = label_of(mechanism)
    args = replace(canary_settings(mechanism), max_steps=steps)
    return canaries({label: args}, **({"runs": 24, "base": 32, "count": 16} | more))


def test_the_insider_finds_every_member_without_privacy_and_none_with_a_coin():
    rows = {row.attack: row for row in short(MechanismConfig(name="none")).rows}
    assert rows["insider"].auc == 1.0 and rows["insider"].stated_epsilon is None
    assert "nothing is promised" in rows["insider"].meaning
    rows = {row.attack: row for row in short(MechanismConfig(name="coin")).rows}
    assert rows["insider"].auc == 0.5
    for row in rows.values():
        width = row.auc_high - row.auc_low  # of a 95 % interval; chance alone does not reach a whole width beyond it
        assert row.auc_low - width <= 0.5 <= row.auc_high + width
        assert row.epsilon_low < 1.0


def test_the_bound_says_what_its_trials_could_show_at_most():
    """An insider without a mistake shows what is possible, and not more; LiRA's guesses likewise."""
    insider = next(row for row in short(MechanismConfig(name="none"), runs=40).rows if row.attack == "insider")
    assert insider.auc == 1.0 and insider.epsilon_low == insider.epsilon_most < 1.5
    for row in short(MechanismConfig(name="coin")).rows:
        assert 0 <= row.epsilon_low <= row.epsilon_most  # 0 where nearly all members were drawn alike


def test_differential_privacy_holds():
    for name in ("dp-sign", "dpzero"):
        for row in short(MechanismConfig(name=name, epsilon=0.5, clip=1.0)).rows:
            assert row.epsilon_low <= row.stated_epsilon == 0.5
            assert "nothing is promised" not in row.meaning


def test_the_insiders_ratio_of_one_step(simulation):
    """With the canary a contested step releases a coin, without it the common sign: ln 1/2 against ln 1."""
    lab = simulation("zpl")
    members = np.array([[True, False], [True, False], [False, True]])
    g = np.array([1.0, 1.0, -1.5])  # without the last unit: +2 and +0; with it +2 and −1.5
    for bit, with_it, without in ((1.0, np.log(0.5), 0.0), (-1.0, np.log(0.5), np.log(module._CERTAIN))):
        y = np.array([bit])
        assert module._log_likelihood(lab.args, g[:, None], members, y) == with_it
        assert module._log_likelihood(lab.args, g[:-1, None], members[:-1], y) == without


def test_the_insider_clips_as_the_mechanism_does():
    """The last unit decides by its clipped derivative only; K values that are one release are clipped as one vector."""
    args = canary_settings(MechanismConfig(name="full-sign", clip=1.0))
    g = np.array([[-1.0], [-1.0], [50.0]])
    assert module._log_likelihood(args, g, None, np.array([-1.0])) == 0.0
    assert module._log_likelihood(args, g, None, np.array([1.0])) == np.log(module._CERTAIN)
    args = canary_settings(MechanismConfig(name="dp-aggzo", epsilon=2.0, clip=5.0), directions=2)
    derivatives = np.array([[[3.0, 30.0, 0.0], [4.0, 40.0, 1.0]]])  # (T, K, N)
    sums = np.array([[0.6 + 0.6, 0.8 + 0.8]])
    (score,) = dp_scores(args, sums * 5 / 3, derivatives, 2, noise=0.5, pool=3)
    assert score == pytest.approx(-(0.2**2) / 2 / 0.25), "the canary adds (0, 0.2) to sums that lack it"


@pytest.mark.parametrize("given", [{"name": "dp-sign"}, {"name": "dpzero"}], ids=str)
def test_the_insider_knows_the_rate_of_a_secret_sample(given):
    """Against the sum over all samples of a pool of nine, with probabilities of its own."""
    rate, noise, clip = 0.4, 0.8, 2.0
    args = canary_settings(MechanismConfig(epsilon=2.0, clip=clip, sampling_prob=rate, **given))
    g = np.random.default_rng(0).uniform(-3, 3, 9)
    shares = np.clip(g / clip, -1, 1)

    def chance(y, units):
        total = 0.0
        for sample in itertools.product((0, 1), repeat=units):
            odds = np.prod(np.where(np.array(sample) > 0, rate, 1 - rate))
            s = float(np.dot(sample, shares[:units]))
            total += odds * (expit(noise * s * y) if given["name"] == "dp-sign" else norm.pdf(y, s, noise))
        return total

    for y in (1.0, -1.0):
        released = y if given["name"] == "dp-sign" else y * clip / (rate * 9)
        (score,) = dp_scores(args, np.array([[released]]), g[None, None], 8, noise=noise, pool=9)
        assert score == pytest.approx(np.log(chance(y, 9) / chance(y, 8)), abs=0.02)


@pytest.mark.parametrize("name", ["none", "full-sign", "zpl"])
def test_the_insider_knows_the_units_of_a_step(name):
    """A public part of the pool: without privacy every member is found, and nothing that was released is impossible."""
    args = replace(canary_settings(MechanismConfig(name=name, subsets=8)), max_steps=40, units_per_step=32)
    lab = Simulation(args, units=37, odd=1, good=0.95)
    with scratch() as root:
        for number, member in enumerate((True, False) * 3):
            in_pool = np.append(np.ones(36, dtype=bool), member)
            own = None if lab.membership is None else lab.membership[in_pool]
            trial = lab.run(root / str(number), in_pool=in_pool, membership=own)
            ratio = module._likelihood_ratio(trial, args, lab.membership, 36 + member)
            assert (ratio > 0) == member or (name == "zpl" and abs(ratio) < 40 * np.log(2))


def test_the_audited_run_s_part_of_the_pool_is_used():
    found = own_and_references(make_header("zpl", units_per_step=300))
    assert [args.units_per_step for args in found.values()] == [64, None, None]


@pytest.mark.parametrize("name", ["zpl", "mi", "dp-sign", "none"])
def test_the_runs_own_mechanism_comes_first(name):
    found = own_and_references(make_header(name))
    assert next(iter(found.values())).mechanism.name == name
    assert {args.mechanism.name for args in found.values()} == {name, "none", "dp-sign"}


def test_labels():
    assert label_of(MechanismConfig(family="balanced")) == "zpl, balanced"
    assert label_of(MechanismConfig(name="mi", budget=0.33)) == "mi, random, 0.33 nats"
    assert label_of(MechanismConfig(name="dp-sign", epsilon=2)) == "dp-sign, ε = 2"
    assert label_of(MechanismConfig(name="none")) == "none"


def test_the_result_holds_the_sizes():
    result = short(MechanismConfig())
    assert (result.base, result.canaries, result.steps) == (32, 16, 6)
    lira, insider = result.rows
    assert sum(lira.scores) == 24 * 16 and sum(insider.scores) == 24
    assert 0 <= lira.tpr_1_percent <= 1 and lira.scores[1] >= 100
    assert lira.tpr_01_percent is insider.tpr_1_percent is insider.tpr_01_percent is None, "too few others"
