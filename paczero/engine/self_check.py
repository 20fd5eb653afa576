"""Compares what the fast paths compute with the model's own forward pass, one sequence without padding at a time."""

import numpy as np
import torch
from transformers import PreTrainedModel

from paczero.errors import PACZeroError

_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.3, torch.float16: 0.05}


def check_scores(
    model: PreTrainedModel, prompt: list[int], completions: list[list[int]], scores: np.ndarray, *, relative: bool
) -> None:
    """Compares the scores of one record's completions.

    Args:
        prompt: the record's tokens.
        completions: the tokens of each completion.
        scores: mean token log-probability of each (C,), as the fast paths compute it.
        relative: whether the scores are exact only up to a constant of the record.

    Raises:
        PACZeroError: they differ; or the model overflows in its dtype.
    """
    expected = np.array([float(np.mean(_log_probabilities(model, prompt, tokens))) for tokens in completions])
    if not np.isfinite(expected).all():
        raise PACZeroError(
            f"dtype: the model's own forward pass is not finite in {model.dtype}; expected finite scores; "
            "use --dtype float32 or bfloat16"
        )
    differences = scores - expected
    if relative:
        differences = differences - differences[0]
    difference, scale = float(np.abs(differences).max()), max(1.0, float(np.abs(expected).max()))
    if not difference <= _TOLERANCE[model.dtype] * scale:
        raise PACZeroError(
            f"model: {type(model).__name__} scores a record {difference:.3g} apart from its own forward pass; "
            "this architecture is not supported by the fast paths in use; try --engine.packing false, then "
            "--engine.narrowing false"
        )


def check_generation(model: PreTrainedModel, prompt: list[int], tokens: list[int]) -> None:
    """Checks that each generated token is the most probable one, up to rounding.

    Args:
        prompt: the record's tokens.
        tokens: the generated tokens, one or more.

    Raises:
        PACZeroError: one is not.
    """
    logits = _logits(model, prompt, tokens)
    below = logits.max(dim=-1).values - logits[torch.arange(len(tokens)), torch.tensor(tokens)]
    difference, scale = float(below.max()), max(1.0, float(logits.abs().max()))
    if not difference <= _TOLERANCE[model.dtype] * scale:
        raise PACZeroError(
            f"model: {type(model).__name__} generates a token that its own forward pass puts {difference:.3g} below "
            "the best; this architecture is not supported for generation; try --engine.prefix false, then "
            "--dtype float32"
        )


def _log_probabilities(model: PreTrainedModel, prompt: list[int], tokens: list[int]) -> list[float]:
    logs = _logits(model, prompt, tokens).log_softmax(dim=-1)
    return [float(logs[index, token]) for index, token in enumerate(tokens)]


@torch.inference_mode()
def _logits(model: PreTrainedModel, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    """Logits at the positions that predict `tokens`, float32 (T, V)."""
    ids = torch.tensor([prompt + tokens[:-1]], device=next(model.parameters()).device)
    return model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
