"""What a second process gains: two processes of one thread against one process of one thread, in one run.

    python benchmarks/processes.py
    python benchmarks/processes.py --pool 64 --repeats 3 --steps 1
    python benchmarks/processes.py --write

Both take the steps of `step.py` (LoRA on all layers by default) as users do: `PACZeroTrainer.train`, with everything
that belongs to a step. Five processes are there all the time and take turns, `--repeats` times each, after one turn to
warm up:

- one: a run by itself.
- two: one run of two processes, as a launcher starts them.
- ceiling: two runs by themselves at the same time, which never talk to each other. Two cores of a shared machine, with
  one memory, may be less than two.

The last line is JSON: `bits_identical` (journal, transcript, weights of all runs; the exit code is 1 where it is
false), `speedup` of two over one, `ceiling` (steps a second of both over those of one), `speedup_over_ceiling`, and
seconds of a step, medians over the repeats.
"""

import argparse
import csv
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from cases import CASES, cut_texts, lengths, options, peft_settings, settings, texts, where_and_when
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging
from written import PERFORMANCE, put

from paczero import PACZeroTrainer
from paczero.models.adapters import peft_config_from

WAIT = 600  # seconds that a process may take to load, or for one turn


class Paced:
    """An observer that lets the run take so many steps, reports their seconds and waits for the next order."""

    def __init__(self) -> None:
        self.left = 0
        self.began = 0.0

    def order(self) -> None:
        """The next order: a line with the number of steps."""
        self.left = int(sys.stdin.readline() or 0)
        self.began = time.perf_counter()

    def on_step(self, step: Any) -> None:
        self.left -= 1
        if self.left == 0:
            print(json.dumps({"seconds": time.perf_counter() - self.began}), flush=True)
            self.order()

    def on_dev(self, result: Any) -> None:
        """There is no dev set."""


