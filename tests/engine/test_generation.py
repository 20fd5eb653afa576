"""Greedy generation of many records at a time gives the tokens of `model.generate`, one record at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from paczero.engine.generation import Generator, StopCondition

PROMPTS = [
    np.random.default_rng(length).integers(2, 40, size=length).tolist() for length in (9, 1, 4, 17, 4, 12, 2, 30, 7, 5)
]
COMMON = list(range(2, 22))
ENDING = StopCondition(12, frozenset({7, 9}), lambda ids: 5 in ids or 11 in ids)


class Stopped(StoppingCriteria):
    def __init__(self, start: int):
        self.start = start

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **more: object) -> torch.Tensor:
        return torch.tensor([ENDING.reached(row[self.start :].tolist()) for row in ids])


def by_itself(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=ENDING.max_tokens,
        do_sample=False,
        eos_token_id=sorted(ENDING.eos_tokens),
        pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([Stopped(len(prompt))]),
    )
    tokens = out[0, len(prompt) :].tolist()
    return tokens[:-1] if tokens and tokens[-1] in ENDING.eos_tokens else tokens


@pytest.mark.parametrize("common", [[], COMMON], ids=["nothing shared", "a prefix shared"])
@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "qwen2", "qwen3"])
def test_the_tokens_of_generate(decoder: Callable[..., PreTrainedModel], family: str, common: list[int]) -> None:
    model = decoder(family)
    prompts = [common + prompt for prompt in PROMPTS]
    heard: list[tuple[int, int]] = []
    generator = Generator(
        model,
        prompts,
        ENDING,
        metric=lambda record, ids: float(len(ids)),
        batch_tokens=8,
        progress=lambda done, of: heard.append((done, of)),
    )
    assert generator.prefix == len(common) and len(generator.batches) > 1
    got = generator.generate()
    assert heard == [(int(n), 10) for n in np.cumsum(list(map(len, generator.batches)))]
    assert got == [by_itself(model, prompt) for prompt in prompts]
    generator.check()
    np.testing.assert_array_equal(generator.scores()[:, 0], list(map(len, got)))
    wanted = np.arange(len(prompts)) % 3 == 0
    assert [a if w else [] for a, w in zip(got, wanted, strict=True)] == generator.generate(wanted)
    assert heard[-1] == (4, 4)
    with torch.no_grad():
        for prompt, row in zip(prompts, generator.features(), strict=True):
            hidden = model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            np.testing.assert_allclose(row, hidden.numpy(), atol=2e-4, rtol=2e-4)
