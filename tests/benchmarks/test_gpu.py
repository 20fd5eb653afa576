"""The GPU benchmark runs on a CPU with a tiny model, and says in one line where there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=SCRIPT.parents[1])


@pytest.mark.parametrize("case", ["lora", "full"])
def test_the_program_itself(case: str) -> None:
    done = run("--device", "cpu", "--quick", "--case", case, "--peak-tflops", "1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["replay_identical"] is True
    assert result["tokens_per_second"] > 0 and 0 < result["share_of_peak"] < 1
    assert (result["trained"] == result["parameters"]) == (case == "full")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "no GPU: there is no device 'cuda' here; with --device cpu --quick the program itself runs"
    ]
