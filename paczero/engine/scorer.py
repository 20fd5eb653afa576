"""Scores of every record's candidates, with as few token positions as the model allows.

Layers below the first trained one, and the frozen modules that read their output, run once per record; their output
is kept in a `HiddenCache`. The last layer runs at the positions whose output is read, and the head computes the rows
of the label words.

    scorer = Scorer(model, batches, tree, first_layer=29, cache=HiddenCache(2**31, None))
    scorer.scores()                                                      # float64 (600, 2)
"""

import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
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
    recorded,
    replaced,
    skippable_modules,
)
from paczero.engine.heads import head_of
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.isolation import (
    ALL_LAYERS,
    LAST_LAYERS,
    READS,
    Block,
    blocks,
    by_record,
    joined,
    joined_states,
    records_a_block,
    state_reader,
)
from paczero.engine.last_layer import Narrowing, find_narrowing, gather, narrowed
from paczero.engine.lora_merge import Mergeable, find_mergeable, merging
from paczero.engine.packing import (
    LAST_LAYER_ROWS,
    PackedLayout,
    group_batches,
    layout_of,
    merge_batches,
    packed,
    packed_inputs,
    packed_reads,
    select_rows,
    unpadded,
)
from paczero.engine.self_check import check_scores
from paczero.models.layers import find_layers, plain
from paczero.models.offload import is_offloaded


@dataclass(frozen=True)
class ModelInputs:
    """A micro-batch as arguments of the model.

    Attributes:
        batch: the records.
        inputs: keyword arguments of the model.
        reads: positions whose output is needed, in the model's sequence (B, P).
        layout: which positions attend to which, for packed records.
    """

    batch: MicroBatch
    inputs: dict[str, torch.Tensor | None]
    reads: torch.Tensor
    layout: PackedLayout | None


