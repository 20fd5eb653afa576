"""Greedy generation for a set of records: the same tokens as `model.generate`, many records at a time.

Records of about the same length go through the model together, padded on the left. Keys and values are kept, so each
further token costs one position a record; a record that has ended leaves its batch. What all prompts begin with is
computed once a call.

>>> generator = Generator(model, [[5, 6], [7]], Ending(50, frozenset({0}), lambda ids: 9 in ids))  # doctest: +SKIP
>>> generator.generate()                                                                          # doctest: +SKIP
[[3, 9], [4, 4, 9]]
"""

import copy
import hashlib
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

# A decoding step reads all weights for one position a record, so more records go together than in a forward pass: this
# many times `batch_tokens` positions of prompts.
WIDER = 8

SHORT_PREFIX = 16  # tokens that all prompts begin with, below which sharing them is not worth a copy of their keys


@dataclass(frozen=True)
class Ending:
    """When a record's generation ends.

    Attributes:
        most: tokens at most.
        tokens: an end-of-text token, any of these; it is not part of the result.
        reached: (tokens so far) -> whether the stop text is there; the token that brought it is part of the result.
    """

    most: int
    tokens: frozenset[int]
    reached: Callable[[list[int]], bool]


@dataclass
class _Rows:
    """Rows under way: what goes into the model next, and what it has seen.

    Attributes:
        ids: tokens that come next (B, W).
        mask: which positions, those that were seen before included, are no filling (B, S).
        positions: of `ids`, counted without filling (B, W).
        cache: keys and values of what was seen.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    cache: DynamicCache

    def follow(self, tokens: Tensor, kept: list[int]) -> None:
        """The next token of the rows that are kept (b,)."""
        if len(kept) < len(self.ids):
            rows = torch.tensor(kept, device=self.ids.device)
            self.cache.batch_select_indices(rows)
            self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(kept), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


class Generator:
    """One set of records under one model; each call generates with the weights as they stand.

    Its `scores` judge what was generated, so that an objective takes it in the place of a `Scorer`.

    Args:
        model: a transformers causal decoder, plain or wrapped by PEFT, in evaluation mode.
        prompts: R token sequences.
        ending: when a record ends.
        judge: (record, generated tokens) -> its score; without one `scores` is refused.
        batch_tokens: positions of a forward pass; `WIDER` times as many prompt positions go together.
        ranks: the processes that share the work; every one of them gets all results.
        engine: which fast paths may be used.
        progress: called with (records generated for, records in all) after every batch of this process.
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Sequence[int]],
        ending: Ending,
        *,
        judge: Callable[[int, list[int]], float] | None = None,
        batch_tokens: int = 512,
        group: ProcessGroup = SINGLE_PROCESS,
        engine: EngineConfig | None = None,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.model = plain(model)
        self.engine = engine or EngineConfig()
        self.prompts, self.ending, self.judge, self.group = [list(prompt) for prompt in prompts], ending, judge, group
        self.progress = progress
        self.records = len(prompts)
        self.device = next(self.model.parameters()).device
        shared = common_prefix(self.prompts) if self.engine.prefix else 0
        self.prefix = shared if shared >= SHORT_PREFIX else 0
        self.batches = _batches([len(prompt) - self.prefix for prompt in self.prompts], WIDER * batch_tokens)
        costs = [len(batch) * max(len(self.prompts[record]) for record in batch) for batch in self.batches]
        self._mine = [self.batches[index] for index in group.shard(costs)]
        positions = sum(map(len, self.prompts))
        self._mergeable = find_mergeable(self.model, positions=positions) if self.engine.merge else []
        self._takes = set(signature(type(self.model).forward).parameters)
        # Newer transformers call it by another name, and warn of the old one.
        self._cache = "cache" if "cache" in self._takes else "past_key_values"

    # -- what callers ask for ------------------------------------------------------------------------------------------

    def generate(self, wanted: np.ndarray | None = None) -> list[list[int]]:
        """Greedy tokens of every record, without the end-of-text token; of those that are not `wanted` (R,) none."""
        out = np.full((self.records, self.ending.most), -1, dtype=np.int64)
        for record, tokens in self._generated(wanted).items():
            out[record, : len(tokens)] = tokens
        whole = self.group.sum(out + 1) - 1
        return [[int(token) for token in row if token >= 0] for row in whole]

    def scores(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """What the judge says of each record's generated tokens, float64 (R, 1); of those not `wanted` 0."""
        if self.judge is None:
            raise PACZeroError("generation: no judge was given; expected one that scores what is generated")
        out = np.zeros((self.records, 1))
        for record, tokens in self._generated(wanted).items():
            out[record] = self.judge(record, tokens)
        return self.group.sum(out)

    @torch.inference_mode()
    def features(self) -> np.ndarray:
        """Output of the last layer at the end of each prompt, after the final norm: float32 (R, D)."""
        out = np.zeros((self.records, self.model.config.get_text_config().hidden_size), dtype=np.float32)
        with merging(self._mergeable):
            shared = self._shared()
            for batch in self._mine:
                rows = self._rows(batch, shared)
                hidden = self.model.base_model(**self._inputs(rows)).last_hidden_state[:, -1]
                out[batch] = hidden.float().cpu().numpy()
        return self.group.sum(out)

    def partition(self) -> str:
        """A hash of the batches, on whose bounds the last bits of logits depend."""
        digest = hashlib.sha256()
        for batch in self.batches:
            for record in batch:
                digest.update(np.array([record, *self.prompts[record]], dtype=np.int64).tobytes())
        return digest.hexdigest()

    @property
    def positions(self) -> int:
        """Token positions of the prompts, padding included."""
        widths = [max(len(self.prompts[record]) for record in batch) - self.prefix for batch in self.batches]
        return self.prefix + sum(len(batch) * width for batch, width in zip(self.batches, widths, strict=True))

    @property
    def merged_bytes(self) -> int:
        """What the sums of matrices and adapters take, in bytes."""
        return sum(layer.linear.weight.nbytes for layer in self._mergeable)

    def check(self) -> None:
        """Compares two records' tokens with the model's own forward pass (`self_check.check_generation`)."""
        batch = self.batches[-1]
        generated = self.generate(np.isin(np.arange(self.records), batch))
        for record in {int(batch[0]), int(batch[-1])}:
            if generated[record]:
                check_generation(self.model, self.prompts[record], generated[record])

    def sample(self) -> tuple[int, int]:
        """Generates for one batch of middling length, here alone: how many prompt positions and tokens that were."""
        batch = self.batches[len(self.batches) // 2]
        with torch.inference_mode(), merging(self._mergeable):
            found = self._run(batch, self._shared())
        positions = len(batch) * (max(len(self.prompts[record]) for record in batch) - self.prefix)
        return positions, sum(map(len, found.values()))

    # -- one batch -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _generated(self, wanted: np.ndarray | None) -> dict[int, list[int]]:
        """The tokens of those records of this rank that are wanted."""
        found: dict[int, list[int]] = {}
        with merging(self._mergeable):
            shared = self._shared()
            parts = [batch if wanted is None else batch[wanted[batch]] for batch in self._mine]
            for chosen in filter(len, parts):
                found |= self._run(chosen, shared)
                if self.progress is not None:
                    self.progress(len(found), sum(map(len, parts)))
        return found

    def _run(self, batch: np.ndarray, shared: DynamicCache | None) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {int(record): [] for record in batch}
        rows, going = self._rows(batch, shared), list(found)
        for _ in range(self.ending.most):
            best = self._logits(rows).argmax(dim=-1)
            kept = []
            for place, (record, token) in enumerate(zip(going, best.tolist(), strict=True)):
                if token in self.ending.tokens:
                    continue
                found[record].append(token)
                if len(found[record]) < self.ending.most and not self.ending.reached(found[record]):
                    kept.append(place)
            if not kept:
                break
            going = [going[place] for place in kept]
            rows.follow(best[torch.tensor(kept, device=best.device)], kept)
        return found

    def _shared(self) -> DynamicCache | None:
        """Keys and values of what all prompts begin with, with the weights as they stand."""
        if not self.prefix:
            return None
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([self.prompts[0][: self.prefix]], device=self.device)
        self.model.base_model(input_ids=ids, use_cache=True, **{self._cache: cache})
        return cache

    def _rows(self, batch: np.ndarray, shared: DynamicCache | None) -> _Rows:
        """The prompts of a batch behind what they share, padded on the left."""
        own = [self.prompts[record][self.prefix :] for record in batch]
        width = max(map(len, own))
        ids, real = np.zeros((len(own), width), dtype=np.int64), np.zeros((len(own), width), dtype=np.int64)
        for row, tokens in enumerate(own):
            ids[row, width - len(tokens) :] = tokens
            real[row, width - len(tokens) :] = 1
        positions = self.prefix + np.maximum(real.cumsum(axis=1) - 1, 0)
        mask = np.concatenate([np.ones((len(own), self.prefix), dtype=np.int64), real], axis=1)
        cache = DynamicCache(config=self.model.config)
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(own))
        placed = [torch.from_numpy(array).to(self.device) for array in (ids, mask, positions)]
        return _Rows(placed[0], placed[1], placed[2], cache)

    def _inputs(self, rows: _Rows) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": rows.ids, "attention_mask": rows.mask, "use_cache": True}
        inputs[self._cache] = rows.cache
        if "position_ids" in self._takes:
            inputs["position_ids"] = rows.positions
        return inputs

    def _logits(self, rows: _Rows) -> Tensor:
        """Of the next token (B, V), in float32 as `model.generate` compares them."""
        only = {"logits_to_keep": 1} if "logits_to_keep" in self._takes else {}
        return self.model(**self._inputs(rows), **only).logits[:, -1].float()


def _batches(lengths: Sequence[int], limit: int) -> list[np.ndarray]:
    """Records in ascending order of length, as many together as fit into `limit` positions with their padding."""
    order = np.argsort(np.array(lengths), kind="stable")
    batches: list[list[int]] = []
    for record in order.tolist():
        if not batches or (len(batches[-1]) + 1) * lengths[record] > limit:
            batches.append([])
        batches[-1].append(record)
    return [np.array(batch, dtype=np.int64) for batch in batches]
