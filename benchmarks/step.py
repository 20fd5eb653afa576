"""How long a whole training step takes: against the usual way, its own floor and plain inference, in one run.

    python benchmarks/step.py --case lora-all
    python benchmarks/step.py --case full --pool 128 --threads 2 --repeats 5 --reference-repeats 2
    python benchmarks/step.py --case lora-last2 --without reference memory --write

A step is everything: directions, two passes over the pool, signs of all candidates, the ZPL release, journal and
transcript (in a temporary directory, each written through to the disk), the update. It is taken by the real loop,
`paczero.training.loop.Trainer`; after each, the others take their turn on the same model, weights, records and
threads, and the weights are put back. Figures are medians over the repeats, after one round to warm up.

- reference: a step of the usual way (`reference.py`). It takes minutes, so it has repeats of its own and no warm-up.
  First both are given the same direction and must find the same derivatives for all records; the exit code is 1 where
  they do not.
- floor: the matrix products that two evaluations cannot do without (`floor.py`).
- plain: two plain transformers passes over the records (`plain.py`), the adapter taken out.
- memory: peaks of two fresh processes (`memory.py`).
- table: where the time of a step goes (`parts.py`), from as many further steps that are watched.

The last line is JSON. `speedup_vs_reference`, `over_floor`, `over_plain_inference`, `memory_over_inference` and
`padding` are the ratios; beside them seconds, token positions, and what else the figures depend on. `--write` puts
table and line into docs/performance.md.
"""

import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, Bench, build, lengths, options, seconds, settings, texts, train, where_and_when
from floor import Floor
from memory import peaks
from parts import Spent, table, where_time_goes
from plain import PlainInference
from reference import UsualWay
from torch import nn
from written import PERFORMANCE, put

from paczero.engine.frozen_modules import ModuleSlot, replaced
from paczero.errors import PACZeroError
from paczero.models.layers import plain
from paczero.training.loop import Step

# A loss is right to about 1e-5 here: float32 carries logits of about 20 to 2e-6, and thirty layers add up several such
# roundings, another way in batches of another shape. A derivative divides the difference of two by 2μ = 2e-3, which
# makes about 1e-2; that much is seen, and five times as much allowed. Derivatives themselves are of the order of 1, and
# a wrong position, mask, label or sign changes them by as much.
TOLERANCE_OF_LOSS = 5e-5
PARTS = ("reference", "floor", "plain", "memory", "table")


