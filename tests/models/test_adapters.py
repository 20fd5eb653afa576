import math

import pytest
import torch
from torch import nn

from paczero.errors import PACZeroError
from paczero.models.adapters import initialise_adapter


def lora(dtype=torch.float32):
    return {
        "layers.0.q_proj.lora_A.weight": nn.Parameter(torch.full((8, 64), 9.0, dtype=dtype)),
        "layers.0.q_proj.lora_B.weight": nn.Parameter(torch.full((32, 8), 9.0, dtype=dtype)),
        "layers.0.q_proj.lora_B.bias": nn.Parameter(torch.full((32,), 9.0, dtype=dtype)),
        "score.modules_to_save.weight": nn.Parameter(torch.full((2, 64), 9.0, dtype=dtype)),
        "layers.0.q_proj.base_layer.bias": nn.Parameter(torch.full((32,), 9.0, dtype=dtype)),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_law(dtype):
    parameters = lora(dtype)
    initialise_adapter(parameters, seed=1)
    a, b, bias, kept, base = (p.detach().float() for p in parameters.values())
    bound = 1 / math.sqrt(64)
    assert 0.95 * bound < a.abs().max() <= bound
    assert abs(a.std() - bound / math.sqrt(3)) < 0.1 * bound
    assert not b.any()
    assert not bias.any()
    assert torch.all(kept == 9)
    assert torch.all(base == 9)


def test_only_seed_and_name_count():
    one, two, other = lora(), lora(), lora()
    initialise_adapter(one, seed=1)
    torch.manual_seed(5)
    initialise_adapter(dict(reversed(two.items())), seed=1)
    initialise_adapter(other, seed=2)
    name = "layers.0.q_proj.lora_A.weight"
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("q.lora_magnitude_vector.weight", (8,)),
        ("embed.lora_embedding_A", (8, 10)),
        ("conv.lora_A.weight", (8, 3, 3, 3)),
        ("q.ia3_l.weight", (8, 1)),
    ],
)
def test_other_adapters_are_refused_before_anything_is_set(name, shape):
    parameters = lora() | {name: nn.Parameter(torch.ones(shape))}
    with pytest.raises(PACZeroError, match=name):
        initialise_adapter(parameters, seed=0)
    assert all(torch.all(p != 0) for p in parameters.values())
