"""Which directories are runs, what is read of them, and why some are left out."""

import shutil
from pathlib import Path

import pytest

from paczero.errors import PACZeroError
from paczero.experiments.collect import collect

from .conftest import write_run

RIGHT = [True, False, True, True]


def test_a_sweeps_runs_are_found_and_nothing_else(sweep, tmp_path: Path) -> None:
    root = sweep({"zpl": {"right": RIGHT}, "none": {"name": "none", "right": RIGHT}}, seeds=[0, 1])
    (root / "cache").mkdir()
    (root / "cache" / "x.json").write_text("{}")
    (root / ".none.123" / "private").mkdir(parents=True)  # a killed process left it
    (root / ".none.123" / "config.yaml").write_text("{}")
    for cell in ("zpl", "none"):
        (root / cell / "seed-0.yaml").write_text("{}")
        (root / cell / "seed-0.log").write_text("")
    runs, left_out = collect([root])
    assert [(run.cell, run.seed) for run in runs] == [("none", 0), ("none", 1), ("zpl", 0), ("zpl", 1)]
    assert left_out == []
    assert all(run.test == 0.75 and run.dev == 0.7 and run.untuned_median == 0.6 for run in runs)
    assert runs[0].unanimous == () and len(runs[2].unanimous) == 20
    assert runs[0].scores is not None and runs[0].scores.tolist() == [1, 0, 1, 1]


def test_cells_of_one_name_in_two_sweeps_stay_apart(sweep) -> None:
    first = sweep({"zpl": {"right": RIGHT}}, seeds=[0], name="first")
    second = sweep({"zpl": {"right": RIGHT}, "other": {"right": RIGHT}}, seeds=[0], name="second")
    assert [run.cell for run in collect([first, second])[0]] == ["zpl", "other", "second/zpl"]
    assert len(collect([first, first])[0]) == 1
    runs = collect([first / "zpl", second / "zpl" / "seed-0"])[0]
    assert [run.cell for run in runs] == ["zpl", "second/zpl"]


def test_seeds_that_are_given_one_by_one_are_one_cell(sweep) -> None:
    root = sweep({"zpl": {"right": RIGHT}}, seeds=[0, 1])
    runs = collect([root / "zpl" / "seed-0", root / "zpl" / "seed-1"])[0]
    assert [(run.cell, run.seed) for run in runs] == [("zpl", 0), ("zpl", 1)]


def test_runs_by_themselves_are_named_by_their_directories(tmp_path: Path) -> None:
    write_run(tmp_path / "demo", right=RIGHT, seed=3)
    write_run(tmp_path / "cell" / "seed-5", right=RIGHT, seed=5)
    assert [(r.cell, r.seed) for r in collect([tmp_path / "demo"])[0]] == [("demo", 3)]
    assert [(r.cell, r.seed) for r in collect([tmp_path / "cell" / "seed-5"])[0]] == [("cell", 5)]
    assert [(r.cell, r.seed) for r in collect([tmp_path / "cell"])[0]] == [("cell", 5)]


def test_a_relative_path_leads_to_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "cell" / "seed-5", right=RIGHT, seed=5)
    monkeypatch.chdir(tmp_path / "cell" / "seed-5")
    assert [r.cell for r in collect([Path(".")])[0]] == ["cell"]
    monkeypatch.chdir(tmp_path)
    assert [(r.cell, r.directory) for r in collect([Path(".")])[0]] == [("cell", "cell/seed-5")]


def test_a_run_without_a_test_set(tmp_path: Path) -> None:
    write_run(tmp_path / "untested")
    [run] = collect([tmp_path])[0]
    assert (run.test, run.scores, run.dev) == (None, None, 0.7)


def test_a_metric_that_is_not_finite_is_none(tmp_path: Path) -> None:
    write_run(tmp_path / "diverged", right=RIGHT, dev=float("nan"))
    [run] = collect([tmp_path])[0]
    assert (run.test, run.dev) == (0.75, None)


def test_f1_and_loss_are_read_by_record(tmp_path: Path) -> None:
    for metric, values in (("f1", [0.5, 1.0, 0.0, 0.25]), ("loss", [2.5, 1.25])):
        mean = sum(values) / len(values)
        figures = {"metric": metric, "test_after": {metric: mean}, "accuracy_after": None}
        path = write_run(tmp_path / metric, right=RIGHT, summary=figures)
        lines = [f"{number},{value}" for number, value in enumerate(values, 1)]
        (path / "decisions.csv").write_text("\n".join([f"number,{metric}", *lines]) + "\n")
        [run] = collect([path])[0]
        assert run.test == mean and run.scores is not None and run.scores.tolist() == values


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda run: (run / "release" / "privacy.json").unlink(), "not finished: 0 of 20 steps"),
        (lambda run: (run / "summary.json").unlink(), "has no summary.json"),
        (lambda run: (run / "summary.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "summary.json").write_text('{"metric": "x"}'), "metric 'x'; expected one of accuracy"),
        (lambda run: (run / "release" / "privacy.json").write_text("{}"), "its format is not"),
        (lambda run: (run / "release" / "transcript.jsonl").unlink(), "no transcript"),
        (lambda run: (run / "decisions.csv").write_text("number,target\n1,a\n"), "is no table of decisions"),
        (lambda run: (run / "decisions.csv").write_text("number,target,decision\n1,a,b\n"), "its mean is not the"),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_its_reason(tmp_path: Path, break_it, reason: str) -> None:
    write_run(tmp_path / "good", right=RIGHT)
    break_it(write_run(tmp_path / "bad", right=RIGHT))
    if reason.startswith("not finished"):
        (tmp_path / "bad" / "release" / "transcript.jsonl").rename(tmp_path / "bad" / "private" / "transcript.jsonl")
        header = (tmp_path / "bad" / "private" / "transcript.jsonl").read_text().splitlines()[0]
        (tmp_path / "bad" / "private" / "transcript.jsonl").write_text(header + "\n")
    runs, left_out = collect([tmp_path])
    assert [run.cell for run in runs] == ["good"]
    [item] = left_out
    assert item.directory == str(tmp_path / "bad") and reason in item.reason


def test_a_run_that_never_began_is_listed(sweep) -> None:
    root = sweep({"zpl": {"right": RIGHT}}, seeds=[0])
    (root / "zpl" / "seed-1.yaml").write_text("{}")
    (root / "zpl" / "seed-1.log").write_text("paczero: error: …")
    (root / "zpl" / "notes.yaml").write_text("{}")
    runs, left_out = collect([root])
    assert len(runs) == 1
    assert [(item.directory, item.reason) for item in left_out] == [
        (str(root / "zpl" / "seed-1"), f"it never began; {root / 'zpl' / 'seed-1.log'} may say why")
    ]


def test_a_directory_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PACZeroError, match="is no directory"):
        collect([tmp_path / "missing"])
    write_run(tmp_path / "good", right=RIGHT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PACZeroError, match="empty' holds no run"):
        collect([tmp_path / "good", tmp_path / "empty"])


def test_runs_without_private_part_can_be_compared(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", right=RIGHT)
    shutil.rmtree(path / "private")
    [run] = collect([path])[0]
    assert run.test == 0.75 and run.unanimous == ()
