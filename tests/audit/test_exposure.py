"""The exposure of each unit, against all bit strings that the mechanism could have released with and without it."""

import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from paczero.audit.exposure import exposure, summarised
from paczero.errors import IntegrityError
from paczero.mechanism.margins import margins
from paczero.mechanism.signs import direction_signs
from paczero.mechanism.subsets import draw_subsets

from ..written_runs import make_run

UNITS, STEPS = 7, 5


def chances(derivatives, members):
    """P(each bit string) of `zpl` along one path: a sign where all candidates agree, else a fair coin."""
    plus = []
    for step in derivatives:
        signs = direction_signs(step[:, None], members, clip=1.0)[0][0]
        plus.append(0.5 if len(set(signs.tolist())) > 1 else float(signs[0] > 0))
    return {
        bits: math.prod(p if bit > 0 else 1 - p for p, bit in zip(plus, bits, strict=True))
        for bits in itertools.product((1, -1), repeat=len(plus))
    }


def test_total_variation_and_ratio_are_those_of_all_bit_strings():
    rng, seen = np.random.default_rng(0), set()
    for seed in range(60):
        members = draw_subsets(UNITS, 4, seed=seed)
        steps = np.round(2 * (rng.standard_normal((STEPS, UNITS)) + rng.choice([-0.6, 0.6]))) / 2
        whole = chances(steps, members)
        possible = [bits for bits, chance in whole.items() if chance]
        y = possible[rng.integers(len(possible))]
        found = {(t, 0): margins(step[:, None], members, clip=1.0)[0] for t, step in enumerate(steps)}
        result = summarised(found, [[bit] for bit in y], UNITS)
        by_unit = {unit.unit - 1: unit for unit in result.most}
        for unit in range(UNITS):
            zeroed = steps.copy()
            zeroed[:, unit] = 0.0
            without = chances(zeroed, members)
            distance = sum(abs(whole[bits] - without[bits]) for bits in whole) / 2
            if unit not in by_unit:
                assert distance == 0 and without == whole
                continue
            assert by_unit[unit].total_variation == distance
            ratio = math.log(whole[y] / without[y]) if without[y] else None
            assert by_unit[unit].log_ratio == pytest.approx(ratio)
            seen.add((by_unit[unit].made > 0, by_unit[unit].broken > 0, ratio is None))
        assert result.exposed == len(by_unit) and result.hanging <= result.unanimous
        distances = [unit.total_variation for unit in result.most]
        assert distances == sorted(distances, reverse=True)
    assert {(True, False, False), (False, True, True), (False, True, False), (True, True, True)} <= seen


def test_ten_units_and_steps_are_named_and_all_are_counted():
    members = draw_subsets(64, 4, seed=0)
    rng = np.random.default_rng(0)
    found = {(t, 0): margins(rng.standard_normal((64, 1)) + 0.25, members, clip=1.0)[0] for t in range(80)}
    result = summarised(found, [[margin.sign or 1] for margin in found.values()], 64)
    assert len(result.most) == len(result.closest) == 10 < result.exposed <= 64
    unanimous = [margin for margin in found.values() if margin.sign]
    assert result.unanimous == len(unanimous) and result.margins[0] == min(m.margin for m in unanimous)
    assert result.hanging == sum(bool(m.without) for m in unanimous) <= result.breakable
    assert result.breakable == sum(m.margin <= 1 for m in unanimous)


def test_margins_come_from_the_diagnostics(tmp_path):
    run = make_run(tmp_path / "run", done=40)
    assert (exposure(run).releases, exposure(run).missing, exposure(run).most) == (0, 40, ())
    y = [json.loads(line)["y"][0] for line in run.transcript.read_text().splitlines()[1:]]
    lines = [json.loads(line) for line in run.diagnostics.read_text().splitlines()]
    other = {"sign": y[3], "margin": 0.25, "without": {"0": [16, 599]}}
    lines[3]["margins"] = [other]
    run.diagnostics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = exposure(run)
    assert (result.releases, result.missing, result.unanimous, result.breakable) == (1, 39, 1, 1)
    assert [asdict(unit) for unit in result.most] == [
        {"unit": n, "made": 1, "broken": 0, "turned": 0, "total_variation": 0.5, "log_ratio": math.log(2)}
        for n in (17, 600)
    ]
    for change in ({"sign": 2}, {"margin": "x"}, {"margin": -1}, {"without": {"0": [600]}}, {"without": [1]}, None):
        lines[3]["margins"] = [other | change] if change else 7
        run.diagnostics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(IntegrityError, match="no margins that a run writes"):
            exposure(run)
