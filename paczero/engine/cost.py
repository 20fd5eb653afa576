"""Estimates a run before it starts: tokens, time and memory.

estimate(model, batches, tree, first_layer=29, elements=15360, args=args).step_seconds     # 0.41
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from paczero.config import PACZeroConfig
from paczero.data.batching import MicroBatch
from paczero.data.completions import Completions
from paczero.engine.generation import Generator
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.isolation import ALL_LAYERS, records_a_block
from paczero.engine.scorer import Scorer
from paczero.mechanism.registry import spec_of
from paczero.models.layers import find_layers, plain
from paczero.models.loading import DTYPES
from paczero.models.offload import resident_bytes

# Short passes are repeated for so long, and so often at most: a single one may take several times the usual.
_TIMED_SECONDS, _TIMED_PASSES = 0.3, 20


@dataclass(frozen=True)
class Cost:
    """An estimate from one timed micro-batch of median length.

    Attributes:
        parameters: number of parameters of the model.
        trained: number of trained parameters.
        trained_layers: decoder layers that each step runs.
        layers: decoder layers of the model.
        tokens: token positions of one pass over the pool, padding included.
        padding: fraction of them that is padding, 0 to 1.
        passes: passes over the pool (two a direction and step, and the pilot directions).
        cache_seconds: to compute the layers below the first trained one, once.
        step_seconds: one step.
        seconds: the whole run without dev evaluations.
        memory: bytes of weights, copies and cached states on the device.
        paths: the fast paths in use -> what each does here.
    """

    parameters: int
    trained: int
    trained_layers: int
    layers: int
    tokens: int
    padding: float
    passes: int
    cache_seconds: float
    step_seconds: float
    seconds: float
    memory: int
    paths: dict[str, str]

    def shared(self, processes: int, batches: int) -> "Cost":
        """The cost of each of several processes that share the micro-batches."""
        if processes == 1:
            return self
        busy = min(processes, batches)
        text = f"{processes} share {batches} micro-batches" + (", so some wait" if busy < processes else "")
        return replace(
            self,
            cache_seconds=self.cache_seconds / busy,
            step_seconds=self.step_seconds / busy,
            seconds=self.seconds / busy,
            paths={"processes": text} | self.paths,
        )


def estimate(
    model: nn.Module,
    batches: list[MicroBatch],
    completions: Completions,
    *,
    first_layer: int,
    elements: int,
    args: PACZeroConfig,
    generator: Generator | None = None,
) -> Cost:
    """Times one micro-batch and scales it to the run.

    Args:
        model: with its adapter attached.
        batches, completions: the pool's.
        first_layer: the lowest layer that trains.
        elements: number of trained parameters.
        args: the run's settings.
        generator: of the pool, for a task whose passes generate.
    """
    middle = batches[len(batches) // 2]
    probe = replace(middle, records=np.arange(len(middle.records)))
    positions = sum(batch.positions for batch in batches)
    batch_count = positions / probe.positions  # in units of the timed micro-batch
    started = time.perf_counter()
    scorer = Scorer(
        model,
        [probe],
        completions.of(middle.records),
        first_layer=first_layer,
        cache=HiddenCache(2**62, None),
        engine=args.engine,
        sample_of=batches,
    )
    built = time.perf_counter() - started if first_layer else 0.0
    if probe.isolated:
        built /= records_a_block(probe, ALL_LAYERS, reads_only=False)
    kept = 0 if scorer.cache is None else sum(t.numel() * t.element_size() for s in scorer.cache.states for t in s)
    once, paths = _seconds_of_a_pass(scorer), scorer.paths()
    if generator is not None:
        seconds, paths["generation"] = _seconds_of_generating(generator)
        once = seconds / batch_count
    directions = args.directions
    pool_share = 1.0 if args.units_per_step is None else args.units_per_step / sum(len(b.records) for b in batches)
    step = 2 * directions * once * batch_count * min(1.0, pool_share) * (args.mechanism.sampling_prob or 1.0)
    measured = args.mechanism.family == "balanced" and spec_of(args.mechanism.name).candidates
    pilots = args.mechanism.pilots if measured else 0
    base = plain(model)
    parameters = sum(p.numel() for p in base.parameters())
    size = 4 if base is not model else DTYPES[args.dtype].itemsize  # an adapter trains in float32
    # A copy to restore from; on a CPU also the initial weights or those of the best step, kept in host memory.
    copies = (args.restore == "copy") + (next(base.parameters()).device.type == "cpu")
    layers = len(find_layers(model).layers)
    return Cost(
        parameters=parameters,
        trained=elements,
        trained_layers=layers - first_layer,
        layers=layers,
        tokens=positions,
        padding=1 - sum(batch.tokens for batch in batches) / positions,
        passes=2 * directions * args.max_steps + 2 * pilots,
        cache_seconds=built * batch_count,
        step_seconds=step,
        seconds=built * batch_count + step * args.max_steps + 2 * pilots * once * batch_count,
        memory=resident_bytes(base)
        + scorer.merged_bytes
        + elements * size * copies
        + min(round(kept * batch_count), args.cache_bytes),
        paths=paths,
    )


def _seconds_of_a_pass(scorer: Scorer) -> float:
    """Seconds of one pass over the scorer's rows, measured with as many rows as a large pool has in a pass."""
    times = scorer.fill_up()
    scorer.scores()  # the first call also allocates
    seconds: list[float] = []
    while sum(seconds) < _TIMED_SECONDS and len(seconds) < _TIMED_PASSES:
        started = time.perf_counter()
        scorer.scores()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) / times


def _seconds_of_generating(generator: Generator) -> tuple[float, str]:
    """Seconds of generating for all records, from one batch of the untuned model; and a description."""
    generator.sample()  # the first call also allocates
    started = time.perf_counter()
    positions, tokens = generator.sample()
    seconds = (time.perf_counter() - started) * generator.positions / positions
    each = tokens / len(generator.batches[len(generator.batches) // 2])
    limit = generator.ending.max_tokens
    return (
        seconds,
        f"greedy, {each:.1f} tokens a record as the untuned model ends ({limit} at most, which takes longer)",
    )
