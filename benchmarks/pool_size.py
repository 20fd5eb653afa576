"""What each promise costs by the size of the pool: tables, a figure and `results.json` from finished runs.

    python benchmarks/pool_size.py runs/pool-size/1000 runs/pool-size/4000 --gradients gradients.jsonl
        --output docs/results/pool-size

The runs are those of `recipes/small/sweeps/pool-size.yaml`, a directory a size. Cells that differ in steps and learning
rate are one mechanism. The settings with the best accuracy on the selection set of the first seed stand in the tables;
the other seeds have these settings only. Lines of `gradients.py` are chosen in the same way. No choice looks at a test
set.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from paczero.experiments.cells import Cell
from paczero.experiments.collect import Run, collect
from paczero.experiments.comparison import difference
from paczero.release.plots import png

FIRST_SEED, REFERENCE = 0, "full-sign"
SHOWN = ("none", "full-sign", "zpl-balanced", "zpl-random", "dp-sign-8", "dp-sign-2", "dp-sign-1")
DESCRIBED = {
    "none": "mean derivative (MeZO)", "full-sign": "its sign", "zpl-random": "ZPL, random halves",
    "zpl-balanced": "ZPL, balanced halves", "adamw": "AdamW on gradients",
} | {f"{kind}-{e}": f"{shown}, ε = {e}" for e in (1, 2, 8) for kind, shown in
     (("dp-sign", "`dp-sign`"), ("dpzero", "`dpzero`"), ("dp-sgd", "DP-SGD (Opacus)"))}  # fmt: skip


def chosen(runs: Iterable[Run]) -> dict[str, Cell]:
    """Mechanism -> its runs with the settings that are best on the first seed's selection set."""
    cells: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        cells[run.cell].append(run)
    kinds: dict[str, list[Cell]] = defaultdict(list)
    for name, members in cells.items():
        kinds[name.partition(",")[0]].append(Cell(name, tuple(sorted(members, key=lambda run: run.seed))))

    def selection(cell: Cell) -> float:
        return max((run.dev or 0.0 for run in cell.runs if run.seed == FIRST_SEED), default=0.0)

    return {kind: max(same, key=selection) for kind, same in kinds.items()}


def row_of(units: int, kind: str, cell: Cell, reference: Cell, tried: int) -> dict[str, Any]:
    """One cell of the tables, and its distance to the sign of the whole pool."""
    found, header, stated = difference(cell, reference), cell.header, cell.header["mechanism"]
    tests = [100 * run.test for run in cell.runs if run.test is not None]
    below = None if found is None or kind == REFERENCE else -100 * found.mean
    interval = None if below is None or found is None or found.interval is None else found.interval
    return {
        "units": units, "cell": kind, "epsilon": stated.get("epsilon"), "delta": stated.get("delta"),
        "posterior_success": cell.success, "steps": header["steps"], "learning_rate": cell.rate,
        "clip": stated.get("clip"), "tried": tried, "seeds": cell.seeds, "test": tests,
        "mean": statistics.fmean(tests), "sd": statistics.stdev(tests) if len(tests) > 1 else None,
        "selection": 100 * max(run.dev or 0.0 for run in cell.runs if run.seed == FIRST_SEED),
        "below_full_sign": below, "ci95": interval and [-100 * interval[1], -100 * interval[0]],
        "seconds": statistics.fmean(run.seconds or 0.0 for run in cell.runs),
    }  # fmt: skip


