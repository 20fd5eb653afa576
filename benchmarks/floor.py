"""The floor of a step: the matrix products that two evaluations of the pool cannot do without, as bare torch calls.

    python benchmarks/floor.py --case lora-all
    python benchmarks/floor.py --case full --threads 1 --repeats 3

What counts, for every micro-batch of the run and in the order of a real pass (all layers for one micro-batch, then the
next), so that the products walk through weights of the real sizes and do not find one matrix in the cache:

- layers from the first trained one on; what lies below it never changes and is kept;
- in the first trained layer, where its input does not change, only products that a trained weight takes part in;
- real tokens, never padding. In the last layer keys and values of all tokens, everything else where it is read;
- an adapter by whichever way multiplies less: one product B A a pass, added to the weight beside it, or x Aᵀ and its
  product with Bᵀ beside a frozen product that is kept;
- attention's two products for each record's real length, records of the same length together, and heads that share
  keys below each other, so that no key is repeated;
- of the head the label words' rows, in float32 (the whole head where a label has several tokens).

Nothing else counts: no norm, softmax, activation or residual, no loss, direction, update or journal. Products write to
buffers that are there, and read inputs that are there.

Beside it, the same table says where a real step's time goes (`parts.py`); the last line is JSON.
"""

import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Bench, build, lengths, options, settings, texts, where_and_when
from parts import now, table, where_time_goes
from torch import Tensor, nn

from paczero.data.batching import MicroBatch
from paczero.errors import PACZeroError
from paczero.models.layers import canonical_name, find_layers, plain

ATTENTION = ("self_attn", "attn", "attention")
ROLES = {"q_proj": "query", "k_proj": "key or value", "v_proj": "key or value"}
EVALUATIONS = 2


@dataclass(frozen=True)
class Matrix:
    """A linear map of a decoder layer.

    Attributes:
        part: the row of the table that it counts to.
        role: `query`, `key or value`, or `after` for what follows attention.
        weight: (out, in).
        trained: whether the weight itself trains.
        adapter: A (r, in) and B (out, r), where these train beside it.
    """

    part: str
    role: str
    weight: Tensor
    trained: bool
    adapter: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Needs:
    """What of a layer must be computed in every evaluation.

    Attributes:
        whole: matrices whose product with all that they read is needed, the adapter added first where `merged` has it.
        merged: adapters whose B A is taken, to be added.
        beside: adapters whose own two products are taken.
        attends: whether attention's two products are needed.
    """

    whole: list[Matrix]
    merged: list[Matrix]
    beside: list[Matrix]
    attends: bool


@dataclass(frozen=True)
class Call:
    """One product, left (…, n, k) by right (…, k, m) into a buffer; three dimensions are many products at once."""

    part: str
    left: Tensor
    right: Tensor
    out: Tensor

    @property
    def multiplications(self) -> int:
        """Multiply-adds."""
        return self.out.numel() * self.left.shape[-1]

    def run(self) -> None:
        (torch.mm if self.left.dim() == 2 else torch.bmm)(self.left, self.right, out=self.out)


def needs(matrices: Sequence[Matrix], *, changes: bool, positions: int) -> Needs:
    """What of a layer must be computed.

    Args:
        matrices: of the layer, in order.
        changes: whether the layer's input differs from one evaluation to the next.
        positions: token positions of a pass over the pool.
    """
    found = Needs([], [], [], False)

    def take(matrix: Matrix, changes: bool) -> bool:
        """Notes what the matrix asks for; whether what it gives changes."""
        moves = changes or matrix.trained
        if moves:
            found.whole.append(matrix)
        if matrix.adapter is not None:
            rows, columns = matrix.weight.shape
            (found.merged if moves and rows * columns < positions * (rows + columns) else found.beside).append(matrix)
        return moves or matrix.adapter is not None

    readers = [take(matrix, changes) for matrix in matrices if matrix.role != "after"]
    attends = changes = changes or any(readers)
    for matrix in matrices:
        if matrix.role == "after":
            changes = take(matrix, changes) or changes
    return replace(found, attends=attends)


