"""`paczero sweep FILE`: a grid of settings, each with several seeds, as runs of `paczero train`.

$ paczero sweep paper/sweeps/clip --data.train train.tsv --output_dir runs/clip
"""

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from paczero.cli.console import Live, warn
from paczero.cli.parser import SettingsParser, settings_parser
from paczero.distributed.base import terminable
from paczero.errors import PACZeroError
from paczero.experiments.composition import Searched, searched
from paczero.experiments.sweep import Planned, condition_of, plan, read_sweep, state_of, summary_table
from paczero.experiments.workers import Workers

_ABOUT = """
Trains every combination of a grid with every seed, several at once. Each is a run of `paczero train` in
OUTPUT_DIR/CELL/seed-SEED with its log beside it. Finished runs are skipped, interrupted runs go on, and a failed run
stops no other. The file is a recipe with these keys beside its settings:

  cells: {zpl: {mechanism.name: zpl}, mezo: {mechanism: {name: none, family: random}, learning_rate: 1e-2}}
  grid: {learning_rate: [1e-3, 3e-3], mechanism.subsets: [16, 128]}     every combination, for each cell
  seeds: [0, 1, 2]
  jobs: 2                                                              at once; the cores are shared out

Settings given as flags hold for all runs. OUTPUT_DIR/cache keeps the hidden states that all runs share. They are the
records' text in another form: remove them when the sweep is done.

If you keep the best run on a pool, the promises of all runs add up; a line on standard error states the sum. Search on
other records, or state the sum. That each run draws its own secret does not change this.

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
    runs = [item.settings.args for item in planned]
    mechanisms = [args.mechanism for args in runs if args.test_seed is None]
    if (warning := searched([Searched(used.name, used.budget, used.epsilon) for used in mechanisms])) is not None:
        warn(warning)
    if namespace.dry_run:
        for item in planned:
            print(f"{condition_of(item):<12} {item.directory}")
        return 0
    waiting = [item for item in planned if states[item.name] != "finished"]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with terminable(), Live() as live, contextlib.closing(Workers(threads)) as workers:
        failed = _work(workers, waiting, len(planned), jobs, live)
    print(summary_table(planned))
    for item in failed:
        print(f"failed: {item.name} (its log: {item.log})", file=sys.stderr)
    return 1 if failed else 0


def _work(workers: Workers, waiting: Sequence[Planned], total: int, jobs: int, live: Live) -> list[Planned]:
    """Runs all that wait; returns those that failed."""
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
