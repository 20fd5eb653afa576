"""How long the mechanism takes a step: from N derivatives to the released bit, without any model.

    python benchmarks/mechanism.py --units 10000 --subsets 128

One row for each pool size: quantising, exact sums and signs, the posterior, the calibration of the channel, and a whole
step of each mechanism (`mi` opens its secret too); then the families of candidates, once a run. Times are medians of
one process; set OPENBLAS_NUM_THREADS=1 for one core.

Then what the mechanism must stay under (`TARGETS`), each in a process of its own that draws random candidates and takes
a few steps of `mi`; its peak of memory is that of the whole process, numpy and scipy included.

The last line is JSON with the same figures (milliseconds a step, seconds a family), and `targets`, each with `met`.
"""

import argparse
import json
import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from written import PERFORMANCE, processor, put

from paczero.mechanism.channels import channel
from paczero.mechanism.pac import MI, ZPL
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.randomness import Coins
from paczero.mechanism.secret import create_secret
from paczero.mechanism.signs import quantise, subset_sums
from paczero.mechanism.subsets import draw_subsets

CLIP = 25.0
TARGET_STEPS = 5


@dataclass(frozen=True)
class Target:
    """What a pool's mechanism must stay under.

    Attributes:
        units, subsets: N and M.
        seconds: of a step.
        bytes: the peak of the process that draws the candidates and steps.
    """

    units: int
    subsets: int
    seconds: float = math.inf
    bytes: float = math.inf


TARGETS = (
    Target(10_000, 128, seconds=0.020),
    Target(10_000, 4_096),
    Target(1_000_000, 128, seconds=2.0, bytes=2**30),
)


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def parts(units: int, subsets: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each part of a contested step."""
    rng = np.random.default_rng(0)
    derivatives = 10 * rng.standard_normal((units, 1))
    membership = draw_subsets(units, subsets, seed=0)
    quantised, _ = quantise(derivatives, clip=CLIP)
    signs = np.where(subset_sums(quantised, membership)[0] >= 0, 1, -1).astype(np.int8)
    posterior = Posterior.uniform(subsets).observed(rng.standard_normal(subsets))
    evidence = rng.standard_normal(subsets)
    row = {
        "quantise": milliseconds(lambda: quantise(derivatives, clip=CLIP), repeats),
        "signs": milliseconds(lambda: subset_sums(quantised, membership), repeats),
        "posterior": milliseconds(lambda: (posterior.minority(signs), posterior.observed(evidence)), repeats),
    }
    for name in ("bit", "gaussian"):
        calibrate = channel(name).calibrate
        row[f"calibrate {name}"] = milliseconds(lambda calibrate=calibrate: calibrate(0.3, 1e-4), repeats)
    return row | steps(derivatives, membership, repeats)


def steps(derivatives: np.ndarray, membership: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds of whole steps, the derivatives given."""
    row = {}
    with tempfile.TemporaryDirectory() as directory:
        secret = Path(directory) / "secret.json"
        create_secret(secret, subsets=membership.shape[1])
        common = {"clip": CLIP, "coins": Coins()}
        budget = {"budget": 0.33, "steps": repeats + 1, "secret": secret}
        for name, mechanism in (
            ("zpl", ZPL(membership, **common)),
            ("mi bit", MI(membership, channel="bit", **common, **budget)),
            ("mi gaussian", MI(membership, channel="gaussian", **common, **budget)),
        ):
            numbers = iter(range(repeats + 1))
            row[f"step {name}"] = milliseconds(
                lambda mechanism=mechanism, numbers=numbers: mechanism.release(next(numbers), derivatives), repeats
            )
    return row


def families(units: int, subsets: int, width: int) -> dict[str, float]:
    """Seconds to draw each family, features of two labels and 64 pilots given."""
    rng = np.random.default_rng(0)
    given = {
        "features": rng.standard_normal((units, width), dtype=np.float32),
        "labels": rng.integers(0, 2, units),
        "pilots": rng.standard_normal((units, 64), dtype=np.float32),
    }
    row = {}
    for family in ("random", "paired", "balanced"):
        start = time.perf_counter()
        draw_subsets(units, subsets, seed=0, family=family, **given)
        row[family] = time.perf_counter() - start
    return row


def whole_life(units: int, subsets: int) -> dict[str, float]:
    """What a process takes that draws random candidates and releases a few contested steps; called in a fresh one."""
    started = time.perf_counter()
    membership = draw_subsets(units, subsets, seed=0)
    drawn = time.perf_counter() - started
    derivatives = 10 * np.random.default_rng(0).standard_normal((units, 1))
    times = []
    with tempfile.TemporaryDirectory() as directory:
        secret = Path(directory) / "secret.json"
        create_secret(secret, subsets=subsets)
        mechanism = MI(membership, clip=CLIP, coins=Coins(), budget=0.33, steps=TARGET_STEPS, secret=secret)
        for step in range(TARGET_STEPS):
            started = time.perf_counter()
            mechanism.release(step, derivatives)
            times.append(time.perf_counter() - started)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"draw_seconds": drawn, "seconds": statistics.median(times), "bytes": peak}


