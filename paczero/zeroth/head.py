"""From the model's output to a score for each candidate: its label word's mean token log-probability.

What is computed is what is read: where label words have one token, the rows of those words alone; where they have more,
the whole vocabulary, since its normaliser no longer cancels.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from paczero.records.batches import CandidateTree


class Head:
    """The output head of a model, for the candidates of a task.

    Args:
        model: a transformers causal decoder.
        tree: the candidates that all records share.
    """

    def __init__(self, model: PreTrainedModel, tree: CandidateTree):
        self.config = model.config
        self.module = model.get_output_embeddings()
        self.tree = tree
        self._first_tokens = torch.tensor([path[0][1] for path in tree.terms])

    def scores(self, hidden: Tensor) -> Tensor:
        """Output of the last layer at the read positions (B, P, D) -> (B, C), up to a constant per record."""
        if len(self.tree) == 0:  # one token each: what all candidates share cancels in their softmax
            return self._logits(hidden[:, 0], self._first_tokens)
        logs = self._logits(hidden).log_softmax(dim=-1)  # (B, P, V)
        columns = [
            torch.stack([logs[:, place, token] for place, token in path]).mean(dim=0) for path in self.tree.terms
        ]
        return torch.stack(columns, dim=1)

    def _logits(self, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits of these tokens, all where left out, in float32 whatever the model's type.

        A half-precision logit of 20 comes in steps of 0.01 or 0.1, in which no derivative can be seen.
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
        """What some families do between head and softmax."""
        config = self.config
        logits = logits * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits
