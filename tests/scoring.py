"""Scores the slow and obvious way, and through the shortcuts: what the tests of forward passes share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from paczero.config import EngineConfig
from paczero.data.batching import micro_batches
from paczero.data.completions import CandidateTree
from paczero.engine.scorer import Scorer

Decoder = Callable[..., PreTrainedModel]
FAMILIES = ("llama", "opt", "gpt2", "qwen2", "qwen3")
WORDS = {
    "two of one token": [[40], [41]],
    "three of one token": [[40], [41], [42]],
    "two of several tokens": [[40, 41, 42], [40, 43]],
    "three, one a prefix of another": [[40], [40, 41], [42, 40, 41, 43]],
}
PROMPTS = [
    np.random.default_rng(length).integers(2, 40, size=length).tolist() for length in (9, 1, 4, 17, 4, 12, 2, 30, 7, 5)
]


def slow_scores(model: torch.nn.Module, words: list[list[int]], prompts: list[list[int]] = PROMPTS) -> np.ndarray:
    """Mean token log-probability of each candidate, a sequence of its own for each, the model's own forward pass."""
    out = np.zeros((len(prompts), len(words)))
    with torch.no_grad():
        for record, prompt in enumerate(prompts):
            for place, word in enumerate(words):
                logits = model(input_ids=torch.tensor([prompt + word])).logits[0]
                logs = logits[len(prompt) - 1 : -1].double().log_softmax(dim=-1)
                out[record, place] = logs[torch.arange(len(word)), torch.tensor(word)].mean()
    return out


def centred(scores: np.ndarray) -> np.ndarray:
    """Scores are up to a constant per record."""
    return scores - scores.mean(axis=1, keepdims=True)


def scorer(
    model: torch.nn.Module,
    words: list[list[int]],
    *,
    prompts: list[list[int]] = PROMPTS,
    engine: EngineConfig | None = None,
    batch_tokens: int = 60,
    **settings: Any,
) -> Scorer:
    tree, engine = CandidateTree(words), engine or EngineConfig()
    batches = micro_batches(prompts, tree, batch_tokens=batch_tokens, packing=engine.packing, prefix=engine.prefix)
    return Scorer(model, batches, tree, engine=engine, **settings)
