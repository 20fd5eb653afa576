"""The usual way of a zeroth-order step, rebuilt from its description: what `step.py` measures PACZero against.

    usual = UsualWay(model, trained, encoded, membership, mu=1e-3, clip=25.0, seed=0, log=Path("steps.jsonl"))
    usual.step(0, rate=1e-3)

It follows MeZO (arXiv 2305.17333) as codes that build on it do, PACZero's paper (arXiv 2605.06505) among them:

- three passes over the pool a step: at +μ, at −2μ from there, and, after +μ, one more to log a loss;
- every label word is a sequence of its own, prompt and all;
- batches of 32 records in the order of the data, each padded to its longest sequence, with an attention mask;
- the model's own forward pass, with logits of the whole vocabulary at all positions (B, S, V);
- normal directions from a seeded torch generator, made again for each of the three moves and for the update, in place.

Where there was a choice, the faster one was taken, so that the comparison is fair: one label word at a time
(the logits of 32 sequences instead of 64 at once), the normaliser at the label's positions only, no cache of keys and
values, no gradient, and signs of all candidates by one matrix product.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BATCH_RECORDS = 32
Direction = Callable[[], Iterator[tuple[nn.Parameter, Tensor]]]


@dataclass(frozen=True)
class Sequences:
    """One label word behind the prompts of up to 32 records.

    Attributes:
        input_ids, attention_mask: (B, S), padded on the right.
        predicts: positions whose logits predict the label word's tokens (B, L).
        tokens: the label word's tokens (L,).
    """

    input_ids: Tensor
    attention_mask: Tensor
    predicts: Tensor
    tokens: Tensor


class UsualWay:
    """The usual way over one pool and one model.

    Args:
        model: as users call it, wrapped by PEFT or plain.
        trained: name -> parameter, moved in place.
        prompts: R token sequences in the order of the data.
        candidates: C token sequences, the label words.
        targets: the right candidate of each record (R,).
        membership: which record is in which candidate subset (R, M).
        mu: μ.
        clip: c.
        seed: of directions and coins.
        log: a file that takes one line a step.
    """

    def __init__(
        self,
        model: nn.Module,
        trained: Mapping[str, nn.Parameter],
        prompts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[int]],
        targets: np.ndarray,
        membership: np.ndarray,
        *,
        mu: float,
        clip: float,
        seed: int,
        log: Path,
    ):
        self.model, self.trained = model, dict(trained)
        self.targets = torch.from_numpy(np.asarray(targets))
        self.membership = membership.astype(np.float64)
        self.mu, self.clip, self.seed, self.log = mu, clip, seed, log
        self.batches = [
            _sequences(prompts[start : start + BATCH_RECORDS], candidates)
            for start in range(0, len(prompts), BATCH_RECORDS)
        ]

    @property
    def positions(self) -> int:
        """Token positions of a step, padding included: three passes, every label word."""
        return 3 * sum(words.input_ids.numel() for batch in self.batches for words in batch)

    def step(self, step: int, rate: float) -> None:
        """One whole step: directions, three passes, signs, a bit, the update and a line in the log."""
        direction = self.seeded(step)
        derivatives = self.derivatives(direction)
        loss = float(self.losses().mean())
        sums = np.clip(derivatives, -self.clip, self.clip) @ self.membership
        plus = int((sums >= 0).sum())
        coin = np.random.default_rng((self.seed, step)).integers(2)
        y = (1 if plus else -1) if plus in (0, len(sums)) else (1 if coin else -1)
        self._move(direction, -rate * y)
        with open(self.log, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"t": step, "y": y, "plus": plus, "loss": loss}) + "\n")

    def derivatives(self, direction: Direction) -> np.ndarray:
        """(ℓ(θ + μz) − ℓ(θ − μz)) / 2μ of each record, float64 (R,); weights move by +μz, −2μz, +μz."""
        self._move(direction, self.mu)
        above = self.losses()
        self._move(direction, -2 * self.mu)
        below = self.losses()
        self._move(direction, self.mu)
        return ((above - below) / (2 * self.mu)).numpy()

    def seeded(self, step: int) -> Direction:
        """Normal directions from a generator that starts again at each use: no direction is kept."""

        def draw() -> Iterator[tuple[nn.Parameter, Tensor]]:
            generator = torch.Generator().manual_seed(self.seed + step)
            for parameter in self.trained.values():
                yield parameter, torch.normal(0.0, 1.0, size=parameter.shape, generator=generator)

        return draw

    def given(self, direction: Mapping[str, Tensor]) -> Direction:
        """A direction from outside: name -> values, of any shape with as many elements."""
        return lambda: ((p, direction[name].view(p.shape)) for name, p in self.trained.items())

    @torch.inference_mode()
    def losses(self) -> Tensor:
        """Cross-entropy over the candidates' mean token log-probabilities, float64 (R,)."""
        scores = torch.cat([torch.stack([self._score(words) for words in batch], dim=1) for batch in self.batches])
        return nn.functional.cross_entropy(scores.double(), self.targets, reduction="none")

    def _score(self, words: Sequences) -> Tensor:
        logits = self.model(
            input_ids=words.input_ids, attention_mask=words.attention_mask, use_cache=False
        ).logits  # (B, S, V)
        rows = torch.arange(len(logits))[:, None]
        logs = logits[rows, words.predicts].float().log_softmax(dim=-1)  # (B, L, V)
        return logs.gather(2, words.tokens.expand(len(logits), -1)[:, :, None]).mean(dim=(1, 2))

    @torch.inference_mode()
    def _move(self, direction: Direction, by: float) -> None:
        for parameter, z in direction():
            parameter.add_(z * by)


def _sequences(prompts: Sequence[Sequence[int]], candidates: Sequence[Sequence[int]]) -> list[Sequences]:
    """A batch of records, one `Sequences` a label word, all padded to the batch's longest."""
    width = max(map(len, prompts)) + max(map(len, candidates))
    batch = []
    for candidate in candidates:
        input_ids = torch.zeros(len(prompts), width, dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            whole = [*prompt, *candidate]
            input_ids[row, : len(whole)] = torch.tensor(whole)
            attention_mask[row, : len(whole)] = 1
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts])
        predicts = ends[:, None] + torch.arange(len(candidate))
        batch.append(Sequences(input_ids, attention_mask, predicts, torch.tensor(list(candidate))))
    return batch
