import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from paczero.config import PACZeroConfig
from paczero.errors import IntegrityError
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters, WeightEMA
from paczero.release.replay import rebuild, take_steps

STEPS = 6


def toy(dtype):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def weights_of(model, config):
    law = direction_law(config.direction_law)
    return PerturbedParameters(
        dict(model.named_parameters()), law=law, seed=config.seed, mu=config.mu, restore=config.restore
    )


def config_of(**changes):
    return PACZeroConfig(
        **({"max_steps": STEPS, "learning_rate": 0.05, "mu": 1e-2, "ema_decay": 0.5, "seed": 8} | changes)
    )


def header_of(config, weights, mechanism):
    return {
        "format": FORMAT,
        "mechanism": {"name": mechanism},
        "direction_law": config.direction_law,
        "mu": config.mu,
        "schedule": {"name": config.lr_scheduler_type, "learning_rate": config.learning_rate},
        "directions": config.directions,
        "steps": config.max_steps,
        "restore": config.restore,
        "average": config.ema_decay,
        "seed": config.seed,
        "parameters": weights.layout(),
    }


def train(path, config, *, dtype=torch.float32, real=False):
    """A toy training: the sign (or the value) of the mean derivative of a small regression."""
    model = toy(dtype)
    weights = weights_of(model, config)
    average = WeightEMA(weights, config.ema_decay)
    transcript = Transcript.create(path, header_of(config, weights, "none" if real else "zpl"))
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    prints = [weights.fingerprint()]
    for step in range(STEPS):
        y = []
        for k in range(config.directions):
            with torch.no_grad(), contextlib.closing(weights.perturb(step, k)) as sides:
                plus, minus = (model(x).float().square().mean().item() for _ in sides)
            derivative = (plus - minus) / (2 * config.mu)
            y.append(derivative if real else 1 if derivative >= 0 else -1)
        transcript.append(step, tuple(y))
        weights.update(step, config.learning_rate_at(step), y)
        average.observe()
        prints.append(weights.fingerprint())
    return prints, average.snapshot()


@pytest.mark.parametrize("restore", ["copy", "arithmetic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("directions", "law", "schedule", "real"),
    [(1, "rademacher", "linear", False), (2, "gaussian", "constant", False), (2, "rademacher", "linear", True)],
)
def test_replay_rebuilds_every_step_bit_for_bit(tmp_path, restore, dtype, directions, law, schedule, real):
    config = config_of(restore=restore, directions=directions, direction_law=law, lr_scheduler_type=schedule)
    prints, served = train(tmp_path / "t.jsonl", config, dtype=dtype, real=real)
    transcript = Transcript.read(tmp_path / "t.jsonl")
    assert len(set(prints)) == STEPS + 1
    for until in (0, 3, STEPS):
        weights, seen = weights_of(toy(dtype), config), []
        transcript.header["average"] = 0.0
        take_steps(weights, transcript, until=until, on_step=seen.append)
        assert weights.fingerprint() == prints[until]
        assert seen == list(range(until))
    weights = weights_of(toy(dtype), config)
    transcript.header["average"] = config.ema_decay
    take_steps(weights, transcript, until=STEPS)
    assert all(torch.equal(served[name], value) for name, value in weights.parameters.items())


def test_the_moves_between_sides_matter_where_they_drift(tmp_path):
    config = config_of(restore="arithmetic")
    prints, _ = train(tmp_path / "t.jsonl", config, dtype=torch.bfloat16)
    transcript = Transcript.read(tmp_path / "t.jsonl")
    transcript.header |= {"restore": "copy", "average": 0.0}
    weights = weights_of(toy(torch.bfloat16), config_of(restore="copy"))
    take_steps(weights, transcript, until=STEPS)
    assert weights.fingerprint() != prints[-1]


def test_one_changed_bit_of_the_transcript_changes_the_weights(tmp_path):
    config = config_of()
    prints, _ = train(tmp_path / "t.jsonl", config)
    transcript = Transcript.read(tmp_path / "t.jsonl")
    transcript.header["average"] = 0.0
    transcript.y[2] = (-transcript.y[2][0],)
    weights = weights_of(toy(torch.float32), config)
    take_steps(weights, transcript, until=STEPS)
    assert weights.fingerprint() != prints[-1]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("direction_law", "gaussian", "direction_law 'gaussian'"),
        ("mu", 2e-2, "mu 0.02"),
        ("restore", "arithmetic", "restore 'arithmetic'"),
        ("seed", 9, "seed 9"),
        ("directions", 2, "step 0 has 1 values"),
        ("parameters", [["0.bias", "float16", [5]]], "differ in parameters, first in"),
    ],
)
def test_another_header_is_refused(tmp_path, key, value, message):
    config = config_of()
    train(tmp_path / "t.jsonl", config)
    transcript = Transcript.read(tmp_path / "t.jsonl")
    transcript.header[key] = value
    weights = weights_of(toy(torch.float32), config)
    start = weights.fingerprint()
    with pytest.raises(IntegrityError, match=message):
        take_steps(weights, transcript, until=STEPS)
    assert weights.fingerprint() == start


def test_a_missing_step_is_refused(tmp_path):
    config = config_of()
    train(tmp_path / "t.jsonl", config)
    transcript = Transcript.read(tmp_path / "t.jsonl")
    weights = weights_of(toy(torch.float32), config)
    with pytest.raises(IntegrityError, match="7 steps were requested; it holds 6"):
        take_steps(weights, transcript, until=7)


def test_the_layout_survives_json():
    layout = weights_of(toy(torch.float32), config_of()).layout()
    assert json.loads(json.dumps(layout)) == layout


@pytest.fixture(scope="module")
def release(make_trainer: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("replay") / "run"
    make_trainer(run, directions=2, ema_decay=0.5, restore="arithmetic").train()
    return run / "release"


def rebuilt(release: Path, model: Path, *, until: int = 6, **changes: Any) -> str:
    base = AutoModelForCausalLM.from_pretrained(model)
    transcript = Transcript.read(release / "transcript.jsonl")
    transcript.header.update(changes)
    return rebuild(transcript, base, until=until)[1].fingerprint()


def test_every_released_bit_counts(release: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    expected = json.loads((release / "privacy.json").read_text())["weights_sha256"]
    assert rebuilt(release, tiny_model_dir) == expected
    assert rebuilt(release, tiny_model_dir, until=5) != expected
    lines = (release / "transcript.jsonl").read_text().splitlines(keepends=True)
    for step in (0, 5):
        changed = Path(shutil.copytree(release, tmp_path / f"changed{step}"))
        line = json.loads(lines[1 + step])
        line["y"][1] *= -1
        other = [*lines[: 1 + step], json.dumps(line, separators=(",", ":")) + "\n", *lines[2 + step :]]
        (changed / "transcript.jsonl").write_text("".join(other))
        assert rebuilt(changed, tiny_model_dir) != expected


def test_another_base_or_start_is_refused(
    release: Path, tiny_model_dir: Path, make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="base model: its weights have the hash"):
        rebuilt(release, make_tiny_model(tmp_path / "model", seed=4))
    adapter = Transcript.read(release / "transcript.jsonl").header["adapter"]
    with pytest.raises(IntegrityError, match="the initial adapter does not have the hash"):
        rebuilt(release, tiny_model_dir, adapter=adapter | {"sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="the initial adapter does not have the hash"):
        rebuilt(release, tiny_model_dir, seed=1)
    with pytest.raises(IntegrityError, match="7 steps were requested"):
        rebuilt(release, tiny_model_dir, until=7)
