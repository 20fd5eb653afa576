"""Which runs a sweep has: every combination, every recipe's cells."""

from dataclasses import replace

import pytest

from paczero.config_io import recipes
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


def test_a_cell_changes_one_key_of_a_mapping(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("model: m\ndata.train: p.csv\npeft: {r: 8, bias: none}\noutput_dir: out\ngrid: {peft.r: [2, 4]}\n")
    found = {item.cell: item.settings.peft for item in plan(read_sweep(str(path), {"peft.bias": "all"}))}
    assert found == {"r=2": {"r": 2, "bias": "all"}, "r=4": {"r": 4, "bias": "all"}}
