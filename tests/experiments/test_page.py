"""The page, the csv and the plots, each a function of the document alone."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from paczero.experiments import plots, wording
from paczero.experiments.collect import collect
from paczero.experiments.document import build, render
from paczero.experiments.page import page, summary
from paczero.mechanism.registry import SPECS

from .conftest import write_cell


def of(root: Path, **more: Any) -> dict[str, Any]:
    return json.loads(render(build(*collect([root]), **more)))


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line[2:-2].split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.fixture
def every(sweep) -> dict[str, Any]:
    """A cell a mechanism, and two more."""
    cells: dict[str, dict[str, Any]] = {name: {"name": name, "share": 0.7} for name in SPECS}
    cells["zpl-random"] = {"family": "random", "share": 0.65, "dev": 0.6}
    cells["void"] = {"test_seed": 3, "share": 0.7, "dev": 0.65}
    return of(sweep(cells), commands=["paczero sweep x.yaml"], commit="ab12")


def test_the_page_says_all_of_it(every: dict[str, Any]) -> None:
    text = page(every, plots.NAMES)
    rows = {row[0].strip("`*"): row for row in table(text, "All cells")}
    assert {cell["cell"] for cell in every["cells"]} <= rows.keys() and "untuned" in rows
    assert all(len(row) == 11 for row in rows.values())
    assert rows["none"][4:6] == ["no promise", "1"] and rows["none"][8] == "baseline"
    assert rows["mi"][1:6] == ["mi", "balanced", "128", "0.33 nats", "0.8819"]
    assert rows["void"][4:6] == ["void (test seed)", "1"]
    # ε is stated in nats only with the remark that they are those of equal p.
    assert re.fullmatch(r"ε = 2, δ = 2.8e-06 \(by p: 0.0158 nats\)", rows["dpzero"][4])
    assert "its ε is no number of nats" in text and "equal posterior success" in text
    assert all(f"]({name})" in text for name in plots.NAMES)
    assert "paczero sweep x.yaml" in text and "commit ab12" in text
    assert {row[0] for row in table(text, "What each mechanism releases and hides")} == set(SPECS)
    assert "Runs with a test seed promise nothing" in text
    assert "\n\n\n" not in text and text.endswith("\n") and " \n" not in text


def test_missing_cells_and_metrics_are_stated(sweep) -> None:
    text = page(of(sweep({"zpl": {"share": 0.7}}, seeds=[0])), [])
    assert "costs cannot be said from these runs" in text
    assert "a cell without privacy (`none`): there is no such cell" in text
    assert "There are none: not every two compared runs" in text and ".png" not in text
    assert "ε" not in text and "## Beside the paper" not in text and "## Left out" not in text


def test_of_one_seed_only_it_says_so(sweep) -> None:
    document = of(sweep({"zpl": {"share": 0.7}, "none": {"name": "none", "share": 0.8}}, seeds=[4]))
    text = page(document, [])
    assert "one seed only" in summary(document) and "draws over the test records; of one seed nothing is known" in text
    assert "±" not in "".join(cell for row in table(text, "All cells") for cell in row)


def test_the_paper_is_never_beside_a_small_model_without_a_warning(sweep) -> None:
    cells = {"zpl": {"share": 0.7}, "none": {"name": "none", "share": 0.8}}
    template = "{sentence} It was {label}"
    text = page(of(sweep({name: {**given, "template": template} for name, given in cells.items()})), [])
    rows = table(text, "Beside the paper")
    assert [row[:2] for row in rows[:3]] == [
        ["none", "91.1"],
        ["zpl", "88.99 ± 0.91"],
        ["mi, 0.33 nats", "89.51 ± 1.12"],
    ]
    assert rows[3][1] == "" and "not to be compared" in text and "paper, % (another model)" in text


def test_left_out_runs_are_listed(sweep) -> None:
    root = sweep({"zpl": {"share": 0.7}}, seeds=[0, 1])
    (root / "zpl" / "seed-1" / "summary.json").unlink()
    text = page(of(root), [])
    assert "## Left out" in text and "seed-1`: it has no summary.json" in text


def test_cells_that_were_not_chosen_are_listed(tmp_path: Path) -> None:
    write_cell(tmp_path, "none,learning_rate=0.01", 0.01, [0.7], [True, False])
    write_cell(tmp_path, "none,learning_rate=0.02", 0.02, [0.8], [True, False])
    text = page(build(*collect([tmp_path]), by_selection="learning_rate"), ())
    assert "| `none` | 0.01 | 70.0 | 80.0 |" in text
    assert "not chosen" not in page(build(*collect([tmp_path])), ())


def test_names_do_no_harm_to_the_page(sweep) -> None:
    document = of(sweep({"a|b`c": {"share": 0.7}}, seeds=[0]))
    assert len(table(page(document, []), "All cells")[2]) == 11
    assert "`a\\|b'c`" in page(document, [])


def test_the_csv_has_a_line_a_run(every: dict[str, Any]) -> None:
    columns, rows = wording.COLUMNS, wording.lines(every)
    assert len(rows) == sum(len(cell["seeds"]) for cell in every["cells"]) and {len(row) for row in rows} == {
        len(columns)
    }
    first = dict(zip(columns, rows[0], strict=True))
    cell = every["cells"][0]
    assert (first["cell"], first["seed"], first["test"]) == (cell["cell"], cell["seeds"][0], cell["values"][0])
    assert (first["untuned"], first["untuned_median"], first["directory"]) == (0.5, 0.6, cell["directories"][0])


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) > 5000
    return struct.unpack(">II", png[16:24])


def test_plots_are_drawn_of_the_data_that_exist(every: dict[str, Any], sweep) -> None:
    pictures = plots.draw(every)
    assert set(pictures) == set(plots.NAMES) and pictures == plots.draw(every)
    for png in pictures.values():
        width, height = size(png)
        assert 900 <= width <= 3000 and 300 <= height <= 1600
    assert plots.draw(of(sweep({"n": {"name": "none"}}, seeds=[0], name="untested"))) == {}
    assert set(plots.draw(of(sweep({"n": {"name": "none", "share": 0.7}}, seeds=[0], name="one")))) == {
        "utility.png",
        "cells.png",
    }


def test_promises_ascend_and_private_cells_stand_where_p_is_the_same(every: dict[str, Any]) -> None:
    columns = [[cell["cell"] for cell in column] for column in plots._columns(every["cells"])]
    assert [set(column) for column in columns] == [
        {"zpl", "zpl-random", "skip", "coin"},
        {"dpzero", "dp-aggzo", "dp-sign"},
        {"mi"},
        {"none", "full-sign", "half-sign", "void"},
    ]
