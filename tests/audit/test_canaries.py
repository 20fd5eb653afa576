"""Attacks on membership in the pool: they succeed without privacy, and fail if nothing is learned."""

from dataclasses import replace

import numpy as np
import pytest

from paczero.audit import canaries as module
from paczero.audit.canaries import canaries, canary_settings, label_of, own_and_references
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
        assert row.epsilon_low <= row.epsilon_most and row.epsilon_most > 0


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
    for y, with_it, without in ((1.0, np.log(0.5), 0.0), (-1.0, np.log(0.5), np.log(module._CERTAIN))):
        assert module._log_likelihood(lab.args, g, members, y, 0.5, 3) == with_it
        assert module._log_likelihood(lab.args, g[:-1], members[:-1], y, 0.5, 3) == without


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
    assert 0 <= lira.tpr_01_percent <= lira.tpr_1_percent <= 1
