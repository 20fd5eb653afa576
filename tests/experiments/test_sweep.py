"""Which runs a sweep has: every combination, every recipe's cells."""

from dataclasses import replace

import pytest

from paczero.config_io import recipes
from paczero.errors import PACZeroError
from paczero.experiments.sweep import plan, points, read_sweep


def test_every_combination_once():
    assert list(points({"a": [1, 2], "b": ["x", "y"]})) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert list(points({})) == [{}]


@pytest.mark.parametrize("name", recipes(sweeps=True))
def test_every_sweep_s_cells_can_be(name):
    planned = plan(read_sweep(name, {"output_dir": "runs/sweep"}))
    computed = {repr((item.settings.peft, replace(item.settings.args, output_dir=""))) for item in planned}
    assert len(computed) == len(planned)


@pytest.mark.parametrize("own", ["", "cells: {b: {max_steps: 4}}\n"])
@pytest.mark.parametrize("keys", ["cells: {a: {max_steps: 3}}", "grid: {max_steps: [3]}", "seeds: [1]", "jobs: 2"])
def test_a_sweep_is_no_base(tmp_path, own, keys):
    (tmp_path / "below.yaml").write_text(f"model: m\ndata.train: p.csv\noutput_dir: out\n{keys}\n")
    (tmp_path / "sweep.yaml").write_text(f"base: below.yaml\n{own}")
    with pytest.raises(PACZeroError, match=f"below.yaml: {keys.partition(':')[0]} is set, so it is a sweep; expected"):
        read_sweep(str(tmp_path / "sweep.yaml"), {})


def test_a_cell_changes_one_key_of_a_mapping(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("model: m\ndata.train: p.csv\npeft: {r: 8, bias: none}\noutput_dir: out\ngrid: {peft.r: [2, 4]}\n")
    found = {item.cell: item.settings.peft for item in plan(read_sweep(str(path), {"peft.bias": "all"}))}
    assert found == {"r=2": {"r": 2, "bias": "all"}, "r=4": {"r": 4, "bias": "all"}}