class Floor:
    """The products of two evaluations.

    Args:
        bench: the run.

    Attributes:
        calls: of one evaluation, in order.
    """

    def __init__(self, bench: Bench):
        self.model = plain(bench.model)
        self.config = self.model.config.get_text_config()
        self.found = find_layers(bench.model)
        self.trained = bench.weights.parameters
        self.batches = bench.objective.scorer.batches
        self._buffers: dict[tuple, Tensor] = {}
        head = self.model.get_output_embeddings().weight.detach()
        if len(bench.records.continuations) == 0:
            head = head[: len(bench.records.encoded.candidates)].float()
        layers = self._layers(bench.first_layer)
        self.calls = [call for layer in layers for call in self._merges(layer)]
        for batch in self.batches:
            for index, layer in enumerate(layers):
                self.calls += self._layer(layer, batch, last=index == len(layers) - 1)
            self.calls.append(self._call("head", (batch.reads.size, head.shape[1]), head.t()))

    @property
    def multiplications(self) -> dict[str, int]:
        """Multiply-adds of a step, by part."""
        counts: Counter[str] = Counter()
        for call in self.calls:
            counts[call.part] += EVALUATIONS * call.multiplications
        return dict(counts)

    @torch.inference_mode()
    def run(self) -> dict[str, float]:
        """Takes all products and returns the seconds of each part."""
        spent: dict[str, float] = dict.fromkeys((call.part for call in self.calls), 0.0)
        for _ in range(EVALUATIONS):
            mark = now()
            for call in self.calls:
                call.run()
                after = now()
                spent[call.part] += after - mark
                mark = after
        return spent

    def _layers(self, first: int) -> list[Needs]:
        """What is needed of each layer from the first trained one on."""
        positions = sum(batch.tokens for batch in self.batches)
        embedding = {id(parameter) for parameter in self.model.get_input_embeddings().parameters()}
        changes = any(id(parameter) in embedding for parameter in self.trained.values())
        layers = []
        for index in range(first, len(self.found.layers)):
            matrices = list(self._matrices(index))
            if not {"query", "key or value", "after"} <= {matrix.role for matrix in matrices}:
                raise PACZeroError(f"model: the floor does not know the layers of {type(self.model).__name__}")
            vectors = any(p.dim() == 1 and self.found.layer_of(name) == index for name, p in self.trained.items())
            layers.append(needs(matrices, changes=changes or vectors or index > first, positions=positions))
        return layers

    def _matrices(self, index: int) -> Iterator[Matrix]:
        for name, module in self.found.layers[index].named_modules():
            if not isinstance(module, nn.Linear) or ".lora_" in name:
                continue
            canonical = canonical_name(f"{self.found.path}{index}.{name}.weight").removesuffix(".weight")
            path = canonical.split(".")
            down, up = (self.trained.get(f"{canonical}.lora_{side}.weight") for side in "AB")
            yield Matrix(
                f"{'attention' if set(path) & set(ATTENTION) else 'MLP'}: projections",
                ROLES.get(path[-1], "after"),
                module.weight.detach(),
                f"{canonical}.weight" in self.trained,
                None if down is None or up is None else (down.detach(), up.detach()),
            )

    def _merges(self, layer: Needs) -> Iterator[Call]:
        for matrix in layer.merged:
            down, up = matrix.adapter or ()
            yield Call("adapters", up, down, self._buffer("out", (len(up), down.shape[1]), up.dtype))

    def _layer(self, layer: Needs, batch: MicroBatch, *, last: bool) -> Iterator[Call]:
        def products(after: bool) -> Iterator[Call]:
            for matrix in layer.whole:
                if (matrix.role == "after") == after:
                    yield self._call(matrix.part, (rows(matrix), matrix.weight.shape[1]), matrix.weight.t())
            for matrix in layer.beside:
                if (matrix.role == "after") == after and matrix.adapter is not None:
                    down, up = matrix.adapter
                    yield self._call("adapters", (rows(matrix), down.shape[1]), down.t())
                    yield self._call("adapters", (rows(matrix), len(down)), up.t())

        def rows(matrix: Matrix) -> int:
            return batch.reads.size if last and matrix.role != "key or value" else batch.tokens

        yield from products(after=False)
        if layer.attends:
            yield from self._attention(batch, last=last)
        yield from products(after=True)

    def _attention(self, batch: MicroBatch, *, last: bool) -> Iterator[Call]:
        heads = self.config.num_attention_heads
        groups = getattr(self.config, "num_key_value_heads", None) or heads
        size = getattr(self.config, "head_dim", None) or self.config.hidden_size // heads
        places = batch.reads.shape[1]
        kinds = Counter((places if last else int(n) - batch.prefix, int(n)) for n in batch.lengths)
        if batch.prefix and not last:
            kinds[batch.prefix, batch.prefix] += 1
        kind = self.model.dtype
        for (queries, keys), count in kinds.items():
            below = heads // groups * queries
            key = self._buffer("in", (count * groups, size, keys), kind)
            value = self._buffer("in", (count * groups, keys, size), kind)
            yield self._call("attention: the rest", (count * groups, below, size), key)
            yield self._call("attention: the rest", (count * groups, below, keys), value)

    def _call(self, part: str, left: tuple[int, ...], right: Tensor) -> Call:
        out = (*left[:-1], right.shape[-1])
        return Call(part, self._buffer("in", left, right.dtype), right, self._buffer("out", out, right.dtype))

    def _buffer(self, use: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        key = (use, shape, dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.randn(shape, device=self.model.device).to(dtype)
        return self._buffers[key]


def measure(name: str, pool: int, repeats: int, model: str) -> dict[str, Any]:
    """The floor and the table of one case, taken in turn."""
    case = CASES[name]
    bench = build(case, texts(), lengths(pool), model, settings(case, steps=1 + 2 * repeats))
    floor = Floor(bench)
    floor.run()
    floors: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        spent = where_time_goes(bench, Path(directory), between=lambda: floors.append(floor.run()))
    least = {part: statistics.median(one[part] for one in floors) for part in floors[0]}
    print(f"{name}: {case.what}; {pool} records\n")
    print(table(spent, least))
    total = statistics.median(sum(one.values()) for one in floors)
    return {
        "case": name,
        "pool": pool,
        "floor_seconds": total,
        "floor_gflop": 2e-9 * sum(floor.multiplications.values()),
        "floor_parts": least,
        "step_seconds": spent.plain,
        "over_floor": spent.plain / total,
        "watched_over_plain": spent.watched / spent.plain,
        "step_parts": spent.parts,
        **where_and_when(),
    }


def main() -> int:
    """Prints a table and the JSON line."""
    parser = options(__doc__, "case", "pool", "threads", "model")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps and floors (default 5)")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    try:
        result = measure(arguments.case, arguments.pool, arguments.repeats, arguments.model)
    except PACZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