def worker(directory: Path, case: str, model: str, steps: int) -> int:
    """One process: trains in the directory, at the pace of its orders; rank 0 gets them."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    chosen = CASES[case]
    peft = peft_settings(chosen, AutoConfig.from_pretrained(model).num_hidden_layers)
    args = settings(chosen, steps=steps)
    args = type(args)(**{**vars(args), "output_dir": str(directory / "run"), "test_seed": 1})
    pace = Paced()
    trainer = PACZeroTrainer(
        model,
        args,
        str(directory.parent / "pool.csv"),
        peft_config=None if peft is None else peft_config_from(peft),
        observers=[pace],
        progress=lambda what, done, of: None,
    )
    trainer.scorer(trainer.pool, "pool")  # what lies below the trained layers is no part of a step
    if trainer.group.is_main:
        print(json.dumps({"ready": True}), flush=True)
        pace.order()
    trainer.train()
    trainer.group.close()
    if trainer.group.is_main:
        print(json.dumps({"bits": bits(directory / "run", trainer.weights.fingerprint())}), flush=True)
    return 0


def bits(run: Path, weights: str) -> str:
    """All that must be the same."""
    digest = hashlib.sha256(weights.encode())
    for name in ("private/journal.jsonl", "release/transcript.jsonl"):
        digest.update((run / name).read_bytes())
    return digest.hexdigest()


class Run:
    """A run of one or several worker processes."""

    def __init__(self, name: str, processes: int, directory: Path, arguments: Sequence[str]):
        self.name = name
        folder = directory / name
        folder.mkdir()
        command = [sys.executable, __file__, "--worker", str(folder), *arguments]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.processes = []
        for rank in range(processes):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
            launched = {name: str(value) for name, value in world.items()} | {"MASTER_ADDR": "127.0.0.1"}
            self.processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **launched},
                    stdin=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                    text=True,
                )
            )

    def hear(self) -> dict[str, Any]:
        """The next line of the first process."""
        line = self.processes[0].stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"{self.name}: a process ended; its output is above")
        return json.loads(line)

    def take(self, steps: int) -> float:
        """Seconds of a step, over so many."""
        first = self.processes[0]
        first.stdin.write(f"{steps}\n")  # type: ignore[union-attr]
        first.stdin.flush()  # type: ignore[union-attr]
        return self.hear()["seconds"] / steps

    def end(self) -> str:
        """What the run left, once it has published."""
        self.processes[0].stdin.close()  # type: ignore[union-attr]
        found = self.hear()["bits"]
        for process in self.processes:
            process.wait(timeout=WAIT)
        return found

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def measure(case: str, pool: int, repeats: int, steps: int, model: str) -> dict[str, Any]:
    """The JSON line."""
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as both:
        directory = Path(name)
        write_pool(directory / "pool.csv", pool, model)
        arguments = ["--case", case, "--model", model, "--steps", str((repeats + 1) * steps)]
        try:
            for what, processes in (("one", 1), ("two", 2), ("left", 1), ("right", 1)):
                runs.append(Run(what, processes, directory, arguments))
                runs[-1].hear()  # one loads at a time, and then waits
            one, two, left, right = runs
            rounds = []
            for number in range(repeats + 1):
                taken = one.take(steps), two.take(steps), list(both.map(lambda run: run.take(steps), (left, right)))
                print(
                    f"{f'turn {number}' if number else 'warm-up':>8}   one {taken[0]:.3f} s a step   two {taken[1]:.3f}"
                    f"   apart {taken[2][0]:.3f}, {taken[2][1]:.3f}",
                    flush=True,
                )
                rounds.append(taken)
            found = {run.end() for run in runs}
        finally:
            for run in runs:
                run.kill()
    return {"case": case, "bits_identical": len(found) == 1, **ratios(rounds[1:])}


def ratios(rounds: Sequence[tuple[float, float, Sequence[float]]]) -> dict[str, float]:
    """Medians over the turns; each ratio is taken within a turn, since a machine's pace changes between them."""
    median = statistics.median
    speedup = median(one / two for one, two, _ in rounds)
    ceiling = median(sum(one / each for each in apart) for one, _, apart in rounds)
    return {
        "speedup": round(speedup, 3),
        "ceiling": round(ceiling, 3),
        "speedup_over_ceiling": round(speedup / ceiling, 3),
        "seconds_one": round(median(one for one, _, _ in rounds), 4),
        "seconds_two": round(median(two for _, two, _ in rounds), 4),
        "seconds_apart": round(median(median(apart) for _, _, apart in rounds), 4),
    }


def write_pool(path: Path, pool: int, model: str) -> None:
    """The records of `step.py`."""
    rows = cut_texts(texts(), lengths(pool), AutoTokenizer.from_pretrained(model))
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)


def table(result: dict[str, Any]) -> str:
    """The figures as docs/performance.md has them."""
    rows = [
        ("one process", result["seconds_one"], "1"),
        ("two processes", result["seconds_two"], f"{result['speedup']:.2f}"),
        ("two runs that never talk", result["seconds_apart"], f"{result['ceiling']:.2f}"),
    ]
    body = "\n".join(f"| {name} | {seconds:.3f} | {gain} |" for name, seconds, gain in rows)
    share = result["speedup_over_ceiling"]
    command = f"python benchmarks/processes.py --case {result['case']} --pool {result['pool']}"
    return (
        f"| one thread each | seconds a step | steps a second, of one |\n|---|---|---|\n{body}\n\n"
        f"Two processes reach {share:.0%} of what these two cores give; bits identical: "
        f"{'yes' if result['bits_identical'] else 'NO'}.\n`{command}` on {result['processor']}, {result['date']}."
    )


def main() -> int:
    """Prints the turns as they come and the JSON line at the end."""
    parser = options(__doc__, "case", "pool", "model")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns of each (default 7)")
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn (default 2)")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        return worker(given.worker, given.case, given.model, given.steps)
    result = measure(given.case, given.pool, given.repeats, given.steps, given.model)
    result |= {"pool": given.pool, "repeats": given.repeats, "steps": given.steps, "model": Path(given.model).name}
    result |= where_and_when() | {"threads": 1}
    if given.write:
        put(PERFORMANCE, "processes", table(result))
    print(json.dumps(result))
    return 0 if result["bits_identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
