"""Which runs are one cell, which cells are comparable, and that the selection sets choose."""

from pathlib import Path

import pytest

from paczero.data.metrics import ACCURACY, LOSS
from paczero.errors import PACZeroError
from paczero.experiments.cells import Cell, best, choose, group
from paczero.experiments.collect import collect
from paczero.mechanism.bounds import nats_for_success, posterior_success

from .conftest import write_cell, write_run

RIGHT, HALF = [True, False, True, True], [True, False] * 2


def cells_in(root: Path) -> list[Cell]:
    return group(collect([root])[0])


def test_cells_stand_in_a_fixed_order(sweep) -> None:
    root = sweep(
        {
            "b": {"name": "mi", "budget": 0.1},
            "a": {"name": "mi", "budget": 0.33},
            "p": {"name": "dpzero"},
            "z16": {"subsets": 16},
            "z": {},
            "r": {"family": "random"},
            "n": {"name": "none"},
        },
        seeds=[1, 0],
    )
    cells = cells_in(root)
    assert [cell.name for cell in cells] == ["n", "z16", "z", "r", "a", "b", "p"]
    assert all(cell.seeds == [0, 1] for cell in cells)
    assert [cell.family for cell in cells] == [None, "balanced", "balanced", "random", "balanced", "balanced", None]


def test_where_a_cell_stands_among_budgets(sweep) -> None:
    root = sweep(
        {
            "mi": {"name": "mi", "budget": 0.33},
            "zpl": {},
            "coin": {"name": "coin"},
            "none": {"name": "none"},
            "half-sign": {"name": "half-sign"},
            "dpzero": {"name": "dpzero"},
            "void": {"test_seed": 5},
            "too much": {"name": "mi", "budget": 0.7},
        },
        seeds=[0],
    )
    found = {cell.name: cell for cell in cells_in(root)}
    nothing = {"none", "half-sign", "void", "too much"}
    assert {name for name, cell in found.items() if cell.nats is None} == nothing
    assert all(found[name].success == 1 for name in nothing)
    assert (found["mi"].nats, found["zpl"].nats, found["coin"].nats) == (0.33, 0, 0)
    # ε stands where the same guess is allowed, from the safe side.
    assert found["dpzero"].nats == nats_for_success(0.58871)
    assert posterior_success(found["dpzero"].nats) <= found["dpzero"].success


def test_different_test_sets_are_refused_within_a_seed_only(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "a" / f"seed-{seed}", right=RIGHT, seed=seed, test=f"set {seed}")
        write_run(tmp_path / "b" / f"seed-{seed}", right=RIGHT, seed=seed, test=f"set {seed}")
    assert len(cells_in(tmp_path)) == 2
    write_run(tmp_path / "c" / "seed-1", right=RIGHT, seed=1, test="another")
    with pytest.raises(PACZeroError, match=r"cells 'a' and 'c' were scored on different test sets \(seed 1\)"):
        cells_in(tmp_path)


def test_different_metrics_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", summary={"metric": "f1"})
    with pytest.raises(PACZeroError, match="cells 'a' and 'b' are judged by accuracy and f1"):
        cells_in(tmp_path)


def test_seeds_of_a_cell_have_the_same_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "seed-0", config={"output_dir": "x", "engine": {"cache": True}})
    write_run(tmp_path / "a" / "seed-1", seed=1, config={"output_dir": "y", "engine": {"cache": False}})
    assert len(cells_in(tmp_path)) == 1
    write_run(tmp_path / "a" / "seed-2", seed=2, rate=0.5)
    with pytest.raises(PACZeroError, match="cell 'a': seeds 0 and 2 differ in learning_rate"):
        cells_in(tmp_path)


def test_a_seed_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "seed-0")
    write_run(tmp_path / "a" / "seed-1", seed=0)
    with pytest.raises(PACZeroError, match="have the same seed 0"):
        cells_in(tmp_path)


def test_the_best_is_chosen_on_the_selection_set_and_never_on_the_test_set(sweep) -> None:
    root = sweep(
        {
            "tested": {"dev": 0.70, "right": [True] * 4},
            "selected": {"dev": 0.75, "right": [False] * 3 + [True]},
            "lucky": {"dev": 0.99, "right": RIGHT, "seeds": [0]},
        },
        seeds=[0, 1],
    )
    cells = cells_in(root)
    chosen, why = best(cells, ACCURACY)
    assert chosen is not None and chosen.name == "selected"
    assert why == "the best mean accuracy on the selection sets of 2 such cells (1 with fewer seeds aside)"
    lowest, _ = best(cells, LOSS)
    assert lowest is not None and lowest.name == "tested"


def test_without_selection_figures_nothing_is_chosen_but_the_only_one(sweep) -> None:
    cells = cells_in(sweep({"a": {"dev": None}, "b": {"dev": 0.7}}, seeds=[0]))
    chosen, why = best(cells, ACCURACY)
    assert chosen is None and "not all have a figure on a selection set" in why
    assert best(cells[:1], ACCURACY) == (cells[0], "the only such cell")
    assert best([], ACCURACY) == (None, "there is no such cell")


def test_the_selection_sets_choose_and_not_the_test_sets(tmp_path: Path) -> None:
    write_cell(tmp_path, "zpl,learning_rate=0.01", 0.01, [0.7, 0.8], HALF)
    write_cell(tmp_path, "zpl,learning_rate=0.02", 0.02, [0.74, 0.74], RIGHT)  # better where it was tested
    kept, aside = choose(cells_in(tmp_path), "learning_rate", ACCURACY)
    assert [(cell.name, cell.rate) for cell in kept] == [("zpl", 0.01)]
    assert [(one.cell.rate, one.value, one.instead) for one in aside] == [(0.02, 0.02, "zpl")]


def test_cells_that_differ_in_more_are_left_apart(tmp_path: Path) -> None:
    write_cell(tmp_path, "a,learning_rate=0.01", 0.01, [0.7], HALF)
    write_cell(tmp_path, "b,learning_rate=0.02", 0.02, [0.8], HALF, template="{text}: {label}")
    with pytest.raises(PACZeroError, match="no two cells differ in 'learning_rate' alone"):
        choose(cells_in(tmp_path), "learning_rate", ACCURACY)
    write_cell(tmp_path, "a,learning_rate=0.03", 0.03, [0.6], HALF)
    kept, aside = choose(cells_in(tmp_path), "learning_rate", ACCURACY)
    assert [cell.name for cell in kept] == ["a", "b,learning_rate=0.02"]
    assert [one.cell.name for one in aside] == ["a,learning_rate=0.03"]


def test_two_that_would_have_one_name_keep_their_own(tmp_path: Path) -> None:
    for rate, dev in ((0.01, 0.7), (0.02, 0.8)):
        write_cell(tmp_path, f"zpl,learning_rate={rate}", rate, [dev], HALF)
        write_cell(tmp_path, f"learning_rate={rate},zpl", rate, [dev], HALF, template="{text}: {label}")
    kept, aside = choose(cells_in(tmp_path), "learning_rate", ACCURACY)
    assert sorted(cell.name for cell in kept) == ["learning_rate=0.02,zpl", "zpl,learning_rate=0.02"]
    assert len(aside) == 2


def test_what_cannot_be_chosen_is_refused(tmp_path: Path) -> None:
    write_cell(tmp_path, "zpl,learning_rate=0.01", 0.01, [0.7], HALF)
    with pytest.raises(PACZeroError, match=r"--choose: no run has a setting 'learningrate'"):
        choose(cells_in(tmp_path), "learningrate", ACCURACY)
    for seed in (0, 1):
        write_run(tmp_path / "zpl,learning_rate=0.02" / f"seed-{seed}", right=HALF, dev=None, seed=seed, rate=0.02)
    write_run(tmp_path / "zpl,learning_rate=0.01" / "seed-1", right=HALF, dev=0.7, seed=1, rate=0.01)
    with pytest.raises(PACZeroError, match="none can be chosen"):
        choose(cells_in(tmp_path), "learning_rate", ACCURACY)
