"""Scores of every record's candidates, with as few token positions as the model allows.

Nothing is computed twice that stays the same: layers below the first trained one, and the frozen modules that take
their output, run once per record and what they gave is kept (`hidden.HiddenCache`). Nothing is computed that is not
read: the last layer is narrowed to the positions whose output is needed, and the head to the label words' rows.

>>> scorer = Scorer(model, batches, tree, first_layer=29, cache=HiddenCache(2**31, None))  # doctest: +SKIP
>>> scorer.scores().shape                                                                  # doctest: +SKIP
(600, 2)
"""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from paczero.config import EngineConfig
from paczero.data.batching import MicroBatch
from paczero.data.completions import Completions
from paczero.distributed.base import SINGLE_PROCESS, ProcessGroup
from paczero.engine.frozen_modules import (
    CachedInput,
    CachedOutput,
    IdentityLayer,
    ModuleSlot,
    constant_modules,
    kept,
    replaced,
    settled_modules,
)
from paczero.engine.heads import head_of
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.last_layer import CachedAttention, find_narrowing, gather, narrowed
from paczero.engine.lora_merge import find_mergeable, merging
from paczero.engine.packing import (
    KEPT_ROWS,
    Layout,
    flat,
    grouped,
    joined,
    layout_of,
    packed,
    packed_inputs,
    packed_reads,
    part_of,
)
from paczero.engine.self_check import check_scores
from paczero.models.layers import find_layers, plain
from paczero.models.offload import is_offloaded


@dataclass(frozen=True)
class Pass:
    """What goes through the model at once.

    Attributes:
        batch: the records.
        inputs: what the model is called with.
        reads: positions whose output is needed, as the model sees them.
        layout: which positions attend to which, where records are packed.
    """

    batch: MicroBatch
    inputs: dict[str, torch.Tensor | None]
    reads: torch.Tensor
    layout: Layout | None