class Scorer:
    """Scores one set of records under one model; each call uses the current weights and the same micro-batches.

    Args:
        model: a transformers causal decoder, plain or wrapped by PEFT, in evaluation mode.
        batches: the records' micro-batches; together they hold records 0 to R − 1.
        completions: the tokens that may follow each record's prompt.
        first_layer: the lowest layer that training can change; the layers below it are cached.
        cache: keeps the hidden states below it.
        progress: called with (batches done, total) while the cache is built.
        group: the processes that share the work; each gets all results.
        engine: the fast paths that may be used.
        sample_of: all micro-batches of the run, where `batches` is a sample that is timed.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: list[MicroBatch],
        completions: Completions,
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
        self.batches, self.completions, self.group = batches, completions, group
        self.records = sum(len(batch.records) for batch in batches)
        self.isolated = bool(batches) and batches[0].isolated
        self.found = find_layers(model)
        self.device = next(self.model.parameters()).device
        self._head = head_of(self.model, completions)
        self.first_layer = first_layer if self.engine.cache else 0
        self.cache = cache if self.first_layer > 0 else None
        narrowing = find_narrowing(self.found.layers[-1], self.model) if self.engine.narrowing else None
        self._narrowing = narrowing
        # Where nothing in attention trains, its output is cached, at the read positions only.
        only_last = self.cache is not None and self.first_layer == len(self.found.layers) - 1
        self._attention: Narrowing | None = None
        self._constant: list[ModuleSlot] = []  # the modules whose output is cached
        self._unmerged: list[ModuleSlot] = []  # those whose output could be, where memory allows
        if only_last and narrowing is not None and narrowing.attention_frozen:
            self._attention, self._constant = narrowing, [narrowing.cached_attention()]
        merged = self._attention is not None and not self.isolated
        groups = group_batches(batches) if merged else [[batch] for batch in batches]
        shard = group.shard([sum(batch.positions for batch in members) for members in groups])
        if self.isolated:  # records that share a block lie behind one another
            shard = [index for block in blocks(batches, shard) for index in block if index is not None]
        self._members = [groups[index] for index in shard]
        self._passes = [merge_batches(members) if merged else members[0] for members in self._members]
        if self.cache is not None and self._passes:
            self._fill_cache(self.cache, progress)
            if self._attention:
                self._cache_skippable(self.cache)
        self._mergeable: list[Mergeable] = []
        if self.engine.merge:
            constant = {id(slot.module) for slot in [*self._constant, *self._unmerged]}
            positions = sum(int(b.starts[-1]) if self._attention else b.positions for b in sample_of or batches)
            positions = sys.maxsize if self.isolated else positions
            self._mergeable = find_mergeable(self.model, positions=positions, skip=lambda base: id(base) in constant)

    # -- results ------------------------------------------------------------------------------------------------------

    def scores(
        self, wanted: np.ndarray | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Mean token log-probability of every completion; of label words, up to a constant per record.

        Args:
            wanted: records to score (R,) bool; all by default. The rows of others are not computed and stay 0.
            progress: called with (records scored, R) after each pass.

        Returns:
            float64 (R, C).
        """
        out = np.zeros((self.records, self.completions.columns))
        done = 0
        for batch, hidden in self._outputs(wanted):
            records = batch.records[batch.real_rows]
            out[records] = self._head.scores(hidden, batch).double().cpu().numpy()[batch.real_rows]
            done += len(records)
            if progress is not None:
                progress(done, self.records)
        return self.group.sum(out)

    def features(self) -> np.ndarray:
        """Output of the final norm at the last token of each prompt: float32 (R, D)."""
        out = np.zeros((self.records, self.model.config.get_text_config().hidden_size), dtype=np.float32)
        for batch, hidden in self._outputs(None):
            ends = hidden[torch.from_numpy(batch.starts[:-1])].float().cpu().numpy()
            out[batch.records[batch.real_rows]] = ends[batch.real_rows]
        return self.group.sum(out)

    def partition(self) -> str:
        """SHA-256 (hex) of the micro-batches; the last bits of scores depend on them."""
        digest = hashlib.sha256()
        for batch in self.batches:
            digest.update(batch.records.tobytes() + batch.input_ids.tobytes())
        return digest.hexdigest()

    def fill_up(self) -> int:
        """Repeats a single micro-batch until a pass is full, so that its time predicts that of a large pool.

        Returns:
            How many times the rows are repeated; 1 where a pass holds one micro-batch.
        """
        if self.isolated:  # a block takes as long with one record
            return records_a_block(self.batches[0], self._block_size, reads_only=self._attention is not None)
        if self._attention is None or self.cache is None:
            return 1
        times = max(1, LAST_LAYER_ROWS // int(self.batches[0].starts[-1]))
        self._passes = [merge_batches(self.batches * times)]
        along = int(self._passes[0].packed)
        self.cache.states = [[torch.cat([state] * times, dim=along) for state in self.cache.states[0]]]
        return times

    def paths(self) -> dict[str, str]:
        """The fast paths in use -> what each does here."""
        paths = {}
        if self.cache is not None:
            also = " and attention's output above them" if self._attention else ""
            if self._attention and len(self._constant) > 1:
                also += f" and that of {len(self._constant) - 1} frozen modules"
            paths["cache"] = (
                f"{self.first_layer} of {len(self.found.layers)} layers run once; their output{also} is kept"
            )
        if self.isolated:
            paths["isolation"] = "records lie in blocks of fixed shape, where none changes what is computed of another"
        if self.batches and self.batches[0].packed:
            paths["packing"] = "records lie end to end, no padding"
        if self.batches and self.batches[0].prefix:
            paths["prefix"] = f"{self.batches[0].prefix} tokens that all prompts begin with, once a micro-batch"
        if self._narrowing is not None:
            paths["narrowing"] = "behind attention the last layer runs where it is read"
        if self._mergeable:
            paths["merge"] = f"{len(self._mergeable)} adapters are added to their matrices before a pass"
        if waiting := sum(is_offloaded(layer) for layer in self.found.layers):
            paths["offload"] = f"{waiting} of {len(self.found.layers)} layers wait, and come when it is their turn"
        return paths

    @property
    def merged_bytes(self) -> int:
        """Bytes of the matrices that adapters are merged into."""
        return sum(layer.linear.weight.nbytes for layer in self._mergeable)

    def check(self) -> None:
        """Compares two records' scores with the model's own forward pass (`self_check.check_scores`)."""
        batch = self.batches[-1]
        scores = self.scores(np.isin(np.arange(self.records), batch.records))
        for row in {0, len(batch.records) - 1}:
            record = batch.records[row]
            prompt = batch.input_ids[row, : int(batch.reads[row, 0]) + 1].tolist()
            completions = [self.completions.follows(record, column) for column in range(self.completions.columns)]
            check_scores(self.model, prompt, completions, scores[record], relative=self.completions.relative)

    # -- one pass ------------------------------------------------------------------------------------------------------

    def _outputs(self, wanted: np.ndarray | None) -> Iterator[tuple[MicroBatch, torch.Tensor]]:
        """For each pass: the records, and the model's output at the read positions of all rows (n, D)."""
        with torch.inference_mode(), merging(self._mergeable), self._cached_modules() as replacements:
            for batch, states, _ in self._work(wanted):
                self._give(replacements, states)
                yield batch, self._run(self._prepared(batch))

    def _work(self, wanted: np.ndarray | None) -> Iterator[tuple[MicroBatch, list[torch.Tensor], Block]]:
        """What goes through the model together: records, their cached states, and the indices of both."""
        kept = self.cache.states if self.cache is not None else [[] for _ in self._passes]
        if self.isolated:
            only = self._attention is not None
            chosen = [i for i, batch in enumerate(self._passes) if wanted is None or wanted[batch.records[0]]]
            for block in blocks(self._passes, chosen, self._block_size, reads_only=only):
                yield joined(self._passes, block, reads_only=only), joined_states(kept, block), block
            return
        for index, batch in enumerate(self._passes):
            rows = None if wanted is None else np.flatnonzero(wanted[batch.records])
            if rows is None or len(rows) == len(batch.records):
                yield batch, kept[index], (index,)
            elif len(rows):
                yield batch.take(rows), [select_rows(state, batch, rows) for state in kept[index]], (index,)

    @property
    def _block_size(self) -> int:
        """Positions of a block in a step's passes."""
        if self._attention is not None:
            return READS
        return ALL_LAYERS if self.cache is None else LAST_LAYERS

    def _give(self, replacements: list[CachedOutput | CachedInput], states: list[torch.Tensor]) -> None:
        for replacement, state in zip(replacements, states, strict=True):
            replacement.output = state.to(self.device)  # states beyond the limit lie in host memory

    def _run(self, prepared: ModelInputs) -> torch.Tensor:
        with packed(self.model, prepared.layout):
            if self._narrowing is None:
                return unpadded(gather(self._decode(prepared.inputs), prepared.reads), prepared.batch)
            if self._attention:
                return unpadded(self._decode(prepared.inputs), prepared.batch)
            with narrowed(self.found.layers[-1], self._narrowing, prepared.reads):
                return unpadded(self._decode(prepared.inputs), prepared.batch)

    def _decode(self, inputs: dict[str, torch.Tensor | None]) -> torch.Tensor:
        return self.model.base_model(**inputs, use_cache=False).last_hidden_state

    # -- the cache -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _cached_modules(self) -> Iterator[list[CachedOutput | CachedInput]]:
        """Replaces all modules whose output is cached, for as long as the context lasts; yields the replacements."""
        if self.cache is None:
            yield []
            return
        below, skipped = CachedOutput(), [IdentityLayer() for _ in range(self.first_layer - 1)]
        layers = [below, *skipped, *self.found.layers[self.first_layer :]]
        replacements = [slot.replacement() for slot in self._constant]
        with self._layers(layers), replaced(self._constant, replacements):
            yield [below, *replacements]

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
        above = (IdentityLayer() for _ in range(len(self.found.layers) - self.first_layer - 1))
        done, total = 0, sum(map(len, self._members))

        def run(prepared: ModelInputs) -> None:
            with packed(self.model, prepared.layout):
                self._decode(prepared.inputs)

        def computed(batch: MicroBatch) -> list[torch.Tensor]:
            nonlocal done
            prepared, attention = self._prepared(batch), self._attention
            recording = narrowed(first, attention, prepared.reads) if attention else recorded(first, self._constant)
            with recording as states:
                run(prepared)
            done += int(batch.real_rows.sum()) if self.isolated else 1
            if progress is not None:
                progress(done, total)
            return states

        def compute(index: int) -> list[torch.Tensor]:
            whole, members = self._passes[index], self._members[index]
            if self._attention is None:
                return computed(whole)
            parts = [[unpadded(state, batch) for state in computed(batch)] for batch in members]
            rows = (1, -1) if whole.packed else whole.reads.shape
            return [torch.cat(same).view(*rows, same[0].shape[-1]) for same in zip(*parts, strict=True)]

        if self._attention is None:
            self._constant = constant_modules(first, lambda: run(self._prepared(self._passes[0])))
        with self._layers([*self.found.layers[: self.first_layer], first, *above]):
            key, names = self._key(), None
            get: Callable[[int], list[torch.Tensor]] = compute
            if self.isolated:  # their states do not depend on the other records
                kind = {name: value for name, value in key.items() if name not in ("records", "joined")}
                names = cache.names(kind, [_digest([batch]) for batch in self._passes])
                get = state_reader(self._passes, cache, names, computed)
            cache.fill(key, len(self._passes), get, self.device, names)

    @torch.inference_mode()
    def _cache_skippable(self, cache: HiddenCache) -> None:
        """Caches the output of frozen modules behind cached attention too, where memory allows.

        Computed at each start: it takes one pass through the last layer.
        """
        layer = self.found.layers[-1]
        with self._cached_modules() as replacements:

            def run(batch: MicroBatch, states: list[torch.Tensor]) -> None:
                self._give(replacements, states)
                self._decode(self._prepared(batch).inputs)

            batch, states, _ = next(self._work(None))
            slots = skippable_modules(layer, lambda: run(batch, states))
            with recorded(layer, slots) as found:
                run(batch, states)
            first = states[0]  # other shapes could not be cut to some of the records
            same_shape = [state.shape[:-1] == first.shape[:-1] for state in found[1:]]
            slots = list(itertools.compress(slots, same_shape))
            if self.isolated:  # whether memory allows it depends on all records, and must not change any
                self._unmerged = slots
            width = sum(state.shape[-1] for state in [*states, *itertools.compress(found[1:], same_shape)])
            rows = sum(states[0].shape[:-1].numel() for states in cache.states)
            if rows * width * first.element_size() > cache.limit:
                return
            for batch, states, block in self._work(None):
                with recorded(layer, slots) as found:
                    run(batch, states)
                for index, more in by_record(found[1:], block).items():
                    cache.states[index] = [*cache.states[index], *more]
        self._constant += slots

    def _key(self) -> dict[str, Any]:
        """Everything that the cached states depend on beside the base model."""
        order = hashlib.sha256(
            np.concatenate([batch.records for members in self._members for batch in members]).tobytes()
        )
        first = self.found.layers[self.first_layer]
        return {
            "records": [order.hexdigest(), _digest([batch for members in self._members for batch in members])],
            "joined": [len(members) for members in self._members],
            "packed": [self.batches[0].packed, self.batches[0].prefix],
            "first_layer": self.first_layer,
            "attention_cached": self._attention is not None,
            "trained": [name for name, parameter in first.named_parameters() if parameter.requires_grad],
            "model": [type(self.model).__name__, str(self.model.dtype), self.device.type],
            "config": [_config_digest(self.model.config), str(self.model.config._attn_implementation)],
            "versions": [torch.__version__, transformers.__version__],
            **({"isolated": [ALL_LAYERS, torch.get_num_threads()]} if self.isolated else {}),
        }

    def _prepared(self, batch: MicroBatch) -> ModelInputs:
        """A micro-batch on the device, made for each use: the masks of long records would fill the memory."""
        if batch.packed:
            reads = torch.from_numpy(packed_reads(batch)[batch.real_reads][None]).to(self.device)
            return ModelInputs(
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
        return ModelInputs(batch, inputs, torch.from_numpy(batch.reads).to(self.device), None)


def _config_digest(config: transformers.PretrainedConfig) -> str:
    """SHA-256 (hex) of a model's settings, without where it lay and who wrote them."""
    settings = {k: v for k, v in config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _digest(batches: list[MicroBatch]) -> str:
    """SHA-256 (hex) of what micro-batches hold: tokens, read positions, and what attends to what."""
    digest = hashlib.sha256()
    for batch in batches:
        arrays = (batch.input_ids, batch.lengths, batch.reads, *(() if batch.tree is None else (batch.tree.sees,)))
        for array in arrays:
            digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
