"""How fast directions are made and weights moved, against a plain copy of the same bytes, and what memory it takes.

    python benchmarks/directions.py
    python benchmarks/directions.py --kernel off
    python benchmarks/directions.py --elements 4000000 --threads 1 --repeats 3

Parameters have the shapes of SmolLM2-135M, cut to `--elements`; Gaussian directions are timed on a sixteenth of them.
GB/s counts the weights' own bytes once, so a copy that moves each byte twice and a shift in place compare as they are
waited for. `ratio` is the plain copy's time over the row's, taken in the same run, `CPU ratio` the same of processor
time (all threads together), which others on the machine disturb less; times are the least of the repeats. `MiB` is how
far the process grew above what it held before: a shift or update may take buffers of a fixed size, never a copy of the
weights.

Then small sets: milliseconds for both sides, restore and update of LoRA's many matrices and of one whole layer.
The last line is JSON.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paczero.optim.directions import direction_law
from paczero.optim.kernels import describe
from paczero.optim.parameters import PerturbedParameters, fingerprint_tensors

PIECE = 2**20
GAUSSIAN_SHARE = 16
LAYER = [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536), (576,), (576,)]
SHAPES = [(49152, 576), *(LAYER * 30), (576,)]
SETS = {"LoRA": [(8, 576), (576, 8), (8, 576), (192, 8)] * 30, "last layer": LAYER}

Row = dict[str, float]


def parameters(elements: int, shapes: list[tuple[int, ...]]) -> dict[str, nn.Parameter]:
    """Random float32 parameters of these shapes until so many elements are there; the last one is cut."""
    made: dict[str, nn.Parameter] = {}
    for number, shape in enumerate(shapes):
        if elements <= 0:
            break
        size = int(np.prod(shape))
        value = torch.randn(min(size, elements)) * 0.05
        made[f"p{number:03d}"] = nn.Parameter(value.view(shape) if size <= elements else value)
        elements -= size
    return made


def resident(field: str) -> int:
    """Bytes of memory that the process holds (VmRSS) or has held at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def measured(work: Callable[[], Any], size: int, repeats: int) -> Row:
    """Least seconds, the weights' GB/s and the peak of extra memory of some work on `size` bytes of weights."""
    work()
    with contextlib.suppress(OSError):  # elsewhere than on Linux the peak is that of the whole life
        Path("/proc/self/clear_refs").write_text("5")
    before, times, work_times = resident("VmRSS"), [], []
    for _ in range(repeats):
        started, mark = time.perf_counter(), time.process_time()
        work()
        times.append(time.perf_counter() - started)
        work_times.append(time.process_time() - mark)
    return {
        "seconds": min(times),
        "cpu_seconds": min(work_times),
        "gb_s": size / min(times) / 1e9,
        "cpu_gb_s": size / min(work_times) / 1e9,
        "extra_mib": (resident("VmHWM") - before) / 2**20,
    }


def copies(trained: dict[str, nn.Parameter], repeats: int) -> dict[str, Row]:
    """The references: the same bytes copied parameter by parameter."""
    sources = [parameter.detach() for parameter in trained.values()]
    targets = [torch.empty_like(source) for source in sources]
    size = sum(source.numel() * source.element_size() for source in sources)

    def torch_kernel() -> None:
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)

    def by_numpy() -> None:
        for source, target in zip(sources, targets, strict=True):
            np.copyto(target.numpy(), source.numpy())

    return {"copy (torch)": measured(torch_kernel, size, repeats), "copy (numpy)": measured(by_numpy, size, repeats)}


def moves(trained: dict[str, nn.Parameter], law: str, repeats: int, kernel: str) -> dict[str, Row]:
    """Directions alone, one shift, the update, and all that a step does to the weights."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained.values())
    made = {
        restore: PerturbedParameters(trained, law=direction_law(law), seed=0, mu=1e-3, restore=restore, kernel=kernel)
        for restore in ("arithmetic", "copy")
    }
    arithmetic = made["arithmetic"]

    def draw() -> None:
        for name, parameter in trained.items():
            for start in range(0, parameter.numel(), PIECE):
                stop = min(start + PIECE, parameter.numel())
                arithmetic.law.draw(seed=0, step=0, k=0, name=name, start=start, stop=stop)

    def shift() -> None:
        next(waiting.pop())

    def step(weights: PerturbedParameters) -> None:
        for _ in weights.perturb(0, 0):
            pass
        weights.update(0, 1e-3, [1])

    rows = {"directions alone, by torch": measured(draw, size, repeats)}
    waiting = [arithmetic.perturb(0, 0) for _ in range(repeats + 1)]
    kept = list(waiting)  # an unfinished generator would move the weights back when it goes
    rows["one shift"] = measured(shift, size, repeats)
    for unfinished in kept:
        unfinished.close()
    rows["update, K = 1"] = measured(lambda: arithmetic.update(0, 1e-3, [1]), size, repeats)
    rows["update, K = 4"] = measured(lambda: arithmetic.update(0, 1e-3, [1, -1, 1, 1]), size, repeats)
    rows["step, restore: arithmetic"] = measured(lambda: step(arithmetic), size, repeats)
    rows["step, restore: copy"] = measured(lambda: step(made["copy"]), size, repeats)
    return {f"{law}: {name}": row for name, row in rows.items()}


def small(shapes: list[tuple[int, ...]], repeats: int, kernel: str) -> Row:
    """Milliseconds of what a step does to the weights of a small set; `copy` is one copy of all of them."""
    trained = parameters(10**9, shapes)
    weights = PerturbedParameters(trained, law=direction_law("rademacher"), seed=0, mu=1e-3, kernel=kernel)
    size = weights.elements * 4
    flat = torch.zeros(weights.elements)
    steps = iter(range(10**9))

    def step() -> None:
        at = next(steps)
        for _ in weights.perturb(at, 0):
            pass
        weights.update(at, 1e-3, [1])

    return {
        "matrices": len(trained),
        "elements": weights.elements,
        "step_ms": 1e3 * measured(step, size, 10 * repeats)["seconds"],
        "copy_ms": 1e3 * measured(flat.clone, size, 10 * repeats)["seconds"],
    }


def main() -> None:
    """Prints a table for each number of threads and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--elements", type=int, default=134_515_008, help="trained float32 weights (default 134,515,008)"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default 1 2)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default 5); the least is shown")
    parser.add_argument("--laws", nargs="+", default=["rademacher", "gaussian"], help="laws of the directions")
    parser.add_argument("--kernel", default="auto", help="auto (compiled where numba is) or off (default auto)")
    arguments = parser.parse_args()
    print(f"kernel {arguments.kernel}: {describe()}")
    result: dict[str, Any] = {"elements": arguments.elements, "kernel": arguments.kernel, "torch": torch.__version__}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        trained = parameters(arguments.elements, SHAPES)
        rows = copies(trained, arguments.repeats)
        reference = {unit: max(row[unit] for row in rows.values()) for unit in ("gb_s", "cpu_gb_s")}
        rows["fingerprint"] = measured(lambda trained=trained: fingerprint_tensors(trained), 4 * arguments.elements, 1)
        for law in arguments.laws:
            share = GAUSSIAN_SHARE if law == "gaussian" else 1
            part = parameters(arguments.elements // share, SHAPES)
            rows |= moves(part, law, arguments.repeats, arguments.kernel)
        print(f"\n{threads} threads, {arguments.elements:,} weights")
        print(f"{'':<40}{'GB/s':>8}{'ratio':>8}{'CPU ratio':>11}{'MiB':>8}")
        for name, row in rows.items():
            row["ratio"] = row["gb_s"] / reference["gb_s"]
            row["cpu_ratio"] = row["cpu_gb_s"] / reference["cpu_gb_s"]
            print(
                f"{name:<40}{row['gb_s']:>8.2f}{row['ratio']:>8.3f}{row['cpu_ratio']:>11.3f}{row['extra_mib']:>8.0f}",
                flush=True,
            )
        sets = {name: small(shapes, arguments.repeats, arguments.kernel) for name, shapes in SETS.items()}
        for name, row in sets.items():
            what = f"{name}, {row['matrices']} parameters, {row['elements']:,} weights"
            print(f"{what}: step {row['step_ms']:.2f} ms, a copy {row['copy_ms']:.3f} ms", flush=True)
        result[f"{threads} threads"] = {"rows": rows, "sets": sets}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
