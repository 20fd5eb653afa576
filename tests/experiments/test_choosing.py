"""Of cells that differ in one setting the selection sets choose, and the test sets have no say."""

from pathlib import Path
from typing import Any

import pytest

from paczero.data.metrics import METRICS
from paczero.errors import PACZeroError
from paczero.experiments.cells import Cell, choose, group
from paczero.experiments.collect import collect
from paczero.experiments.document import build
from paczero.experiments.page import page

from .conftest import write_run

ACCURACY = METRICS["accuracy"]
RIGHT, HALF = [True] * 4, [True, False] * 2


def cells_of(root: Path) -> list[Cell]:
    return group(collect([root])[0])


def write(root: Path, cell: str, rate: float, dev: list[float], right: list[bool], **more: Any) -> None:
    for seed, value in enumerate(dev):
        write_run(root / cell / f"seed-{seed}", right=right, dev=value, seed=seed, rate=rate, **more)


def test_the_selection_sets_choose_and_not_the_test_sets(tmp_path: Path) -> None:
    write(tmp_path, "zpl,learning_rate=0.01", 0.01, [0.7, 0.8], HALF)
    write(tmp_path, "zpl,learning_rate=0.02", 0.02, [0.74, 0.74], RIGHT)  # better where it was tested
    kept, aside = choose(cells_of(tmp_path), "learning_rate", ACCURACY)
    assert [(cell.name, cell.rate) for cell in kept] == [("zpl", 0.01)]
    assert [(one.cell.rate, one.value, one.instead) for one in aside] == [(0.02, 0.02, "zpl")]


def test_cells_that_differ_in_more_are_left_apart(tmp_path: Path) -> None:
    write(tmp_path, "a,learning_rate=0.01", 0.01, [0.7], HALF)
    write(tmp_path, "b,learning_rate=0.02", 0.02, [0.8], HALF, template="{text}: {label}")
    with pytest.raises(PACZeroError, match="no two cells differ in 'learning_rate' alone"):
        choose(cells_of(tmp_path), "learning_rate", ACCURACY)
    write(tmp_path, "a,learning_rate=0.03", 0.03, [0.6], HALF)
    kept, aside = choose(cells_of(tmp_path), "learning_rate", ACCURACY)
    assert [cell.name for cell in kept] == ["a", "b,learning_rate=0.02"]
    assert [one.cell.name for one in aside] == ["a,learning_rate=0.03"]


def test_two_that_would_have_one_name_keep_their_own(tmp_path: Path) -> None:
    for rate, dev in ((0.01, 0.7), (0.02, 0.8)):
        write(tmp_path, f"zpl,learning_rate={rate}", rate, [dev], HALF)
        write(tmp_path, f"learning_rate={rate},zpl", rate, [dev], HALF, template="{text}: {label}")
    kept, aside = choose(cells_of(tmp_path), "learning_rate", ACCURACY)
    assert sorted(cell.name for cell in kept) == ["learning_rate=0.02,zpl", "zpl,learning_rate=0.02"]
    assert len(aside) == 2


def test_what_cannot_be_chosen_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "zpl,learning_rate=0.01", 0.01, [0.7], HALF)
    with pytest.raises(PACZeroError, match=r"--choose: no run has a setting 'learningrate'"):
        choose(cells_of(tmp_path), "learningrate", ACCURACY)
    for seed in (0, 1):
        write_run(tmp_path / "zpl,learning_rate=0.02" / f"seed-{seed}", right=HALF, dev=None, seed=seed, rate=0.02)
    write_run(tmp_path / "zpl,learning_rate=0.01" / "seed-1", right=HALF, dev=0.7, seed=1, rate=0.01)
    with pytest.raises(PACZeroError, match="none can be chosen"):
        choose(cells_of(tmp_path), "learning_rate", ACCURACY)


def test_the_document_lists_what_stands_aside_without_its_test_figures(tmp_path: Path) -> None:
    write(tmp_path, "none,learning_rate=0.01", 0.01, [0.7], HALF)
    write(tmp_path, "none,learning_rate=0.02", 0.02, [0.8], HALF)
    made = build(*collect([tmp_path]), by_selection="learning_rate")
    assert [cell["cell"] for cell in made["cells"]] == ["none"]
    assert made["set_aside"] == [
        {"cell": "none,learning_rate=0.01", "value": 0.01, "instead": "none", "seeds": [0], "dev_mean": 0.7}
    ]


def test_equal_figures_are_said(tmp_path: Path) -> None:
    write(tmp_path, "none,learning_rate=0.01", 0.01, [0.8], RIGHT, name="none")
    write(tmp_path, "none,learning_rate=0.02", 0.02, [0.8], RIGHT, name="none")
    made = build(*collect([tmp_path]))
    assert made["chosen"]["baseline"].endswith("of 2 such cells, the first in the table of 2 that are equal")


def test_the_page_lists_it_too(tmp_path: Path) -> None:
    write(tmp_path, "none,learning_rate=0.01", 0.01, [0.7], HALF)
    write(tmp_path, "none,learning_rate=0.02", 0.02, [0.8], HALF)
    said = page(build(*collect([tmp_path]), by_selection="learning_rate"), ())
    assert "| `none` | 0.01 | 70.0 | 80.0 |" in said
    assert "not chosen" not in page(build(*collect([tmp_path])), ())


def test_the_gap_is_taken_to_cells_of_the_usual_number_of_candidates(tmp_path: Path) -> None:
    write(tmp_path, "none", 0.01, [0.8], RIGHT, name="none")
    write(tmp_path, "zpl", 0.01, [0.7], HALF, subsets=128)
    write(tmp_path, "paired", 0.01, [0.6], HALF, subsets=128, family="paired")
    write(tmp_path, "two", 0.01, [0.8], RIGHT, subsets=2)
    assert build(*collect([tmp_path]))["private"] == "zpl"
