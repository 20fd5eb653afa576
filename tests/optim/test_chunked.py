"""Moves give the same bits however they are cut, shared or kept, and take memory of a fixed size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from paczero.optim import chunked
from paczero.optim import parameters as parameters_module
from paczero.optim.directions import RADEMACHER
from paczero.optim.parameters import PerturbedParameters

from ..small_weights import LAWS, RESTORES, make, same_bits


@RESTORES
@LAWS
def test_neither_threads_nor_pieces_nor_the_way_matter(restore, law, monkeypatch):
    def run(threads, piece, spread, together):
        torch.set_num_threads(threads)
        monkeypatch.setattr(chunked, "CHUNK", piece)
        monkeypatch.setattr(chunked, "_CPU_BUFFER", spread)
        monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", {restore: together})
        big = {"w": nn.Parameter(torch.linspace(-1, 1, 90_000).view(300, 300).clone())}
        weights = PerturbedParameters(big, law=law, seed=0, mu=1e-2, restore=restore, kernel="off")
        for step in range(2):
            for k in range(2):
                for _ in weights.perturb(step, k):
                    pass
            weights.update(step, 1e-2, [1, -1])
        return weights.fingerprint()

    threads = torch.get_num_threads()
    cases = (
        (1, 2**20, 2**15, 0),
        (2, 2**20, 2**15, 2**23),
        (1, 12_345, 2**15, 100_000),
        (1, 12_345, 1_000, 0),
        (2, 31_999, 2**15, 0),
        (3, 8_000, 200, 0),
    )
    try:
        prints = {run(*case) for case in cases}
    finally:
        torch.set_num_threads(threads)
    assert len(prints) == 1


def test_small_trained_sets_draw_each_direction_once(monkeypatch):
    calls = []
    draw = RADEMACHER.draw_flat
    monkeypatch.setattr(RADEMACHER, "draw_flat", lambda *given, **at: calls.append(at["step"]) or draw(*given, **at))
    weights = make()
    for step in range(2):
        for _ in weights.perturb(step, 0):
            pass
        weights.update(step, 1e-3, [1])
    assert calls == [0, 1]


def test_directions_are_kept_up_to_a_limit_only(monkeypatch):
    weights = make()
    padded = RADEMACHER.layout(seed=0, sizes={n: p.numel() for n, p in weights.parameters.items()}).elements
    assert padded == 384 + 128 + 128 + 128  # each parameter begins a block
    monkeypatch.setattr(parameters_module, "_FLAT_LIMIT", {"copy": 2 * padded})
    weights.update(0, 1e-3, [1])
    for k in range(4):
        next(weights.perturb(1, k))
    assert [k for k, _ in weights._storage._kept] == [0, 1]


def test_parameters_that_got_other_memory_are_still_the_ones_that_move():
    weights, other = make(), make()
    for one in (weights, other):
        one.update(0, 1e-2, [1])
    for parameter in weights.parameters.values():
        parameter.data = parameter.data.clone()
    for one in (weights, other):
        one.update(1, 1e-2, [-1])
    assert same_bits(weights.snapshot(), other.snapshot())


MOVES_OF_A_LARGE_PARAMETER = """
import sys
from pathlib import Path
import torch
from torch import nn
from paczero.optim.directions import direction_law
from paczero.optim.precision import RoundingModel
from paczero.optim.parameters import PerturbedParameters

def held(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

law, kernel, elements = sys.argv[1], sys.argv[2], int(sys.argv[3])

def moved(weights):
    for _ in weights.perturb(0, 0):
        pass
    weights.update(0, 1e-3, [1, -1])
    weights.fingerprint()
    RoundingModel(weights)

settings = {"law": direction_law(law), "seed": 0, "mu": 1e-3, "restore": "arithmetic", "kernel": kernel}
moved(PerturbedParameters({"small": nn.Parameter(torch.zeros(2**20 + 1))}, **settings))  # whatever is made once
weights = PerturbedParameters({"large": nn.Parameter(torch.zeros(elements))}, **settings)
before = held("VmRSS")
moved(weights)
print(held("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured as Linux tells it")
@pytest.mark.parametrize(("law", "elements"), [("rademacher", 2**25), ("gaussian", 2**23)])
@pytest.mark.parametrize("kernel", ["auto", "off"])
def test_arithmetic_moves_take_buffers_of_a_fixed_size_only(law, elements, kernel):
    command = [sys.executable, "-c", MOVES_OF_A_LARGE_PARAMETER, law, kernel, str(elements)]
    root = Path(__file__).resolve().parents[2]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=one_thread, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8, "MiB; the weights themselves have " + str(elements * 4 // 2**20)
