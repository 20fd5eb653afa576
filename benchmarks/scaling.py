"""How time and memory of a step grow with the pool, the candidates, the directions, the records' length, the weights.

    python benchmarks/scaling.py --write
    python benchmarks/scaling.py --quick --axes pool length

A small random Llama, made from its config, and random tokens; steps are taken by the real loop, with journal and
transcript. Along each axis one number grows and the rest stays. Each point is a process of its own, forked from one
that has imported everything and run nothing; its memory is how far above that it is at most, from the moment that the
model is there (which, with the records, is included).

`step` is the median of whole steps by the clock and by the processor's seconds, which others on the machine disturb
less; `release` is the mechanism's part of them. Below the figures of an axis stands the exponent with which they grow
over its upper half: 1 is a straight line. It is that of what comes on top of the axis' first point, where fixed costs
lie (some 30 MiB of memory are libraries that wake up, and their buffers); where a figure does not even double along the
axis, it is that of the figure itself, and about 0.

`--write` puts the table into docs/performance.md and the plot beside it. The last line is JSON.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import TASK, seconds, where_and_when
from plain import resident
from transformers import LlamaConfig, LlamaForCausalLM
from written import PERFORMANCE, put

from paczero.config import MechanismConfig, PACZeroConfig, TaskConfig
from paczero.data.dataset import Dataset
from paczero.data.encoding import EncodedDataset
from paczero.data.tasks.base import Encoded
from paczero.data.tasks.registry import task_of
from paczero.mechanism.journal import Journal
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.models.adapters import attach
from paczero.training.factory import make_mechanism, make_objective, make_scorer, make_weights, mechanism_header
from paczero.training.loop import Loop, Schedule, Step
from paczero.training.state import RunState

PLOT = PERFORMANCE.with_name("scaling.png")
FIGURES = ("step", "processor", "release", "bytes")
PRELOADED = ["torch", "transformers", "peft", "paczero.assembly", "paczero.optim.numba_kernels", "scaling"]


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes:
        records: N, each a unit of its own.
        subsets: M.
        directions: K.
        length: tokens of a record.
        vocabulary: rows of the embedding. All weights train, so this makes the trained weights many while the passes
            over the pool stay the same.
        steps: timed steps, after one to warm up.
    """

    records: int = 500
    subsets: int = 128
    directions: int = 1
    length: int = 8
    vocabulary: int = 512
    steps: int = 3


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        field: of `Point`.
        what: in words.
        values: along the axis; `quick` in tests.
        base: the rest.
    """

    field: str
    what: str
    values: Sequence[int]
    quick: Sequence[int]
    base: Point = Point()


AXES = {
    "pool": Axis(
        "records",
        "records N",
        (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000),
        (40, 80, 160),
        Point(length=4, steps=2),
    ),
    "candidates": Axis(
        "subsets", "candidates M", (2, 8, 32, 128, 512, 2_048, 4_096), (2, 8, 32), Point(records=2_000, length=2)
    ),
    "directions": Axis("directions", "directions K", (1, 2, 4, 8, 16, 32, 64), (1, 2, 4), Point(records=100)),
    "length": Axis("length", "tokens of a record", (8, 16, 32, 64, 128, 256, 512), (4, 8, 16), Point(records=64)),
    "weights": Axis(
        "vocabulary",
        "rows of a trained embedding of width 64",
        (1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000),
        (100, 200, 400),
        Point(records=64),
    ),
}


def build(point: Point) -> tuple[EncodedDataset, torch.nn.Module, dict[str, torch.nn.Parameter]]:
    """Random records and a random model of two layers of width 64."""
    chance = np.random.default_rng(0)
    count = point.records
    targets = np.arange(count) % 2
    encoded = Encoded(chance.integers(2, 100, (count, point.length)).tolist(), [[0], [1]], targets)
    names = tuple(map(str, range(count)))
    pool = Dataset([], targets, np.arange(count), count, names, (), ("0", "1"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=point.vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    model, trained = attach(LlamaForCausalLM(config).eval(), seed=0)
    return EncodedDataset(pool, encoded, task_of(TaskConfig())), model, trained


def run(point: Point, threads: int) -> dict[str, float]:
    """Seconds of a step, of its release, and the bytes that this process grew by."""
    torch.set_num_threads(threads)
    before = resident("VmRSS")
    args = PACZeroConfig(
        max_steps=1 + point.steps,
        directions=point.directions,
        task=TASK,
        learning_rate=1e-5,
        restore="arithmetic",
        mechanism=MechanismConfig(subsets=point.subsets),
    )
    records, model, trained = build(point)
    with contextlib.suppress(OSError):  # elsewhere than on Linux the peak is that of the whole life
        Path("/proc/self/clear_refs").write_text("5")
    weights = make_weights(trained, args)
    scorer = make_scorer(model, records, args, first_layer=0, cache=None)
    membership = draw_subsets(point.records, point.subsets, seed=0)
    watch = _Steps()
    releases: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        mechanism = make_mechanism(
            args,
            mechanism_header(args, len(membership)),
            membership,
            Path(folder) / "secret.json",
            units=len(membership),
        )
        released = mechanism.release

        def timed(*given: Any, **named: Any) -> Any:
            answer: list[Any] = []
            releases.append(seconds(lambda: answer.append(released(*given, **named))))
            return answer[0]

        mechanism.release = timed  # type: ignore[method-assign]
        header = {
            "format": FORMAT,
            "mechanism": {"name": "zpl"},
            "directions": args.directions,
            "steps": args.max_steps,
        }
        Loop(
            make_objective(scorer, records),
            weights,
            RunState(
                mechanism,
                Journal.create(Path(folder) / "journal.jsonl", {}),
                Transcript.create(Path(folder) / "transcript.jsonl", header),
            ),
            schedule=Schedule(args.max_steps, args.directions, args.learning_rate_at),
            observers=[watch],
        ).run()
    grown = resident("VmHWM") - before
    return {
        "step": statistics.median(watch.seconds[1:]),
        "processor": statistics.median(watch.worked[1:]),
        "release": statistics.median(releases[1:]),
        "bytes": grown,
        "trained": weights.elements,
    }


@dataclass
class _Steps:
    """An observer that notes how long steps take: seconds, and the processor's."""

    seconds: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    _mark: float = field(default_factory=time.process_time)

    def on_step(self, step: Step) -> None:
        self.seconds.append(step.seconds)
        self.worked.append(time.process_time() - self._mark)
        self._mark = time.process_time()

    def on_dev(self, result: object) -> None:
        """There is no dev set."""


