"""What a run releases scores the same where nobody knows paczero: by PEFT or transformers alone, merged or not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paczero.inference import predict

SCRIPT = Path(__file__).with_name("plain_scoring.py")
WORDS = ("terrible", "great")
ROUNDING = 2e-5  # nats; of float32 through three layers, in another order


@pytest.fixture(scope="module")
def prompts(tiny_test_csv):
    lines = tiny_test_csv.read_text().splitlines()[1:13]
    return [f"{line.rpartition(',')[0]} It was" for line in lines]


@pytest.fixture(scope="module")
def plain(finished_once, finished_full_once, tiny_model_dir, prompts):
    """Scores (R, C) of the adapter, of the merged one, of the tuned model and of the base, by another process."""
    adapter, tuned = finished_once / "release" / "adapter", finished_full_once / "release" / "model"
    jobs = {
        "adapter": {"model": str(tiny_model_dir), "adapter": str(adapter), "merge": False},
        "merged": {"model": str(tiny_model_dir), "adapter": str(adapter), "merge": True},
        "tuned": {"model": str(tuned), "adapter": None, "merge": False},
        "base": {"model": str(tiny_model_dir), "adapter": None, "merge": False},
    }
    given = json.dumps([job | {"prompts": prompts, "words": WORDS} for job in jobs.values()])
    done = subprocess.run([sys.executable, str(SCRIPT)], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(jobs, map(np.array, json.loads(done.stdout)), strict=True))


@pytest.fixture
def ours(tiny_test_csv):
    """The margin of the second label (R,), as `predict` has it."""

    def margins(target):
        records = predict(target, tiny_test_csv).records[:12]
        return np.array([np.log(row["probability 1"]) - np.log(row["probability 0"]) for row in records])

    return margins


def margins(scores):
    return scores[:, 1] - scores[:, 0]


def test_training_moved_the_weights(plain):
    for name in ("adapter", "tuned"):
        assert np.abs(margins(plain[name]) - margins(plain["base"])).max() > 100 * ROUNDING


def test_an_adapter_loaded_by_peft_alone(plain, ours, finished_once):
    assert margins(plain["adapter"]) == pytest.approx(ours(finished_once), abs=ROUNDING)


def test_merged_into_its_base(plain):
    assert plain["merged"] == pytest.approx(plain["adapter"], abs=ROUNDING)


def test_a_tuned_model_loaded_by_transformers_alone(plain, ours, finished_full_once):
    assert margins(plain["tuned"]) == pytest.approx(ours(finished_full_once), abs=ROUNDING)