def against(targets: tuple[Target, ...]) -> list[dict[str, Any]]:
    """Each target, what was measured, and whether it was met."""
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        for target in targets:
            found = processes.apply(whole_life, (target.units, target.subsets))
            met = found["seconds"] <= target.seconds and found["bytes"] <= target.bytes
            limits = {"seconds": target.seconds, "bytes": target.bytes}
            most = {name: limit for name, limit in limits.items() if math.isfinite(limit)}
            rows.append({"units": target.units, "subsets": target.subsets, **found, "at_most": most, "met": met})
    return rows


def grid(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table whose cells line up."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = [names, ["-" * (width - 1) + ":" for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def tables(result: Mapping[str, Any]) -> str:
    """Markdown: parts of a step, families, targets."""
    rows = result["milliseconds"]
    names = list(next(iter(rows.values())))
    parts = [[f"{units:,}", *(f"{row[name]:.3f}" for name in names)] for units, row in rows.items()]
    texts = [f"Milliseconds a step, M = {result['subsets']}:", grid(["N", *names], parts)]
    if "family_seconds" in result:
        drawn = result["family_seconds"]
        texts.append(f"Seconds to draw a family, N = {result['family_units']:,}, M = {result['subsets']}:")
        texts.append(grid(list(drawn), [[f"{seconds:.2f}" for seconds in drawn.values()]]))
    if result["targets"]:
        texts.append("Targets, a process each:")
        names = ["N", "M", "draw, s", "step, s", "peak, MiB", "at most"]
        texts.append(grid(names, [_target_row(row) for row in result["targets"]]))
    return "\n\n".join(texts)


def _target_row(row: Mapping[str, Any]) -> list[str]:
    limits = ", ".join(f"{name} {limit:,}" for name, limit in row["at_most"].items()) or "-"
    figures = [f"{row['draw_seconds']:.3f}", f"{row['seconds']:.4f}", f"{row['bytes'] / 2**20:.0f}"]
    return [f"{row['units']:,}", f"{row['subsets']:,}", *figures, limits + ("" if row["met"] else " MISSED")]


def main() -> None:
    """Prints three tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="pool sizes N")
    parser.add_argument("--subsets", type=int, default=128, help="candidates M (default 128)")
    parser.add_argument("--repeats", type=int, default=30, help="timed calls of each part (default 30)")
    parser.add_argument("--family-units", type=int, default=10_000, help="pool size of the families; 0 leaves them out")
    parser.add_argument("--width", type=int, default=576, help="features a unit (default 576, SmolLM2-135M's)")
    parser.add_argument("--without-targets", action="store_true", help="leave out the processes of a million units")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "subsets": arguments.subsets,
        "milliseconds": {units: parts(units, arguments.subsets, arguments.repeats) for units in arguments.units},
        "targets": [] if arguments.without_targets else against(TARGETS),
        "processor": processor(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if arguments.family_units:
        drawn = families(arguments.family_units, arguments.subsets, arguments.width)
        result |= {"family_units": arguments.family_units, "family_seconds": drawn}
    print(tables(result))
    if arguments.write:
        command = " ".join(["python benchmarks/mechanism.py", *sys.argv[1:]])
        put(PERFORMANCE, "mechanism", f"`{command}`, {result['date']}, {result['processor']}:\n\n{tables(result)}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
