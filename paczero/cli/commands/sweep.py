"""`paczero sweep FILE`: a grid of settings, each with several seeds, as runs of `paczero train`.

$ paczero sweep paper/sweeps/clip --data.train train.tsv --output_dir runs/clip
"""

import contextlib
import os
import statistics
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from paczero.cli.console import Live, warn
from paczero.cli.parser import SettingsParser, settings_parser
from paczero.distributed.base import terminable
from paczero.errors import PACZeroError
from paczero.experiments.composition import Searched, searched
from paczero.experiments.sweep import Planned, condition_of, plan, read_sweep, state_of
from paczero.experiments.workers import Workers
from paczero.report.summary import Summary, read_summary, summary_path
from paczero.run_directory import RunDirectory

_ABOUT = """
Trains every combination of a grid with every seed, several at once, each as a run of `paczero train` in
OUTPUT_DIR/CELL/seed-SEED with its log beside it. What is finished is skipped, what was interrupted goes on, and what
fails stops nothing else. The file is a recipe with these keys beside its settings:

  cells: {zpl: {mechanism.name: zpl}, mezo: {mechanism: {name: none, family: random}, learning_rate: 1e-2}}
  grid: {learning_rate: [1e-3, 3e-3], mechanism.subsets: [16, 128]}     every combination, for each cell
  seeds: [0, 1, 2]
  jobs: 2                                                              at once; the cores are shared out

Settings given as flags hold for all runs. OUTPUT_DIR/cache keeps what all runs share, hidden states: the records' text
in another form, to be removed when the sweep is done.

Keeping the best run of a pool costs what all of them may tell, which a line on standard error adds up: search on other
records, or state the sum. Each run draws a secret of its own; that changes nothing of it.

  paczero sweep my.yaml --dry_run
  paczero sweep my.yaml --only zpl --jobs 1
"""


def parser() -> SettingsParser:
    made = settings_parser("sweep", _ABOUT, usage="FILE [--KEY VALUE ...] [OPTIONS]", config=False)
    made.add_argument(
        "file", type=str, metavar="FILE", help="the sweep's YAML file, or the name of a sweep among the recipes"
    )
    group = made.add_argument_group("The sweep itself (flags only)")
    group.add_argument("--jobs", type=int, metavar="N", help="runs at once; the file's where left out, else 1")
    group.add_argument("--only", type=str, action="append", metavar="CELL", help="these cells only; may be repeated")
    group.add_argument("--dry_run", action="store_true", help="list the runs and what state they are in, and stop")
    return made


def run(namespace: Namespace) -> int:
    sweep = read_sweep(namespace.file, namespace.flags)
    planned = plan(sweep, only=namespace.only)
    jobs = sweep.jobs if namespace.jobs is None else namespace.jobs
    if jobs < 1:
        raise PACZeroError(f"--jobs: {jobs} was given; expected 1 or more")
    states = {item.name: state_of(item) for item in planned}  # refuses changed settings before anything runs
    if (owed := searched([_asked(item) for item in planned if item.settings.args.test_seed is None])) is not None:
        warn(owed)
    if namespace.dry_run:
        for item in planned:
            print(f"{condition_of(item):<12} {item.directory}")
        return 0
    waiting = [item for item in planned if states[item.name] != "finished"]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with terminable(), Live() as live, contextlib.closing(Workers(threads)) as workers:
        failed = _work(workers, waiting, len(planned), jobs, live)
    print(table(planned))
    for item in failed:
        print(f"failed: {item.name} (its log: {item.log})", file=sys.stderr)
    return 1 if failed else 0


def _asked(item: Planned) -> Searched:
    mechanism = item.settings.args.mechanism
    return Searched(mechanism.name, mechanism.budget, mechanism.epsilon)


def _work(workers: Workers, waiting: Sequence[Planned], total: int, jobs: int, live: Live) -> list[Planned]:
    """Runs all that waits; returns what failed."""
    failed: list[Planned] = []
    queue, done = list(waiting), total - len(waiting)
    while queue or workers.busy:
        while queue and len(workers.busy) < jobs:
            workers.start(queue.pop(0))
        names = ", ".join(item.name for item in workers.busy)
        live.show(f"{done} of {total} runs finished, {len(queue)} wait, {len(failed)} failed; now {names}")
        for item, code in workers.ended():
            done += code == 0
            if code:
                failed.append(item)
    return failed


def table(planned: Sequence[Planned]) -> str:
    """Mean and standard deviation of each cell's figure over its finished seeds, as Markdown.

    It is the test set's, or the dev set's where a cell has no test set; empty where it has neither.
    """
    cells: dict[str, list[Any]] = {}
    for item in planned:
        directory = RunDirectory(item.directory)
        if directory.finished and summary_path(directory).exists():
            cells.setdefault(item.cell, []).append(read_summary(directory))
    lines = ["| cell | seeds | figure | of | unanimous | seconds |", "|---|---|---|---|---|---|"]
    for cell, summaries in cells.items():
        of, figures = _figures(summaries)
        percent = bool(figures) and summaries[0].metric != "loss"
        agreed = [s.unanimity for s in summaries if s.unanimity is not None]
        spread = f"{_spread(figures, 100)} %" if percent else _spread(figures, 1)
        seconds = statistics.mean(s.seconds for s in summaries)
        lines.append(f"| {cell} | {len(summaries)} | {spread} | {of} | {_spread(agreed, 1)} | {seconds:.0f} |")
    return "\n".join(lines)


def _figures(summaries: Sequence[Summary]) -> tuple[str, list[float]]:
    """Which set's figures these are, and the figures."""
    tested = [s.test_after[s.metric] for s in summaries if s.test_after is not None]
    if len(tested) == len(summaries):
        return "test", tested
    chosen = [s.dev_after for s in summaries if s.dev_after is not None]
    return ("dev", chosen) if len(chosen) == len(summaries) else ("", [])


def _spread(values: Sequence[float], scale: float) -> str:
    if not values:
        return ""
    mean = f"{scale * statistics.mean(values):.2f}"
    return f"{mean} ± {scale * statistics.stdev(values):.2f}" if len(values) > 1 else mean
