"""A small set of trained parameters: what the tests of updates and moves share."""

import pytest
import torch
from torch import nn

from paczero.optim.directions import GAUSSIAN, RADEMACHER
from paczero.optim.parameters import PerturbedParameters, fingerprint_tensors

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
RESTORES = pytest.mark.parametrize("restore", ["copy", "arithmetic"])
LAWS = pytest.mark.parametrize("law", [RADEMACHER, GAUSSIAN], ids=lambda law: law.name)


def parameters(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def one(*shape):
        value = torch.randn(shape, generator=generator) * 0.05
        value.view(-1)[0] = -0.0  # a bit pattern that careless arithmetic loses
        return nn.Parameter(value.to(dtype))

    return {"b.weight": one(7, 13), "a.weight": one(300), "a.bias": one(1), "scale": one()}


def make(dtype=torch.float32, *, law=RADEMACHER, restore="copy", mu=1e-3, seed=4):
    return PerturbedParameters(parameters(dtype), law=law, seed=seed, mu=mu, restore=restore)


def same_bits(one, two):
    return one.keys() == two.keys() and fingerprint_tensors(one) == fingerprint_tensors(two)