@dataclass
class Side:
    """An implementation that is timed after each step of ours.

    Attributes:
        run: (step, learning rate) -> None.
        repeats: the number of timed turns.
        warm_up: whether an untimed turn comes first.
        took, worked: seconds of each turn by the wall clock, and of the processor (all threads together).
    """

    run: Callable[[int, float], Any]
    repeats: int
    warm_up: bool = True
    took: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of a turn."""
        return statistics.median(self.took)

    def turn(self, step: int, rate: float) -> None:
        """Takes a turn after this step, if there is one left."""
        first = 0 if self.warm_up else 1
        if not first <= step <= self.repeats:
            return
        mark = time.process_time()
        took = seconds(lambda: self.run(step, rate))
        if step > 0:
            self.took.append(took)
            self.worked.append(time.process_time() - mark)


@dataclass
class Rounds:
    """Lets the others take their turns after each step of ours; an observer of the loop.

    Attributes:
        bench: the run.
        others: by name.
        ours: seconds of each step, the first left out.
        worked: the processor's seconds, all threads together; others on the machine disturb them less.
    """

    bench: Bench
    others: dict[str, Side]
    ours: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    _mark: float = field(default_factory=time.process_time)

    def on_step(self, step: Step) -> None:
        if step.index > 0:
            self.ours.append(step.seconds)
            self.worked.append(time.process_time() - self._mark)
        for name, side in self.others.items():
            before = self.bench.weights.snapshot() if name == "reference" else None
            side.turn(step.index, step.rate)
            if before is not None:
                self.bench.weights.load(before)
        line = [
            f"{name} {side.took[-1]:8.3f} s" for name, side in self.others.items() if len(side.took) == step.index > 0
        ]
        what = "warm-up" if step.index == 0 else f"step {step.index}"
        print("   ".join([f"{what:>8}   paczero {step.seconds:8.3f} s", *line]), flush=True)
        self._mark = time.process_time()

    def on_dev(self, result: object) -> None:
        """There is no dev set."""


def usual_way(bench: Bench, log: Path) -> UsualWay:
    """The reference over the same model, records and candidates."""
    encoded, clip = bench.records.encoded, bench.args.mechanism.clip
    return UsualWay(
        bench.model,
        bench.weights.parameters,
        encoded.prompts,
        encoded.candidates,
        encoded.targets,
        bench.membership,
        mu=bench.args.mu,
        clip=clip if clip is not None else np.inf,
        seed=bench.args.seed,
        log=log,
    )


def compare(bench: Bench, usual: UsualWay) -> dict[str, float]:
    """Both sides' derivatives of all records along the same direction."""
    weights, args = bench.weights, bench.args
    before = weights.snapshot()
    ours = bench.objective.derivatives(weights, 0, 1).values[:, 0]
    weights.load(before)
    stream = {"seed": weights.seed, "step": 0, "k": 0, "purpose": weights.purpose}
    z = {
        name: weights.law.draw(name=name, start=0, stop=parameter.numel(), **stream)
        for name, parameter in weights.parameters.items()
    }
    theirs = usual.derivatives(usual.given(z))
    weights.load(before)
    return {
        "max_derivative_difference": float(np.abs(ours - theirs).max()),
        "derivative_tolerance": TOLERANCE_OF_LOSS / args.mu,
        "derivative_rms": float(np.sqrt(np.mean(theirs**2))),
    }


@contextlib.contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """The plain model inside: adapted layers give way to those that they wrap."""
    adapted = [
        ModuleSlot(parent, name)
        for parent in plain(model).modules()
        for name, child in parent.named_children()
        if hasattr(child, "base_layer")
    ]
    with replaced(adapted, [site.module.base_layer for site in adapted]):
        yield


def sides(
    bench: Bench, usual: UsualWay, wanted: Sequence[str], repeats: int, reference_repeats: int
) -> dict[str, Side]:
    """Who takes turns with us."""
    inference, floor = PlainInference(plain(bench.model), bench.sequences), Floor(bench)

    def infer(step: int, rate: float) -> None:
        with without_adapter(bench.model):
            inference.run()

    all_sides = {
        "floor": Side(lambda step, rate: floor.run(), repeats),
        "plain": Side(infer, repeats),
        "reference": Side(usual.step, min(reference_repeats, repeats), warm_up=False),
    }
    return {name: side for name, side in all_sides.items() if name in wanted}


def ratios(bench: Bench, rounds: Rounds, usual: UsualWay) -> dict[str, Any]:
    """The ratios and times of all rounds."""
    scorer, others = bench.objective.scorer, rounds.others
    ours = statistics.median(rounds.ours)
    found: dict[str, Any] = {}
    pool_positions = sum(batch.positions for batch in scorer.batches)
    if "reference" in others:
        found["speedup_vs_reference"] = round(others["reference"].median / ours, 3)
    if "floor" in others:
        found["over_floor"] = round(ours / others["floor"].median, 4)
    if "plain" in others:
        found["over_plain_inference"] = round(ours / others["plain"].median, 4)
    found |= {
        "padding": round(1 - sum(batch.tokens for batch in scorer.batches) / pool_positions, 4),
        "token_ratio": round(usual.positions / (2 * pool_positions), 3),
        "tokens_paczero": 2 * pool_positions,
        "tokens_reference": usual.positions,
        "seconds_paczero": round(ours, 4),
        "cpu_seconds_paczero": round(statistics.median(rounds.worked), 4),
    }
    for name, side in others.items():
        found[f"seconds_{name}"] = round(side.median, 4)
        found[f"cpu_seconds_{name}"] = round(statistics.median(side.worked), 4)
    return found


def spent_on(bench: Bench, directory: Path, repeats: int) -> tuple[Spent, dict[str, float]]:
    """Where a step's time goes, and the floor's beside it; more steps of the same run's parts."""
    floor, floors = Floor(bench), list[dict[str, float]]()
    floor.run()
    bench.args = settings(bench.case, steps=1 + 2 * repeats)
    bench.header = {**bench.header, "steps": bench.args.max_steps}
    spent = where_time_goes(bench, directory, between=lambda: floors.append(floor.run()))
    return spent, {part: statistics.median(one[part] for one in floors) for part in floors[0]}


def measure(name: str, pool: int, repeats: int, model: str, wanted: Sequence[str], reference_repeats: int) -> dict:
    """The JSON line of one case; the table is printed."""
    case = CASES[name]
    bench = build(case, texts(), lengths(pool), model, settings(case, steps=1 + repeats))
    print(f"{name}: {case.what}; {pool} records, M = {len(bench.membership[0])}, {torch.get_num_threads()} threads")
    result: dict[str, Any] = {"case": name}
    with tempfile.TemporaryDirectory() as folder:
        usual = usual_way(bench, Path(folder) / "usual.jsonl")
        equality: dict[str, float] = {}
        if "reference" in wanted:
            equality = compare(bench, usual)
            print("same direction: derivatives of {2:.3g} rms, at most {0:.2g} apart".format(*equality.values()))
        rounds = Rounds(bench, sides(bench, usual, wanted, repeats, reference_repeats))
        train(bench, Path(folder), [rounds])
        result |= ratios(bench, rounds, usual) | equality
    if "floor" in wanted:
        result["floor_gflop"] = round(2e-9 * sum(Floor(bench).multiplications.values()), 2)
    if "memory" in wanted:
        result |= peaks(name, bench.records.dataset.rows, bench.sequences, model, steps=3)
    result |= {"pool": pool, "subsets": bench.args.mechanism.subsets, "repeats": repeats}
    result |= {"micro_batches": len(bench.objective.scorer.batches), "model": Path(model).name, **where_and_when()}
    if "table" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            spent, floor = spent_on(bench, Path(folder), repeats)
        result["table"] = table(spent, floor)
    return result


def written(result: dict[str, Any], command: str) -> str:
    """What docs/performance.md has of a case."""
    shown = {name: value for name, value in result.items() if name != "table"}
    lines = [f"`{command}`, {result['date']}, {result['processor']}, {result['threads']} threads:", ""]
    if "table" in result:
        lines += [result["table"], ""]
    return "\n".join([*lines, "```json", json.dumps(shown), "```"])


def main() -> int:
    """Prints the steps as they come, the table, and the JSON line at the end."""
    parser = options(__doc__, "case", "pool", "threads", "model")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--reference-repeats", type=int, default=1, help="timed steps of the reference (default 1)")
    parser.add_argument("--without", nargs="+", choices=PARTS, default=[], help="parts to leave out")
    parser.add_argument("--write", action="store_true", help="put table and line into docs/performance.md")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.reference_repeats < 1:
        parser.error("--repeats, --reference-repeats: expected 1 or more")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    wanted = [part for part in PARTS if part not in arguments.without]
    try:
        result = measure(
            arguments.case, arguments.pool, arguments.repeats, arguments.model, wanted, arguments.reference_repeats
        )
    except PACZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        put(
            PERFORMANCE,
            f"step {arguments.case}",
            written(result, " ".join(["python benchmarks/step.py", *sys.argv[1:]])),
        )
    if "table" in result:
        print(f"\n{result.pop('table')}\n")
    print(json.dumps(result))
    return 0 if result.get("max_derivative_difference", 0.0) <= result.get("derivative_tolerance", 0.0) else 1


if __name__ == "__main__":
    sys.exit(main())
