"""Scores of an answer for each record equal those of the plain forward pass, with each fast path."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from peft import LoraConfig

from paczero.config import EngineConfig
from paczero.data.batching import micro_batches
from paczero.data.completions import PerRecordCompletions
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.scorer import Scorer
from paczero.models.adapters import attach
from paczero.models.layers import first_trained_layer

RNG = np.random.default_rng(0)
PROMPTS = [[2, 3, *RNG.integers(2, 40, size=length).tolist()] for length in (9, 1, 4, 17, 4, 12, 2, 30, 7, 5)]
ANSWERS = [RNG.integers(2, 60, size=length).tolist() for length in (1, 3, 2, 1, 6, 1, 4, 2, 2, 1)]
PATHS = [EngineConfig(), EngineConfig(packing=False), EngineConfig(narrowing=False), EngineConfig(prefix=False)]


def plain_scores(model: torch.nn.Module) -> np.ndarray:
    out = []
    with torch.no_grad():
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
            logs = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            logs = logs.double().log_softmax(dim=-1)
            out.append(float(logs[torch.arange(len(answer)), torch.tensor(answer)].mean()))
    return np.array(out)


@pytest.mark.parametrize("engine", PATHS, ids=["all", "padded", "not narrowed", "no prefix"])
@pytest.mark.parametrize("targets", [["q_proj"], ["o_proj", "down_proj"]], ids=["attention trains", "attention cached"])
@pytest.mark.parametrize("batch_tokens", [40, 500], ids=["small batches", "one batch"])
def test_scores_are_the_mean_log_probability(
    decoder: Callable, stirred: Callable, engine: EngineConfig, targets: list[str], batch_tokens: int
) -> None:
    peft = LoraConfig(r=2, target_modules=targets, layers_to_transform=[2])
    model, trained = attach(decoder("llama"), peft_config=peft)
    answers = PerRecordCompletions(ANSWERS)
    batches = micro_batches(PROMPTS, answers, batch_tokens=batch_tokens, packing=engine.packing, prefix=engine.prefix)
    first = first_trained_layer(model, list(trained))
    scorer = Scorer(model, batches, answers, first_layer=first, cache=HiddenCache(2**30, None), engine=engine)
    stirred(trained)
    scorer.check()
    scores = scorer.scores()
    np.testing.assert_allclose(scores[:, 0], plain_scores(model), atol=3e-4)
    wanted = np.arange(len(PROMPTS)) % 3 == 0
    some = scorer.scores(wanted)
    np.testing.assert_allclose(some[wanted], scores[wanted], atol=3e-4)
    assert not some[~wanted].any()
    with torch.no_grad():
        for prompt, row in zip(PROMPTS, scorer.features(), strict=True):
            hidden = scorer.model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            np.testing.assert_allclose(row, hidden.numpy(), atol=3e-4)
