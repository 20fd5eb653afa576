"""The same posterior success for every mechanism, each from its safe side."""

import math

import pytest

from paczero.config import MechanismConfig, PACZeroConfig
from paczero.errors import PACZeroError
from paczero.mechanism.accounting import epsilon_of, success_of
from paczero.mechanism.bounds import posterior_success, success_for_epsilon
from paczero.mechanism.matching import matched, rounded_down
from paczero.mechanism.registry import SPECS

SMALL = {"steps": 50, "directions": 4, "sampling_prob": 0.2}


def by_name(**given):
    return {row.name: row for row in matched(**({"steps": 50} | given))}


def test_all_keep_the_p_that_was_asked_for():
    rows = by_name(success=0.7, **SMALL)
    assert list(rows) == list(SPECS)
    for name, row in rows.items():
        if row.hides == "nothing":
            assert (row.success, row.nats, row.epsilon) == (1.0, None, None)
        elif name in ("mi", "dpzero", "dp-aggzo", "dp-sign"):
            assert 0.699 < row.success <= 0.7
        else:
            assert (row.success, row.nats) == (0.5, 0.0)
    assert rows["mi"].success == posterior_success(rows["mi"].nats)
    for name, k in (("dpzero", 1), ("dp-aggzo", 4), ("dp-sign", 1)):
        row, run = rows[name], {"steps": 50, "directions": k, "sampling_prob": 0.2}
        noise = row.eps0 if name == "dp-sign" else row.sigma
        assert row.delta == 1e-6 and row.success == success_of(name, noise, **run)
        assert row.success < success_for_epsilon(row.epsilon, row.delta), "ε and δ alone say less"
        assert 0.99 * row.epsilon < epsilon_of(name, noise, delta=1e-6, **run) <= row.epsilon


def test_what_is_given_stands_as_it_is():
    assert by_name(nats=0.01)["mi"].settings["mechanism.budget"] == 0.01
    assert by_name(epsilon=2.0)["dp-sign"].settings["mechanism.epsilon"] == 2.0
    p = by_name(epsilon=2.0)["dp-sign"].success
    assert by_name(epsilon=2.0)["mi"].success == pytest.approx(p, abs=1e-5)
    assert by_name(success=0.6, delta=0.01)["dpzero"].delta == 0.01


def test_the_settings_are_settings():
    for row in by_name(success=0.6).values():
        mechanism = {
            key.partition(".")[2]: value for key, value in row.settings.items() if key.startswith("mechanism.")
        }
        plain = {key: value for key, value in row.settings.items() if "." not in key}
        PACZeroConfig(mechanism=MechanismConfig(**mechanism), **plain)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "expected one of the three"),
        ({"success": 0.6, "nats": 0.1}, "expected one of the three"),
        ({"success": 0.4}, "success: p = 0.4"),
        ({"success": 0.5}, "success: p = 0.5"),
        ({"nats": 0.7}, "success: p = 1"),
        ({"nats": -0.1}, "nats: -0.1"),
        ({"epsilon": 0.0, "delta": 1e-5}, "epsilon: 0.0"),
        ({"success": 0.6, "units": 0}, "units: 0"),
        ({"success": 0.50001, "delta": 0.01}, "which δ alone allows|it alone allows"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(PACZeroError, match=said):
        matched(**given)


def test_rounded_down():
    assert rounded_down(0.32781234) == 0.327812 and rounded_down(0.0) == 0.0
    assert all(rounded_down(x) <= x < rounded_down(x) * (1 + 1e-5) for x in (math.pi, 1e-9 / 3, 1e7 / 7))
