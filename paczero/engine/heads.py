"""Scores of completions from the model's output: the mean token log-probability of each.

For label words of one token only the logits of these words are computed. Longer words, and answers that differ between
records, need the whole vocabulary, because its normaliser does not cancel.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from paczero.data.batching import MicroBatch
from paczero.data.completions import CandidateTree, Completions, PerRecordCompletions

CHUNK = 2**24  # logits that are held at a time for answers: 64 MiB


class Head(Protocol):
    """Scores the completions of the records of a micro-batch."""

    def scores(self, hidden: Tensor, batch: MicroBatch) -> Tensor:
        """Output of the last layer at all read positions of the rows (n, D) -> (B, C)."""


def head_of(model: PreTrainedModel, completions: Completions) -> Head:
    """The head for these completions."""
    if isinstance(completions, CandidateTree):
        return CandidateHead(model, completions)
    if isinstance(completions, PerRecordCompletions):
        return AnswerHead(model, completions)
    raise TypeError(f"completions: a {type(completions).__name__} was given; expected one of data.completions")


class CandidateHead:
    """Candidates that all records share: scores up to a constant per record.

    Args:
        model: a transformers causal decoder.
        tree: the candidates.
    """

    def __init__(self, model: PreTrainedModel, tree: CandidateTree):
        self.logits = Logits(model)
        self.tree = tree
        self._first_tokens = torch.tensor([path[0][1] for path in tree.terms])

    def scores(self, hidden: Tensor, batch: MicroBatch) -> Tensor:
        hidden = hidden.view(len(batch.records), -1, hidden.shape[-1])  # (B, P, D)
        if len(self.tree) == 0:  # one token each: the normaliser cancels in their softmax
            return self.logits(hidden[:, 0], self._first_tokens)
        logs = self.logits(hidden).log_softmax(dim=-1)  # (B, P, V)
        columns = [torch.stack([logs[:, node, token] for node, token in path]).mean(dim=0) for path in self.tree.terms]
        return torch.stack(columns, dim=1)


class AnswerHead:
    """An answer for each record: its mean token log-probability, one column.

    Args:
        model: a transformers causal decoder.
        answers: the answers of all records.
    """

    def __init__(self, model: PreTrainedModel, answers: PerRecordCompletions):
        self.logits = Logits(model)
        self.answers = answers.answers

    def scores(self, hidden: Tensor, batch: MicroBatch) -> Tensor:
        tokens = torch.from_numpy(np.concatenate([self.answers[record] for record in batch.records]))
        tokens = tokens.to(hidden.device)
        rows = max(1, CHUNK // self.logits.vocabulary)
        logs = torch.cat([self._logs(hidden[a : a + rows], tokens[a : a + rows]) for a in range(0, len(tokens), rows)])
        starts = batch.starts
        sums = np.add.reduceat(logs.double().cpu().numpy(), starts[:-1])  # in the same order on any device
        return torch.from_numpy(sums / np.diff(starts))[:, None]

    def _logs(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of each token (n,) at its position (n, D)."""
        logits = self.logits(hidden)
        return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


class Logits:
    """The output head of a model.

    Attributes:
        vocabulary: V, the number of logits at a position.
    """

    def __init__(self, model: PreTrainedModel):
        self.config = model.config
        self.module = model.get_output_embeddings()
        self.vocabulary = int(model.config.get_text_config().vocab_size)

    def __call__(self, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits of some tokens (all by default), in float32 for any dtype of the model.

        A half-precision logit of 20 is rounded to steps of 0.01 or 0.1, which would hide the derivatives.
        """
        module = self.module
        if type(module) is not nn.Linear or module.weight.device.type == "meta":
            logits = module(hidden).float()
            return self._scaled(logits if rows is None else logits[..., rows])
        weight = module.weight if rows is None else module.weight[rows]
        bias = module.bias if module.bias is None or rows is None else module.bias[rows]
        bias = None if bias is None else bias.float()
        return self._scaled(nn.functional.linear(hidden.float(), weight.float(), bias))

    def _scaled(self, logits: Tensor) -> Tensor:
        """Scaling and capping of logits, in families that have it."""
        config = self.config
        logits = logits * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits
