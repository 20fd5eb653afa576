"""Greedy generation for a set of records: the same tokens as `model.generate`, many records at a time.

Records of about the same length go through the model together, padded on the left. Keys and values are kept, so each
further token costs one position a record; a record that has ended leaves its batch. A prefix that all prompts share is
computed once a call.

    generator = Generator(model, [[5, 6], [7]], StopCondition(50, frozenset({0}), lambda ids: 9 in ids))
    generator.generate()                                                    # [[3, 9], [4, 4, 9]]
"""

import copy
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from paczero.config import EngineConfig
from paczero.data.batching import common_prefix
from paczero.distributed.base import SINGLE_PROCESS, ProcessGroup
from paczero.engine.lora_merge import find_mergeable, merging
from paczero.engine.self_check import check_generation
from paczero.errors import PACZeroError
from paczero.models.layers import plain

# A decoding step reads all weights for one position a record, so a batch holds more records than in a forward pass:
# this many times `batch_tokens` positions of prompts.
BATCH_FACTOR = 8

SHORT_PREFIX = 16  # shared prefixes below so many tokens are not worth a copy of their keys


@dataclass(frozen=True)
class StopCondition:
    """When a record's generation ends.

    Attributes:
        max_tokens: tokens at most.
        eos_tokens: end-of-text tokens; they are not part of the result.
        reached: (tokens so far) -> whether they contain the stop text; its last token is part of the result.
    """

    max_tokens: int
    eos_tokens: frozenset[int]
    reached: Callable[[list[int]], bool]


@dataclass
class _Rows:
    """Rows of a batch that is being generated.

    Attributes:
        cache: keys and values of the earlier positions.
        ids: the next input tokens (B, W).
        mask: 1 at positions that are no padding, earlier ones included (B, S).
        positions: of `ids`, without padding (B, W).
    """

    cache: DynamicCache
    ids: Tensor
    mask: Tensor
    positions: Tensor

    def follow(self, tokens: Tensor, kept: list[int]) -> None:
        """Continues the kept rows with their next tokens (b,)."""
        if len(kept) < len(self.ids):
            rows = torch.tensor(kept, device=self.ids.device)
            self.cache.batch_select_indices(rows)
            self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(kept), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


class Generator:
    """Generates for one set of records under one model; each call uses the current weights.

    Its `scores` are those of the generated text, so an objective can use it instead of a `Scorer`.

    Args:
        model: a transformers causal decoder, plain or wrapped by PEFT, in evaluation mode.
        prompts: R token sequences.
        ending: when a record ends.
        metric: (record, generated tokens) -> score; `scores` needs it.
        batch_tokens: positions of a forward pass; a batch holds `BATCH_FACTOR` times as many prompt positions.
        group: the processes that share the work; each gets all results.
        engine: the fast paths that may be used.
        progress: called with (records done, total) after every batch of this process.
        isolated: each record alone, so that what is generated of it is a function of that record.
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Sequence[int]],
        ending: StopCondition,
        *,
        metric: Callable[[int, list[int]], float] | None = None,
        batch_tokens: int = 512,
        group: ProcessGroup = SINGLE_PROCESS,
        engine: EngineConfig | None = None,
        progress: Callable[[int, int], None] | None = None,
        isolated: bool = False,
    ):
        self.model = plain(model)
        self.engine = engine or EngineConfig()
        self.prompts, self.ending, self.metric, self.group = [list(prompt) for prompt in prompts], ending, metric, group
        self.progress = progress
        self.records = len(prompts)
        self.device = next(self.model.parameters()).device
        shared = common_prefix(self.prompts) if self.engine.prefix and not isolated else 0
        self.prefix = shared if shared >= SHORT_PREFIX else 0
        limit = 0 if isolated else BATCH_FACTOR * batch_tokens
        self.batches = _batches([len(prompt) - self.prefix for prompt in self.prompts], limit)
        costs = [len(batch) * max(len(self.prompts[record]) for record in batch) for batch in self.batches]
        self._shard = [self.batches[index] for index in group.shard(costs)]
        positions = sys.maxsize if isolated else sum(map(len, self.prompts))
        self._mergeable = find_mergeable(self.model, positions=positions) if self.engine.merge else []
        self._takes = set(signature(type(self.model).forward).parameters)
        # Newer transformers renamed it, and warn about the old name.
        self._cache = "cache" if "cache" in self._takes else "past_key_values"

    # -- results ------------------------------------------------------------------------------------------------------

    def generate(self, wanted: np.ndarray | None = None) -> list[list[int]]:
        """Greedy tokens of every record, without the end-of-text token; none for records that are not `wanted` (R,)."""
        out = np.full((self.records, self.ending.max_tokens), -1, dtype=np.int64)
        for record, tokens in self._generated(wanted).items():
            out[record, : len(tokens)] = tokens
        whole = self.group.sum(out + 1) - 1
        return [[int(token) for token in row if token >= 0] for row in whole]

    def scores(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """The metric of each record's generated tokens, float64 (R, 1); 0 for records that are not `wanted` (R,)."""
        if self.metric is None:
            raise PACZeroError("generation: no metric was given; expected one that scores what is generated")
        out = np.zeros((self.records, 1))
        for record, tokens in self._generated(wanted).items():
            out[record] = self.metric(record, tokens)
        return self.group.sum(out)

    @torch.inference_mode()
    def features(self) -> np.ndarray:
        """Output of the final norm at the last token of each prompt: float32 (R, D)."""
        out = np.zeros((self.records, self.model.config.get_text_config().hidden_size), dtype=np.float32)
        with merging(self._mergeable):
            shared = self._shared()
            for batch in self._shard:
                rows = self._rows(batch, shared)
                hidden = self.model.base_model(**self._inputs(rows)).last_hidden_state[:, -1]
                out[batch] = hidden.float().cpu().numpy()
        return self.group.sum(out)

    def partition(self) -> str:
        """SHA-256 (hex) of the batches; the last bits of logits depend on them."""
        digest = hashlib.sha256()
        for batch in self.batches:
            for record in batch:
                digest.update(np.array([record, *self.prompts[record]], dtype=np.int64).tobytes())
        return digest.hexdigest()

    @property
    def positions(self) -> int:
        """Token positions of the prompts, padding included."""
        return self.prefix + sum(map(self._own_positions, self.batches))

    def _own_positions(self, batch: np.ndarray) -> int:
        """Positions of a batch's prompts behind the prefix, padding included."""
        return len(batch) * (max(len(self.prompts[record]) for record in batch) - self.prefix)

    def check(self) -> None:
        """Compares two records' tokens with the model's own forward pass (`self_check.check_generation`)."""
        batch = self.batches[-1]
        generated = self.generate(np.isin(np.arange(self.records), batch))
        for record in {int(batch[0]), int(batch[-1])}:
            if generated[record]:
                check_generation(self.model, self.prompts[record], generated[record])

    def sample(self) -> tuple[int, int]:
        """Generates for one batch of median length, on this rank only; returns its prompt positions and new tokens."""
        batch = self.batches[len(self.batches) // 2]
        with torch.inference_mode(), merging(self._mergeable):
            found = self._run(batch, self._shared())
        return self._own_positions(batch), sum(map(len, found.values()))

    # -- one batch -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _generated(self, wanted: np.ndarray | None) -> dict[int, list[int]]:
        """The tokens of the wanted records of this rank."""
        found: dict[int, list[int]] = {}
        with merging(self._mergeable):
            shared = self._shared()
            parts = [batch if wanted is None else batch[wanted[batch]] for batch in self._shard]
            for chosen in filter(len, parts):
                found |= self._run(chosen, shared)
                if self.progress is not None:
                    self.progress(len(found), sum(map(len, parts)))
        return found

    def _run(self, batch: np.ndarray, shared: DynamicCache | None) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {int(record): [] for record in batch}
        rows, active = self._rows(batch, shared), list(found)
        for _ in range(self.ending.max_tokens):
            best = self._logits(rows).argmax(dim=-1)
            kept = []
            for row, (record, token) in enumerate(zip(active, best.tolist(), strict=True)):
                if token in self.ending.eos_tokens:
                    continue
                found[record].append(token)
                if len(found[record]) < self.ending.max_tokens and not self.ending.reached(found[record]):
                    kept.append(row)
            if not kept:
                break
            active = [active[row] for row in kept]
            rows.follow(best[torch.tensor(kept, device=best.device)], kept)
        return found

    def _shared(self) -> DynamicCache | None:
        """Keys and values of the shared prefix, with the current weights."""
        if not self.prefix:
            return None
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([self.prompts[0][: self.prefix]], device=self.device)
        self.model.base_model(input_ids=ids, use_cache=True, **{self._cache: cache})
        return cache

    def _rows(self, batch: np.ndarray, shared: DynamicCache | None) -> _Rows:
        """The prompts of a batch behind the shared prefix, padded on the left."""
        own = [self.prompts[record][self.prefix :] for record in batch]
        width = max(map(len, own))
        ids, real = np.zeros((2, len(own), width), dtype=np.int64)
        for row, tokens in enumerate(own):
            ids[row, width - len(tokens) :] = tokens
            real[row, width - len(tokens) :] = 1
        positions = self.prefix + np.maximum(real.cumsum(axis=1) - 1, 0)
        mask = np.concatenate([np.ones((len(own), self.prefix), dtype=np.int64), real], axis=1)
        cache = DynamicCache(config=self.model.config)
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(own))
        return _Rows(cache, *(torch.from_numpy(array).to(self.device) for array in (ids, mask, positions)))

    def _inputs(self, rows: _Rows) -> dict[str, Any]:
        inputs = {"input_ids": rows.ids, "attention_mask": rows.mask, "use_cache": True, self._cache: rows.cache}
        return inputs | ({"position_ids": rows.positions} if "position_ids" in self._takes else {})

    def _logits(self, rows: _Rows) -> Tensor:
        """Logits of the next token (B, V), in float32 as in `model.generate`."""
        only = {"logits_to_keep": 1} if "logits_to_keep" in self._takes else {}
        return self.model(**self._inputs(rows), **only).logits[:, -1].float()


def _batches(lengths: Sequence[int], limit: int) -> list[np.ndarray]:
    """Batches of records in ascending order of length, each of at most `limit` positions with padding."""
    order = np.argsort(np.array(lengths), kind="stable")
    batches: list[list[int]] = []
    for record in order.tolist():
        if not batches or (len(batches[-1]) + 1) * lengths[record] > limit:
            batches.append([])
        batches[-1].append(record)
    return [np.array(batch, dtype=np.int64) for batch in batches]
