"""A run directory written by hand, as a finished or interrupted run leaves it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paczero.mechanism.journal import Journal
from paczero.mechanism.registry import spec_of
from paczero.mechanism.transcript import Transcript
from paczero.release.publish import complete
from paczero.release.statement import Development
from paczero.run_directory import RunDirectory

# Values that no other file could hold by chance, so that a search for them means something.
MARKS = {"q": 0.72839465127364, "beta": 0.00061728394506, "noise": 0.31415926123987, "loss": 0.61803398234561}


def make_header(name: str = "zpl", **changes: Any) -> dict[str, Any]:
    """The header of a transcript for one mechanism."""
    mechanism: dict[str, Any] = {"name": name, "clip": 25.0}
    if name == "mi":
        mechanism |= {"channel": "bit", "allocation": "adaptive"}
    if spec_of(name).is_dp:
        mechanism |= {"epsilon": 2.0, "delta": 600**-2.0, "sampling": 1.0 if name == "dp-sign" else 0.064}
        mechanism |= {"eps0": 0.142857} if name == "dp-sign" else {"sigma": 4.62428}
        mechanism |= {"posterior_success": 0.58871}
    header = {
        "format": "paczero-transcript/1",
        "base": {"id": "HuggingFaceTB/SmolLM2-135M-Instruct", "sha256": "ab" * 32, "dtype": "float32"},
        "peft": {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        "adapter": {"law": "philox-uniform", "seed": 0, "sha256": "cd" * 32},
        "parameters": [
            ["layers.29.q_proj.lora_A", "float32", [8, 576]],
            ["layers.29.q_proj.lora_B", "float32", [576, 8]],
        ],
        "direction_law": "rademacher",
        "device_kind": "cpu",
        "mu": 1e-3,
        "schedule": {"name": "linear", "learning_rate": 0.02},
        "directions": 1,
        "steps": 40,
        "restore": "copy",
        "average": 0.0,
        "seed": 0,
        "mechanism": mechanism,
        "subsets": 128,
        "family": "balanced",
        "budget": spec_of(name).budget(0.33),
        "units": 600,
        "test_seed": None,
        "threshold": "median",
        "secret_id": "1f" * 16,
        "prior_budgets": [],
    }
    return header | changes


def header_of_version_01(name: str, **changes: Any) -> dict[str, Any]:
    """The same run's header as version 0.1 wrote it: no p, and the sign of a Gaussian as `dp-sign`."""
    header = make_header(name, **changes)
    dropped = ("eps0", "posterior_success")
    mechanism = {key: value for key, value in header["mechanism"].items() if key not in dropped}
    header = {key: value for key, value in header.items() if key not in ("secret_id", "prior_budgets")}
    return header | {"mechanism": mechanism | ({"sigma": 4.62428} if name == "dp-sign" else {})}


def development(steps: int) -> Development:
    done = tuple(range(0, steps + 1, 10))
    return Development(
        steps=done,
        values=tuple(0.6 + 0.1 * step / steps for step in done),
        untuned=0.57,
        untuned_median=0.6,
        records=400,
        used_for=("the served step", "the threshold"),
    )


def make_run(
    root: Path, name: str = "zpl", *, done: int | None = None, extras: bool = True, **changes: Any
) -> RunDirectory:
    """A run directory; finished and published where `done` is left out."""
    run, header, generator = RunDirectory(root), make_header(name, **changes), random.Random(7)
    run.private.mkdir(parents=True, mode=0o700)
    steps, count, kind = header["steps"] if done is None else done, header["directions"], spec_of(name)
    transcript = Transcript.create(run.staged_transcript, header)
    journal = Journal.create(run.journal, {"header": header, "pool": "ef" * 32})
    rows: list[dict[str, Any]] = []
    for t in range(steps):
        choices = [1, -1, 0] if kind.zero else [1, -1]
        y = [generator.gauss(0, 2) if kind.real else generator.choice(choices) for _ in range(count)]
        unanimous = [generator.random() < 0.6 for _ in range(count)]
        entry = {
            "t": t,
            "y": y,
            "unanimous": unanimous if kind.candidates else [False] * count,
            "signs": [] if not kind.candidates else [f"{generator.getrandbits(128):032x}" for _ in range(count)],
            "q": [MARKS["q"]] * count,
            "beta": [MARKS["beta"] if name == "mi" else 0.0] * count,
            "noise": [MARKS["noise"]] * count,
            "output": None,
            "nonfinite": 0,
        }
        journal.append(entry)
        transcript.append(t, y)
        rows.append({"kind": "step", "t": t, "seconds": 0.4, "unanimous": unanimous, "spent": 0.1, "nonfinite": 0})
        rows[-1]["loss"] = MARKS["loss"]
    dev = development(header["steps"])
    rows += [
        {"kind": "dev", "t": t, "accuracy": accuracy, "loss": 0.6, "threshold": 0.1}
        for t, accuracy in zip(dev.steps, dev.values, strict=True)
        if t <= steps
    ]
    if extras:
        run.diagnostics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run.config.write_text("model: HuggingFaceTB/SmolLM2-135M-Instruct\nmechanism:\n  name: " + name + "\n")
    if done is None:
        stage(run, dev if extras else None, header)
        run.staging.rename(run.release)
        if extras:
            (root / "summary.json").write_text(json.dumps(SUMMARY))
    return run


SUMMARY = {
    "accuracy_before": 0.568,
    "accuracy_before_median": 0.674,
    "accuracy_after": 0.7172,
    "accuracy_none": 0.73,
    "unanimity": 0.6,
    "steps": 40,
    "seconds": 133.0,
}


def stage(run: RunDirectory, dev: Development | None, header: dict[str, Any]) -> dict[str, Any]:
    """Fills the staging folder as the trainer does, then publishes."""
    (run.staging / "adapter").mkdir(parents=True, exist_ok=True)
    (run.staging / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    (run.staging / "adapter" / "adapter_config.json").write_text("{}")
    (run.staging / "transcript.jsonl").write_bytes(run.staged_transcript.read_bytes())
    return complete(
        run.staging,
        header,
        chosen_step=header["steps"],
        weights_sha256="0f" * 32,
        threshold=0.0 if header["threshold"] == "none" else 0.1,
        development=dev,
    )


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One finished run a mechanism, drawn once; tests copy them."""
    root = tmp_path_factory.mktemp("finished")
    return {name: make_run(root / name, name).root for name in ("zpl", "mi", "none", "dpzero", "skip")}


@pytest.fixture
def finished(tmp_path: Path, finished_runs: dict[str, Path]) -> Callable[..., RunDirectory]:
    """`finished(name)` is a copy of a finished run, the test's own."""

    def copy(name: str = "zpl", folder: str = "run") -> RunDirectory:
        return RunDirectory(Path(shutil.copytree(finished_runs[name], tmp_path / folder)))

    return copy


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., RunDirectory]:
    """`build(name, …)` makes a run below the test's own directory."""
    return lambda name="zpl", folder="run", **settings: make_run(tmp_path / folder, name, **settings)
