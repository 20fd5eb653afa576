"""`results.json`: its metrics against a computation by hand, missing metrics, and the commit of its source."""

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.experiments.collect import collect
from paczero.experiments.document import build, read, render, source
from paczero.mechanism.bounds import nats_for_success

from .conftest import drawn, write_cell, write_run

RIGHT, HALF = [True] * 4, [True, False] * 2


def of(root: Path, **more: Any) -> dict[str, Any]:
    document = build(*collect([root]), **more)
    assert json.loads(render(document)) == document
    return document


@pytest.fixture
def compared(sweep) -> Path:
    return sweep(
        {
            "none": {"name": "none", "share": 0.8, "dev": 0.78},
            "none-slow": {"name": "none", "share": 0.9, "dev": 0.70},  # better, but not on the selection set
            "balanced": {"share": 0.76, "dev": 0.75},
            "random": {"family": "random", "share": 0.7, "dev": 0.7},
            "mi": {"name": "mi", "budget": 0.33, "share": 0.77, "dev": 0.76},
            "dpzero": {"name": "dpzero", "share": 0.6, "dev": 0.61},
        }
    )


def test_gaps_are_paired_means_in_points(compared: Path) -> None:
    document = of(compared)
    accuracy = {
        cell: [float(np.mean(drawn(share, seed))) for seed in (0, 1, 2)]
        for cell, share in (("none", 0.8), ("balanced", 0.76), ("random", 0.7))
    }
    for cell, key in (("balanced", "gap_points"), ("random", "gap_points_random")):
        pairs = zip(accuracy["none"], accuracy[cell], strict=True)
        assert document[key] == pytest.approx(100 * statistics.mean(a - b for a, b in pairs))
    assert (document["baseline"], document["private"], document["random"]) == ("none", "balanced", "random")
    assert document["none_gain_points"] == pytest.approx(100 * (statistics.mean(accuracy["none"]) - 0.6))
    assert document["untuned"]["values"] == [0.5] * 3 and document["untuned_median"]["mean"] == pytest.approx(0.6)
    rows = {cell["cell"]: cell for cell in document["cells"]}
    for name, values in accuracy.items():
        assert rows[name]["values"] == values
        assert rows[name]["mean"] == pytest.approx(statistics.mean(values))
        assert rows[name]["sd"] == pytest.approx(statistics.stdev(values))
        assert (rows[name]["min"], rows[name]["max"]) == (min(values), max(values))
    # A gap is a difference with its sign turned, and so is its interval.
    assert document["gap_points"] == -rows["balanced"]["difference_points"]
    assert document["gap_ci95"] == [-end for end in reversed(rows["balanced"]["difference_ci95"])]
    assert document["gap_ci95"][0] < document["gap_points"] < document["gap_ci95"][1]
    assert rows["none"]["difference_points"] is None and rows["none-slow"]["difference_points"] > 0
    assert document["bootstrap"]["design"] == "crossed"


def test_two_calls_make_the_same_bytes(compared: Path) -> None:
    assert render(of(compared)) == render(of(compared))


def test_what_a_cell_promises(compared: Path) -> None:
    rows = {cell["cell"]: cell for cell in of(compared)["cells"]}
    assert (rows["none"]["hides"], rows["none"]["nats"], rows["none"]["posterior_success"]) == ("nothing", None, 1)
    assert (rows["mi"]["hides"], rows["mi"]["budget"], rows["mi"]["nats"]) == ("the secret half", 0.33, 0.33)
    assert (rows["mi"]["nats_by_equal_posterior_success"], rows["balanced"]["nats"]) == (False, 0)
    private = rows["dpzero"]
    assert (private["hides"], private["epsilon"], private["budget"]) == ("who is in the pool", 2.0, None)
    assert private["nats_by_equal_posterior_success"] and private["nats"] == nats_for_success(0.58871)


def test_seeds_with_test_sets_of_their_own_are_nested(tmp_path: Path) -> None:
    for seed in (0, 1):
        for cell, name, share in (("a", "none", 0.8), ("b", "zpl", 0.7)):
            right = drawn(share, seed, 50 + seed)
            write_run(tmp_path / cell / f"seed-{seed}", name, right=right, seed=seed, test=f"set {seed}")
    document = of(tmp_path)
    assert document["bootstrap"]["design"] == "nested"
    assert [(test["seed"], test["records"]) for test in document["test"]] == [(0, 50), (1, 51)]


def test_only_seeds_that_both_cells_have_are_paired(sweep) -> None:
    document = of(sweep({"n": {"name": "none", "share": 0.8, "seeds": [0, 1]}, "z": {"share": 0.7, "seeds": [1, 2]}}))
    row = next(cell for cell in document["cells"] if cell["cell"] == "z")
    assert row["difference_seeds"] == [1] and document["bootstrap"]["design"] == "records"
    assert document["gap_points"] == pytest.approx(100 * (np.mean(drawn(0.8, 1)) - np.mean(drawn(0.7, 1))))


@pytest.mark.parametrize("missing", ["none", "zpl"])
def test_without_one_of_the_two_no_gap_is_stated(sweep, missing: str) -> None:
    cells = {"none": {"name": "none", "share": 0.8}, "zpl": {"share": 0.7}}
    document = of(sweep({name: given for name, given in cells.items() if name != missing}))
    gaps = ("gap_points", "gap_ci95", "gap_points_random", "gap_ci95_random")
    assert all(document[key] is None for key in gaps)
    assert document["chosen"]["baseline" if missing == "none" else "private"] == "there is no such cell"
    assert (document["none_gain_points"] is None) == (missing == "none")


def test_runs_with_test_coins_are_not_taken_for_private_ones(sweep) -> None:
    cells = {"none": {"name": "none", "share": 0.8}, "void": {"share": 0.7, "dev": 0.9, "test_seed": 1}}
    assert of(sweep(cells))["private"] is None
    assert of(sweep({**cells, "zpl": {"share": 0.7, "dev": 0.6}}, name="more"))["private"] == "zpl"


def test_without_decisions_there_is_a_gap_but_no_interval(sweep) -> None:
    root = sweep({"none": {"name": "none", "share": 0.8}, "zpl": {"share": 0.7}})
    (root / "zpl" / "seed-1" / "decisions.csv").unlink()
    document = of(root)
    assert document["gap_points"] is not None and document["gap_ci95"] is None


def test_decisions_on_other_numbers_of_records_do_not_belong_together(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "none", right=[True, False])
    write_run(tmp_path / "b", right=[True, False, True, False])
    with pytest.raises(IntegrityError, match="decisions on 4 and 2 records of one test set"):
        of(tmp_path)


def test_a_loss_is_better_the_lower(tmp_path: Path) -> None:
    for cell, name, values in (("n", "none", [1.0, 2.0]), ("z", "zpl", [1.5, 2.5])):
        mean = sum(values) / 2
        loss = {"metric": "loss", "test_after": {"loss": mean}, "test_before": {"loss": 3.0}, "dev_after": mean}
        changes = loss | {"accuracy_before": None, "accuracy_before_median": None, "accuracy_after": None}
        path = write_run(tmp_path / cell, name, right=[True, True], summary=changes)
        (path / "decisions.csv").write_text(f"number,loss\n1,{values[0]}\n2,{values[1]}\n")
    document = of(tmp_path)
    assert (document["unit"], document["gap_points"], document["gap_ci95"]) == ("nats", 0.5, [0.5, 0.5])
    assert document["none_gain_points"] == 1.5


def test_cells_with_other_pools_or_starts_are_noted(sweep) -> None:
    root = sweep({"none": {"name": "none", "share": 0.8}, "zpl": {"share": 0.7}})
    assert of(root)["notes"] == []
    summary = json.loads((root / "zpl" / "seed-1" / "summary.json").read_text())
    (root / "zpl" / "seed-1" / "summary.json").write_text(json.dumps(summary | {"test_before": {"accuracy": 0.4}}))
    journal = root / "zpl" / "seed-2" / "private" / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"pool":"p2"', '"pool":"other"'))
    notes = of(root)["notes"]
    assert len(notes) == 2
    assert "untuned figure" in notes[0] and "(seed 1)" in notes[0]
    assert "same pool" in notes[1] and "(seed 2)" in notes[1]


def test_unanimity_is_thinned_and_averaged_over_seeds(sweep) -> None:
    row = of(sweep({"zpl": {"share": 0.7, "steps": 900}}))["cells"][0]
    series = row["unanimity_over_steps"]
    assert len(series["steps"]) == len(series["share"]) == 200
    assert (series["window"], series["steps"][0], series["steps"][-1]) == (45, 44, 899)
    assert all(0 <= share <= 1 for share in series["share"])


def test_the_papers_figures_stand_beside_cells_of_their_kind(sweep, tmp_path: Path) -> None:
    template = "{sentence} It was {label}"
    root = sweep({"n": {"name": "none", "share": 0.8, "template": template}, "z": {"share": 0.7, "template": template}})
    document = of(root)["paper"]
    assert not document["comparable"]
    assert [(row["mechanism"], row["paper"], row["cell"]) for row in document["rows"]] == [
        ("none", "91.1", "n"),
        ("zpl", "88.99 ± 0.91", "z"),
        ("mi", "89.51 ± 1.12", None),
        ("mi", None, None),
    ]
    base = {"id": "facebook/opt-1.3b", "sha256": "ab" * 32, "dtype": "float16"}
    write_run(tmp_path / "opt", template=template, base=base, peft=None)
    assert of(tmp_path / "opt")["paper"]["comparable"]
    write_run(tmp_path / "lora", template=template, base=base)
    assert not of(tmp_path / "lora")["paper"]["comparable"]
    write_run(tmp_path / "other")
    assert of(tmp_path / "other")["paper"] is None


def test_a_document_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(PACZeroError, match="is no paczero-results/1"):
        read(tmp_path / "list.json")
    (tmp_path / "half.json").write_text('{"format": ')
    with pytest.raises(PACZeroError, match="cannot be read"):
        read(tmp_path / "half.json")


def test_what_promises_nothing_cannot_be_the_private_cell(compared: Path) -> None:
    with pytest.raises(PACZeroError, match=r"--private: 'none-slow' was given, which promises nothing"):
        of(compared, private="none-slow")
    with pytest.raises(PACZeroError, match=r"--private: 'mi' was given, which is the baseline"):
        of(compared, private="mi", baseline="mi")
    assert of(compared, baseline="balanced")["private"] == "random"


def test_runs_without_decisions_are_named(compared: Path) -> None:
    (compared / "none" / "seed-1" / "decisions.csv").unlink()
    [note] = [note for note in of(compared)["notes"] if "decisions.csv" in note]
    assert note.endswith("none/seed-1.")


def test_cells_that_were_not_chosen_are_listed_without_test_metrics(tmp_path: Path) -> None:
    write_cell(tmp_path, "none,learning_rate=0.01", 0.01, [0.7], HALF)
    write_cell(tmp_path, "none,learning_rate=0.02", 0.02, [0.8], HALF)
    made = build(*collect([tmp_path]), by_selection="learning_rate")
    assert [cell["cell"] for cell in made["cells"]] == ["none"]
    assert made["set_aside"] == [
        {"cell": "none,learning_rate=0.01", "value": 0.01, "instead": "none", "seeds": [0], "dev_mean": 0.7}
    ]


def test_equal_metrics_are_stated(tmp_path: Path) -> None:
    write_cell(tmp_path, "none,learning_rate=0.01", 0.01, [0.8], RIGHT, name="none")
    write_cell(tmp_path, "none,learning_rate=0.02", 0.02, [0.8], RIGHT, name="none")
    made = build(*collect([tmp_path]))
    assert made["chosen"]["baseline"].endswith("of 2 such cells, the first in the table of 2 that are equal")


def test_the_gap_is_taken_to_cells_of_the_usual_number_of_candidates(tmp_path: Path) -> None:
    write_cell(tmp_path, "none", 0.01, [0.8], RIGHT, name="none")
    write_cell(tmp_path, "zpl", 0.01, [0.7], HALF, subsets=128)
    write_cell(tmp_path, "paired", 0.01, [0.6], HALF, subsets=128, family="paired")
    write_cell(tmp_path, "two", 0.01, [0.8], RIGHT, subsets=2)
    assert build(*collect([tmp_path]))["private"] == "zpl"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout" / "paczero"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("1\n")
    git(folder, "init", "-q", "..")
    git(folder, "add", "a.py")
    git(folder, "commit", "-qm", "first")
    return folder


def test_the_commit_and_whether_files_differ_from_it(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert source(package, "1.0") == commit and len(commit) == 40
    (package / "new.txt").write_text("")  # not part of it
    assert source(package, "1.0") == commit
    (package / "a.py").write_text("2\n")
    assert source(package, "1.0") == f"{commit}+changes"


def test_an_environment_inside_a_checkout_is_no_checkout(package: Path, tmp_path: Path) -> None:
    installed = package.parent / ".venv" / "site-packages" / "paczero"
    installed.mkdir(parents=True)
    assert source(installed, "1.0") == "paczero 1.0"


def test_without_git_or_checkout_the_version(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "paczero").mkdir()
    assert source(tmp_path / "paczero", "1.0") == "paczero 1.0"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source(package, "1.0") == "paczero 1.0"
