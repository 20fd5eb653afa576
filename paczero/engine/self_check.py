"""The shortcuts compared with the model's own forward pass, before hours are spent on it.

They are compared on two records: the longest, where sliding windows and positions show, and the one most padded beside
it. An architecture that does something that the shortcuts do not reproduce is refused here.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from paczero.engine.generation import Generator
    from paczero.engine.scorer import Scorer


_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.3, torch.float16: 0.05}


@torch.inference_mode()
def check_scores(scorer: "Scorer") -> None:
    """Compares scores with those of a sequence of its own for each continuation.

    Raises:
        PACZeroError: they differ; or the model overflows in its type.
    """
    batch, model = scorer.batches[-1], scorer.model
    wanted = np.zeros(scorer.records, dtype=bool)
    wanted[batch.records] = True
    scores = scorer.scores(wanted)
    for row in {0, len(batch.records) - 1}:
        got = scores[batch.records[row]]
        prompt = batch.input_ids[row, : int(batch.reads[row, 0]) + 1].tolist()
        follows = [scorer.continuations.follows(batch.records[row], column) for column in range(len(got))]
        slow = np.array([_slow_score(scorer, prompt, tokens) for tokens in follows])
        if not np.isfinite(slow).all():
            raise PACZeroError(
                f"dtype: the model's own forward pass is not finite in {model.dtype}; expected finite scores; "
                "use --dtype float32 or bfloat16"
            )
        differences = got - slow
        if scorer.continuations.relative:
            differences = differences - differences[0]
        apart, scale = float(np.abs(differences).max()), max(1.0, float(np.abs(slow).max()))
        if not apart <= _TOLERANCE[model.dtype] * scale:
            raise PACZeroError(
                f"model: {type(model).__name__} scores a record {apart:.3g} apart from its own forward pass; "
                "this architecture is not supported by the fast paths in use; try --engine.packing false, then "
                "--engine.narrowing false"
            )


def _slow_score(scorer: "Scorer", prompt: list[int], tokens: list[int]) -> float:
    ids = torch.tensor([prompt + tokens[:-1]], device=scorer.device)
    logs = scorer.model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(dim=-1)
    return float(np.mean([float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens)]))


@torch.inference_mode()
def check_generation(generator: "Generator") -> None:
    """Compares generated tokens with one pass over prompt and tokens: each must be the most probable, to rounding.

    Raises:
        PACZeroError: one is not.
    """
    batch, model = generator.batches[-1], generator.model
    wanted = np.zeros(generator.records, dtype=bool)
    wanted[batch] = True
    found = generator.generate(wanted)
    for record in {int(batch[0]), int(batch[-1])}:
        prompt, tokens = generator.prompts[record], found[record]
        if not tokens:
            continue
        ids = torch.tensor([prompt + tokens[:-1]], device=generator.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
        below = logits.max(dim=-1).values - logits[torch.arange(len(tokens)), torch.tensor(tokens)]
        apart, scale = float(below.max()), max(1.0, float(logits.abs().max()))
        if not apart <= _TOLERANCE[model.dtype] * scale:
            raise PACZeroError(
                f"model: {type(model).__name__} generates a token that its own forward pass puts {apart:.3g} below the "
                "best; this architecture is not supported for generation; try --engine.prefix false, then "
                "--dtype float32"
            )
