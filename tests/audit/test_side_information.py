"""Side knowledge: against enumeration over every S*, known set and target, and against known facts of each family."""

import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from paczero.audit import correlations, side_knowledge
from paczero.errors import PACZeroError
from paczero.mechanism.subsets import draw_subsets


def features(units, seed=0):
    rng = np.random.default_rng(seed)
    return {"features": rng.standard_normal((units, 8)), "labels": rng.integers(0, 2, units)}


def slowly(membership, sets):
    """Candidates left, entropy, mean success and worst, by enumeration."""
    units, subsets = membership.shape
    left, entropy, means, worst = [], [], [], 0.0
    for known in sets:
        chances = np.zeros(units)
        for secret in range(subsets):
            agree = [m for m in range(subsets) if all(membership[u, m] == membership[u, secret] for u in known)]
            left.append(len(agree))
            entropy.append(math.log(len(agree)))
            for target in range(units):
                inside = sum(membership[target, m] for m in agree)
                chances[target] += max(inside, len(agree) - inside) / len(agree) / subsets
        others = [chances[u] for u in range(units) if u not in known]
        means.append(np.mean(others))
        worst = max(worst, *others)
    return np.mean(left), np.mean(entropy), np.mean(means), worst


@pytest.mark.parametrize("family", ["random", "paired", "balanced"])
@pytest.mark.parametrize("subsets", [4, 10])
def test_side_knowledge_equals_enumeration(family, subsets):
    units = 6
    membership = draw_subsets(units, subsets, seed=3, family=family, **features(units))
    result = side_knowledge(membership, family=family, own=True, known=range(6))
    worst = 0.0
    for k, point in enumerate(result.points):
        exact = slowly(membership, list(itertools.combinations(range(units), k)))
        worst = max(worst, exact[3])
        found = (point.candidates_left, point.entropy, point.average, point.worst)
        assert point.known == k and found == pytest.approx((*exact[:3], worst), rel=1e-12)
    assert (result.family, result.own, result.units, result.subsets) == (family, True, 6, subsets)
    assert json.loads(json.dumps(asdict(result)))["points"][0]["average"] == 0.5


def test_chosen_units_leave_the_fewest_candidates_one_by_one():
    membership = draw_subsets(7, 10, seed=1)
    chosen = side_knowledge(membership, known=range(6)).chosen
    known = []
    for point in chosen:
        assert point.known == len(known)
        assert point.candidates_left == pytest.approx(slowly(membership, [known])[0])
        assert point.average == pytest.approx(slowly(membership, [known])[2])
        left = {u: slowly(membership, [[*known, u]])[0] for u in range(7) if u not in known} if len(known) < 5 else {}
        if left:
            known.append(min(left, key=left.get))
    assert len(known) == 5


def test_without_a_known_unit_the_prior_is_one_half():
    for family in ("random", "paired", "balanced"):
        first = side_knowledge(draw_subsets(30, 8, seed=0, family=family, **features(30)), known=[0]).points[0]
        assert (first.average, first.worst, first.candidates_left) == (0.5, 0.5, 8.0)


def test_a_partner_decides():
    membership = draw_subsets(40, 32, seed=0, family="paired", **features(40))
    result = side_knowledge(membership, known=[1])
    assert result.partner == 1.0 and result.correlation.determined == 40 and result.points[0].worst == 1.0
    lonely = side_knowledge(draw_subsets(40, 128, seed=0), known=[1])
    assert lonely.correlation.determined == 0 and 0.5 < lonely.points[0].average < lonely.partner < 0.75


def test_about_log2_m_units_find_s_star():
    result = side_knowledge(draw_subsets(300, 64, seed=0), known=(0, 4, 12, 32))
    assert math.log2(64) < result.to_identify < 2 * math.log2(64)
    averages = [point.average for point in result.points]
    assert averages == sorted(averages) and averages[-1] > 0.999
    assert result.chosen[2].average >= result.points[2].average
    twins = np.repeat(draw_subsets(20, 4, seed=0), 2, axis=1)
    same = side_knowledge(twins, known=(0, 16))
    assert same.to_identify is None and same.points[1].candidates_left == pytest.approx(2.0)


def test_correlations_are_those_of_numpy():
    membership = draw_subsets(25, 16, seed=2)
    exact = np.abs(np.corrcoef(membership.astype(float)))
    np.fill_diagonal(exact, 0)
    found = correlations(membership)
    assert found.largest == pytest.approx(exact.max(axis=1), abs=1e-12)
    assert found.average == pytest.approx(exact.sum() / (25 * 24), abs=1e-12)
    assert correlations(membership, np.array([7, 3])).largest == pytest.approx(exact.max(axis=1)[[7, 3]])


def test_the_result_depends_on_the_seed_alone_and_little():
    membership = draw_subsets(100, 32, seed=0)
    one, again, other = (side_knowledge(membership, seed=seed) for seed in (1, 1, 2))
    assert one == again and one.points != other.points
    for a, b in zip(one.points, other.points, strict=True):
        assert a.average == pytest.approx(b.average, abs=0.02)


def test_large_pools_are_sampled_and_many_candidates_fit():
    result = side_knowledge(draw_subsets(5000, 16, seed=0), known=(0, 2), draws=4)
    assert result.units == 5000 and result.correlation.units == 2048
    assert result.points[1].average == pytest.approx(
        side_knowledge(draw_subsets(900, 16, seed=0)).points[2].average, abs=0.02
    )
    many = side_knowledge(draw_subsets(40, 2048, seed=0), known=(0, 12), draws=3)
    assert many.points[1].candidates_left < 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: side_knowledge(np.ones((3, 4), bool)),
        lambda: side_knowledge(np.ones(3, bool)),
        lambda: side_knowledge(np.array([[True, False]])),
        lambda: side_knowledge(np.full((3, 4), 0.5)),
        lambda: side_knowledge([["a", "b"], ["c", "d"]]),
        lambda: side_knowledge(None),
        lambda: side_knowledge(draw_subsets(4, 4, seed=0), known=[-1]),
        lambda: side_knowledge(draw_subsets(4, 4, seed=0), known=[1.5]),
        lambda: side_knowledge(draw_subsets(4, 4, seed=0), draws=0),
        lambda: side_knowledge(draw_subsets(4, 4, seed=0), seed=-1),
    ],
)
def test_unusable_arguments_are_refused_in_one_line(call):
    with pytest.raises(PACZeroError) as error:
        call()
    assert "\n" not in str(error.value) and " given" in str(error.value)