class Scorer:
    """One set of records under one model; each call runs its fixed micro-batches with the weights as they stand.

    Args:
        model: a transformers causal decoder, plain or wrapped by PEFT, in evaluation mode.
        batches: the records' micro-batches; together they hold records 0 to R − 1.
        continuations: what may follow each record's prompt.
        first_layer: the lowest layer that training can change; what lies below is cached.
        cache: where the hidden states below it stay.
        progress: called with (batches done, batches in all) while the cache is built.
        ranks: the processes that share the work; every one of them gets all results.
        engine: which fast paths may be used.
        sample_of: the micro-batches that these stand for, where they are a sample to be timed.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: list[MicroBatch],
        continuations: Completions,
        *,
        first_layer: int = 0,
        cache: HiddenCache | None = None,
        progress: Callable[[int, int], None] | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
        engine: EngineConfig | None = None,
        sample_of: list[MicroBatch] | None = None,
    ):
        self.model = plain(model)
        self.engine = engine or EngineConfig()
        self.batches, self.continuations, self.group = batches, continuations, group
        self.records = sum(len(batch.records) for batch in batches)
        self.found = find_layers(model)
        self.device = next(self.model.parameters()).device
        self._head = head_of(self.model, continuations)
        self.first_layer = first_layer if self.engine.cache else 0
        narrowing = find_narrowing(self.found.layers[-1], self.model) if self.engine.narrowing else None
        self._narrowing = narrowing
        self.cache = cache if self.first_layer > 0 else None
        # Attention is kept whole where nothing in it changes; the cache then has the read positions only.
        alone = self.cache is not None and self.first_layer == len(self.found.layers) - 1
        self._still = alone and narrowing is not None and narrowing.still
        groups = grouped(batches) if self._still else [[batch] for batch in batches]
        mine = group.shard([sum(batch.positions for batch in members) for members in groups])
        self._members = [groups[index] for index in mine]
        self._passes = [joined(members) if self._still else members[0] for members in self._members]
        self._constant: list[ModuleSlot] = []
        self._attention = CachedAttention(narrowing.projection) if narrowing is not None and self._still else None
        if self.cache is not None and self._passes:
            self._fill_cache(self.cache, progress)
            self._settle(self.cache)
        given = {id(site.module) for site in self._constant}
        positions = sum(int(batch.starts[-1]) if self._still else batch.positions for batch in sample_of or batches)
        self._mergeable = (
            find_mergeable(self.model, positions=positions, skip=lambda base: id(base) in given)
            if self.engine.merge
            else []
        )

    # -- what callers ask for ------------------------------------------------------------------------------------------

    def scores(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """Mean token log-probability of every continuation, of label words up to a constant per record.

        Args:
            wanted: records to score (R,) bool; all where left out. The others' rows are not computed and stay 0.

        Returns:
            float64 (R, C).
        """
        out = np.zeros((self.records, self.continuations.columns))
        for batch, hidden in self._outputs(wanted):
            out[batch.records] = self._head.scores(hidden, batch).double().cpu().numpy()
        return self.group.sum(out)

    def features(self) -> np.ndarray:
        """Output of the last layer at the end of each prompt, after the final norm: float32 (R, D)."""
        out = np.zeros((self.records, self.model.config.get_text_config().hidden_size), dtype=np.float32)
        for batch, hidden in self._outputs(None):
            out[batch.records] = hidden[torch.from_numpy(batch.starts[:-1])].float().cpu().numpy()
        return self.group.sum(out)

    def partition(self) -> str:
        """A hash of the micro-batches, on whose bounds the last bits of scores depend."""
        digest = hashlib.sha256()
        for batch in self.batches:
            digest.update(batch.records.tobytes() + batch.input_ids.tobytes())
        return digest.hexdigest()

    @property
    def positions(self) -> int:
        """Token positions that one pass runs through the trained layers, padding included."""
        return sum(batch.positions for batch in self.batches)

    @property
    def tokens(self) -> int:
        """The same without padding."""
        return sum(batch.tokens for batch in self.batches)

    def fill_up(self) -> int:
        """Repeats a lone micro-batch until a pass is full, so that its time says what a large pool's takes.

        Returns:
            How many times the rows are there now; 1 where a pass holds no more than a micro-batch.
        """
        times = KEPT_ROWS // int(self.batches[0].starts[-1]) if self._still else 1
        if times > 1 and self.cache is not None:
            self._passes = [joined(self.batches * times)]
            along = int(self._passes[0].packed)
            self.cache.states = [[torch.cat([state] * times, dim=along) for state in self.cache.states[0]]]
        return max(times, 1)

    def paths(self) -> dict[str, str]:
        """The fast paths that this model and these records allow, and what each of them does here."""
        said = {}
        if self.cache is not None:
            also = " and attention's output above them" if self._still else ""
            also += f" and that of {len(self._constant)} frozen modules" if self._still and self._constant else ""
            said["cache"] = (
                f"{self.first_layer} of {len(self.found.layers)} layers run once; their output{also} is kept"
            )
        if self.batches and self.batches[0].packed:
            said["packing"] = "records lie end to end, no padding"
        if self.batches and self.batches[0].prefix:
            said["prefix"] = f"{self.batches[0].prefix} tokens that all prompts begin with, once a micro-batch"
        if self._narrowing is not None:
            said["narrowing"] = "behind attention the last layer runs where it is read"
        if self._mergeable:
            said["merge"] = f"{len(self._mergeable)} adapters are added to their matrices before a pass"
        if waiting := sum(is_offloaded(layer) for layer in self.found.layers):
            said["offload"] = f"{waiting} of {len(self.found.layers)} layers wait, and come when it is their turn"
        return said

    @property
    def merged_bytes(self) -> int:
        """What the sums of matrices and adapters take, in bytes."""
        return sum(layer.linear.weight.nbytes for layer in self._mergeable)

    def check(self) -> None:
        """Compares two records' scores with the model's own forward pass (`selfcheck.check_scores`)."""
        check_scores(self)

    # -- one pass ------------------------------------------------------------------------------------------------------

    def _outputs(self, wanted: np.ndarray | None) -> Iterator[tuple[MicroBatch, torch.Tensor]]:
        """Per pass the records and the model's output at the positions that are read, those of all rows (n, D)."""
        with torch.inference_mode(), merging(self._mergeable), self._standing_in() as stand_ins:
            for index, batch in enumerate(self._passes):
                rows = None if wanted is None else np.flatnonzero(wanted[batch.records])
                if rows is not None and len(rows) == 0:
                    continue
                states = self.cache.states[index] if self.cache is not None else []
                chosen = batch
                if rows is not None and len(rows) < len(batch.records):
                    chosen = batch.take(rows)
                    states = [part_of(state, batch, rows) for state in states]
                for stand_in, state in zip(stand_ins, states, strict=True):
                    stand_in.output = state.to(self.device)  # beyond the cache's limit they lie in host memory
                yield chosen, self._run(self._prepared(chosen))

    def _run(self, one: Pass) -> torch.Tensor:
        with packed(self.model, one.layout):
            if self._narrowing is None:
                return flat(gather(self._decode(one.inputs), one.reads), one.batch)
            if self._still:
                return flat(self._decode(one.inputs), one.batch)
            with narrowed(self.found.layers[-1], self._narrowing, one.reads):
                return flat(self._decode(one.inputs), one.batch)

    def _decode(self, inputs: dict[str, torch.Tensor | None]) -> torch.Tensor:
        return self.model.base_model(**inputs, use_cache=False).last_hidden_state

    # -- shortcuts -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _standing_in(self) -> Iterator[list[CachedOutput | CachedInput]]:
        """Puts the cache in the place of all that stays the same, for as long as the context lasts."""
        if self.cache is None:
            yield []
            return
        given, skipped = CachedOutput(), [IdentityLayer() for _ in range(self.first_layer - 1)]
        layers = [given, *skipped, *self.found.layers[self.first_layer :]]
        sites = list(self._constant)
        stand_ins: list[CachedOutput | CachedInput] = [site.stand_in() for site in sites]
        if self._attention is not None and self._narrowing is not None:
            sites, stand_ins = [self._narrowing.attention, *sites], [self._attention, *stand_ins]
        with self._layers(layers), replaced(sites, stand_ins):
            yield [given, *stand_ins]

    @contextlib.contextmanager
    def _layers(self, layers: list[nn.Module]) -> Iterator[None]:
        setattr(self.found.parent, self.found.attribute, nn.ModuleList(layers))
        try:
            yield
        finally:
            setattr(self.found.parent, self.found.attribute, self.found.layers)

    @torch.inference_mode()
    def _fill_cache(self, cache: HiddenCache, progress: Callable[[int, int], None] | None) -> None:
        first = self.found.layers[self.first_layer]
        if not self._still:
            self._constant = constant_modules(first, lambda: self._below(self._prepared(self._passes[0])))
        above = (IdentityLayer() for _ in range(len(self.found.layers) - self.first_layer - 1))
        done, of = 0, sum(map(len, self._members))

        def compute(index: int) -> list[torch.Tensor]:
            nonlocal done
            parts, whole = [], self._passes[index]
            for batch in self._members[index]:
                one = self._prepared(batch)
                with self._keeping(first, one) as states:
                    self._below(one)
                parts.append([flat(state, batch) for state in states] if self._still else states)
                done += 1
                if progress is not None:
                    progress(done, of)
            if not self._still:
                return parts[0]
            rows = (1, -1) if whole.packed else whole.reads.shape
            return [torch.cat(same).view(*rows, same[0].shape[-1]) for same in zip(*parts, strict=True)]

        with self._layers([*self.found.layers[: self.first_layer], first, *above]):
            cache.fill(self._key(), [batch.positions for batch in self._passes], compute, self.device)

    @torch.inference_mode()
    def _settle(self, cache: HiddenCache) -> None:
        """Behind attention that is kept, keeps also what frozen modules give, where memory allows.

        Made anew at each start: it takes one pass through the last layer alone.
        """
        if not self._still:
            return
        layer = self.found.layers[-1]
        with self._standing_in() as stand_ins:

            def run(index: int) -> None:
                for stand_in, state in zip(stand_ins, cache.states[index], strict=True):
                    stand_in.output = state.to(self.device)
                self._decode(self._prepared(self._passes[index]).inputs)

            sites = settled_modules(layer, lambda: run(0))
            with kept(layer, sites) as found:
                run(0)
            first = cache.states[0][0]  # what a family lays out otherwise cannot be cut to some records alike
            alike = [state.shape[:-1] == first.shape[:-1] for state in found[1:]]
            sites = list(itertools.compress(sites, alike))
            width = sum(state.shape[-1] for state in [*cache.states[0], *itertools.compress(found[1:], alike)])
            rows = sum(states[0].shape[:-1].numel() for states in cache.states)
            if rows * width * first.element_size() > cache.limit:
                return
            for index, states in enumerate(cache.states):
                with kept(layer, sites) as found:
                    run(index)
                cache.states[index] = [*states, *found[1:]]
        self._constant = sites

    def _key(self) -> dict[str, Any]:
        """All that the kept states depend on beside the base model."""
        digest = hashlib.sha256()
        for members in self._members:
            for batch in members:
                for array in (batch.records, batch.input_ids, batch.lengths, batch.reads):
                    digest.update(repr(array.shape).encode() + array.tobytes())
        first = self.found.layers[self.first_layer]
        return {
            "records": digest.hexdigest(),
            "joined": [len(members) for members in self._members],
            "packed": [self.batches[0].packed, self.batches[0].prefix],
            "first_layer": self.first_layer,
            "still": self._still,
            "trained": [name for name, parameter in first.named_parameters() if parameter.requires_grad],
            "model": [type(self.model).__name__, str(self.model.dtype), self.device.type],
            "versions": [torch.__version__, transformers.__version__],
        }

    def _below(self, one: Pass) -> None:
        with packed(self.model, one.layout):
            self._decode(one.inputs)

    def _keeping(self, first: nn.Module, one: Pass) -> AbstractContextManager[list[torch.Tensor]]:
        """A list of what stays the same, filled by a forward pass: first what stands in for the layers below."""
        if self._still and self._narrowing is not None:
            return narrowed(first, self._narrowing, one.reads)
        return kept(first, self._constant)

    def _prepared(self, batch: MicroBatch) -> Pass:
        """A micro-batch on the device, for the time of its use: masks of long records would fill the memory."""
        if batch.packed:
            reads = torch.from_numpy(packed_reads(batch)[batch.real_reads][None]).to(self.device)
            return Pass(
                batch, packed_inputs(batch, self.device), reads, layout_of(batch, self.device, self.model.dtype)
            )
        mask = None
        if batch.visible is not None:
            blocked = torch.from_numpy(~batch.visible)[:, None]  # (B, 1, S, S)
            low = torch.finfo(self.model.dtype).min
            mask = torch.zeros(blocked.shape, dtype=self.model.dtype).masked_fill_(blocked, low).to(self.device)
        positions = None if batch.position_ids is None else torch.from_numpy(batch.position_ids).to(self.device)
        inputs = {
            "input_ids": torch.from_numpy(batch.input_ids).to(self.device),
            "attention_mask": mask,
            "position_ids": positions,
        }
        return Pass(batch, inputs, torch.from_numpy(batch.reads).to(self.device), None)