def gradient_rows(path: Path) -> list[dict[str, Any]]:
    """The best line of each size, ε and seed set of `gradients.py`, as rows of the tables."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = []
    for units, epsilon in sorted({(line["units"], line["epsilon"]) for line in lines}):
        same = [line for line in lines if (line["units"], line["epsilon"]) == (units, epsilon)]
        first = max((line for line in same if line["seed"] == FIRST_SEED), key=lambda line: line["dev"])
        keys = ("epochs", "learning_rate", "batch_size")
        members = [line for line in same if all(line[key] == first[key] for key in keys)]
        tests = [100 * line["test"] for line in members]
        rows.append({
            "units": units, "cell": f"dp-sgd-{epsilon:g}" if epsilon else "adamw", "epsilon": epsilon or None,
            "steps": round(first["epochs"] * units / first["batch_size"]), "learning_rate": first["learning_rate"],
            "tried": sum(line["seed"] == FIRST_SEED for line in same), "seeds": [line["seed"] for line in members],
            "test": tests, "mean": statistics.fmean(tests), "sd": statistics.stdev(tests) if len(tests) > 1 else None,
            "selection": 100 * first["dev"], "seconds": statistics.fmean(line["seconds"] for line in members),
            "clip": first["clip"], "peak_bytes": max(line["peak"] for line in members),
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy against N, a line a mechanism."""
    sizes = sorted({row["units"] for row in rows})
    known = {(row["cell"], row["units"]): row for row in rows}
    lines = ["| releases | " + " | ".join(f"N = {size:,}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for cell, words in DESCRIBED.items():
        if any((cell, size) in known for size in sizes):
            lines.append(f"| {words} | " + " | ".join(_figure(known.get((cell, size))) for size in sizes) + " |")
    return "\n".join(lines)


def _figure(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    spread = f" ± {row['sd']:.1f}" if row["sd"] is not None else ""
    gap = row.get("ci95")
    below = f" ({row['below_full_sign']:+.1f} [{gap[0]:+.1f}, {gap[1]:+.1f}])" if gap else ""
    return f"{row['mean']:.1f}{spread}{below}"


def settings_table(rows: list[dict[str, Any]]) -> str:
    """What was chosen, and what it took."""
    lines = ["| N | releases | T | η | clip | tried | selection, % | seeds | seconds |", "|---" * 9 + "|"]
    for row in rows:
        clip = "" if row["clip"] is None else f"{row['clip']:.3g}"
        lines.append(
            f"| {row['units']:,} | {DESCRIBED[row['cell']]} | {row['steps']:,} | {row['learning_rate']:g} | {clip} | "
            f"{row['tried']} | {row['selection']:.1f} | {len(row['seeds'])} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def figure(rows: list[dict[str, Any]]) -> bytes:
    """Accuracy against N."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for cell in SHOWN:
            line = sorted((row["units"], row["mean"]) for row in rows if row["cell"] == cell)
            if line:
                style = "--" if cell.startswith("dp") else "-"
                axes.plot(*zip(*line, strict=True), style, marker="o", label=DESCRIBED[cell].replace("`", ""))
        axes.set(xscale="log", xlabel="units in the pool", ylabel="accuracy on the 872 test records, %")
        axes.set_xticks(
            sorted({row["units"] for row in rows}), [f"{n:,}" for n in sorted({row["units"] for row in rows})]
        )
        axes.minorticks_off()
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))

    return png(draw, 9.5, 4.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", help="of the sweeps, one a size")
    parser.add_argument("--gradients", type=Path, help="lines that gradients.py printed")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for directory in given.directories:
        runs, _ = collect([directory])
        best, units = chosen(runs), {run.header["units"] for run in runs}
        if len(units) != 1:
            raise SystemExit(f"{directory}: pools of {sorted(units)} units; expected one size a directory")
        for kind, cell in best.items():
            tried = len({run.cell for run in runs if run.cell.partition(",")[0] == kind and run.seed == FIRST_SEED})
            rows.append(row_of(units.copy().pop(), kind, cell, best[REFERENCE], tried))
    rows += gradient_rows(given.gradients) if given.gradients else []
    gap = [
        {"units": row["units"], "epsilon": row["epsilon"], "points": row["below_full_sign"], "ci95": row["ci95"]}
        for row in rows
        if row["cell"].startswith("dp-sign")
    ]
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "results.json").write_text(json.dumps({"dp_gap": gap, "rows": rows}, indent=1) + "\n")
    if len(given.directories) > 1:
        (given.output / "accuracy.png").write_bytes(figure([row for row in rows if row["cell"] in SHOWN]))
    (given.output / "tables.md").write_text(f"{table(rows)}\n\n{settings_table(rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