def exponent(values: Sequence[float], figures: Sequence[float]) -> float:
    """How figures grow over the upper half of an axis: p of x^p, by least squares on logarithmic axes.

    Above the first point where they double at least, so that a line through any point has 1; otherwise as they are.
    """
    x, y = np.array(values, dtype=np.float64), np.array(figures, dtype=np.float64)
    if y[-1] >= 2 * y[0]:
        x, y = x - x[0], y - y[0]
    upper = np.arange(len(x)) >= max(1, len(x) // 2)
    upper &= y > 0
    return float(np.polyfit(np.log(x[upper]), np.log(y[upper]), 1)[0])


def measure(axes: Sequence[str], *, quick: bool, threads: int) -> dict[str, Any]:
    """All points of these axes, each in a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    result: dict[str, Any] = {}
    with context.Pool(1, maxtasksperchild=1) as processes:
        for name in axes:
            axis = AXES[name]
            values = list(axis.quick if quick else axis.values)
            rows = []
            for value in values:
                started = time.perf_counter()
                row = processes.apply(run, (replace(axis.base, **{axis.field: value}), threads))
                took = time.perf_counter() - started
                print(
                    f"{axis.what:<40} {value:>9,}   step {row['step']:8.4f} s   release {1e3 * row['release']:8.3f} ms"
                    f"   {row['bytes'] / 2**20:8.1f} MiB   ({took:.0f} s in all)",
                    flush=True,
                )
                rows.append(row)
            xs = [row["trained"] for row in rows] if name == "weights" else values
            exponents = {key: round(exponent(xs, [row[key] for row in rows]), 3) for key in FIGURES}
            result[name] = {"values": xs, "rows": rows, "exponents": exponents, "base": asdict(axis.base)}
    return result


def titles(name: str) -> str:
    """What an axis is called."""
    return "trained weights" if name == "weights" else AXES[name].what


def tables(measured: Mapping[str, Any]) -> str:
    """Markdown, a table an axis."""
    lines: list[str] = []
    for name, axis in measured.items():
        fixed = {key: value for key, value in axis["base"].items() if key not in (AXES[name].field, "steps")}
        rest = ", ".join(f"{key} {value:,}" for key, value in fixed.items())
        exponents = axis["exponents"]
        lines += [
            f"**{titles(name)}** ({rest})",
            "",
            f"| {titles(name)} | step, s | processor, s | release, ms | memory, MiB |",
        ]
        lines.append("|--:|--:|--:|--:|--:|")
        for value, row in zip(axis["values"], axis["rows"], strict=True):
            times = f"{row['step']:.4f} | {row['processor']:.4f} | {1e3 * row['release']:.3f}"
            lines.append(f"| {value:,} | {times} | {row['bytes'] / 2**20:.1f} |")
        lines += ["| exponent | " + " | ".join(f"{exponents[key]:.2f}" for key in FIGURES) + " |", ""]
    return "\n".join(lines)


def plot(measured: Mapping[str, Any], path: Path) -> None:
    """A panel an axis for time and one for memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(measured), 6), layout="constrained")
    panels = figure.subplots(2, len(measured), squeeze=False, sharex="col", sharey="row")
    for column, (name, axis) in enumerate(measured.items()):
        upper, lower = panels[0][column], panels[1][column]
        for key, color in (("step", "tab:blue"), ("release", "tab:orange")):
            figures = [row[key] for row in axis["rows"]]
            upper.loglog(
                axis["values"], figures, "o-", color=color, label=f"{key}, exponent {axis['exponents'][key]:.2f}"
            )
        memory = [row["bytes"] / 2**20 for row in axis["rows"]]
        lower.loglog(
            axis["values"], memory, "s-", color="tab:green", label=f"exponent {axis['exponents']['bytes']:.2f}"
        )
        lower.set_xlabel(titles(name))
        for panel in (upper, lower):
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8)
    panels[0][0].set_ylabel("seconds a step")
    panels[1][0].set_ylabel("MiB above an empty process")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Prints points as they come, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=sorted(AXES), default=list(AXES), help="which (default all)")
    parser.add_argument("--quick", action="store_true", help="a few small points: does it work?")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's threads")
    parser.add_argument("--plot", type=Path, help="where the plot goes (a png)")
    parser.add_argument("--write", action="store_true", help="put table and plot into docs/")
    arguments = parser.parse_args()
    measured = measure(arguments.axes, quick=arguments.quick, threads=arguments.threads)
    torch.set_num_threads(arguments.threads)
    where = where_and_when()
    if arguments.write:
        command = " ".join(["python benchmarks/scaling.py", *sys.argv[1:]])
        text = f"`{command}`, {where['date']}, {where['processor']}, {where['threads']} threads:\n\n{tables(measured)}"
        put(PERFORMANCE, "scaling", text)
        plot(measured, PLOT)
    if arguments.plot is not None:
        plot(measured, arguments.plot)
    print(json.dumps({"axes": measured, **where}))


if __name__ == "__main__":
    main()
