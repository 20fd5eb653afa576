"""A unit's derivative has the same bits whatever else is in the pool, where each record is isolated."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import LoraConfig
from torch import nn

from paczero.config import EngineConfig
from paczero.data.batching import micro_batches
from paczero.data.completions import CandidateTree, Completions, PerRecordCompletions
from paczero.data.metrics import losses
from paczero.distributed.base import ProcessGroup
from paczero.engine.generation import Generator, StopCondition
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.isolation import LAST_LAYERS, READS, blocks
from paczero.engine.scorer import Scorer
from paczero.models.adapters import attach
from paczero.models.layers import first_trained_layer
from paczero.optim.derivatives import Objective
from paczero.optim.directions import RADEMACHER
from paczero.optim.parameters import PerturbedParameters

from ..scoring import WORDS, Decoder, centred, slow_scores

UNITS = 48
LONGEST, NO_PREFIX, TWIN = 11, 7, 4
CHANCE = np.random.default_rng(5)
INSTRUCTION = CHANCE.integers(2, 40, size=3).tolist()
OWNER = np.repeat(np.arange(UNITS), np.where(np.arange(UNITS) % 8 == 3, 3, 1))  # some units have three records
PROMPTS = [[*INSTRUCTION, *CHANCE.integers(2, 40, size=int(CHANCE.integers(1, 6))).tolist()] for _ in OWNER]
PROMPTS[np.flatnonzero(OWNER == LONGEST)[0]] += CHANCE.integers(2, 40, size=30).tolist()  # the longest record by far
for record in range(5, len(PROMPTS), 20):
    PROMPTS[record] += CHANCE.integers(2, 40, size=7).tolist()
PROMPTS[np.flatnonzero(OWNER == NO_PREFIX)[0]][0] = 50  # without this unit all prompts begin alike
PROMPTS[np.flatnonzero(OWNER == TWIN)[0]] = PROMPTS[0]  # two units with the same text share a row
TARGETS = CHANCE.integers(0, 2, size=len(OWNER))
ANSWERS = [CHANCE.integers(2, 40, size=int(CHANCE.integers(1, 6))).tolist() for _ in OWNER]
ALL_LAYERS = {"target_modules": ["q_proj", "v_proj"]}
LAST_LAYER = ALL_LAYERS | {"layers_to_transform": [1]}
LAST_MATRICES = {"target_modules": ["o_proj", "down_proj"], "layers_to_transform": [1]}
ADAPTERS = {"all layers": ALL_LAYERS, "last layer": LAST_LAYER, "behind attention": LAST_MATRICES}


class Rank(ProcessGroup):
    """One of two ranks, whose share of a sum is its own."""

    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


@dataclass
class Lab:
    """A model with an adapter that has moved, and what may follow the prompts."""

    model: nn.Module
    trained: dict[str, nn.Parameter]
    completions: Completions

    def objective(
        self,
        units: Iterable[int],
        *,
        isolated: bool = True,
        limit: int = 2**30,
        engine: EngineConfig | None = None,
        group: ProcessGroup | None = None,
        cache: HiddenCache | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Objective:
        """The losses of a pool of these units alone."""
        engine = engine or EngineConfig()
        records = np.flatnonzero(np.isin(OWNER, list(units)))
        prompts, completions = [PROMPTS[record] for record in records], self.completions.of(records)
        batches = micro_batches(
            prompts, completions, batch_tokens=80, packing=engine.packing, prefix=engine.prefix, isolated=isolated
        )
        first = first_trained_layer(self.model, list(self.trained))
        scorer = Scorer(
            self.model,
            batches,
            completions,
            first_layer=first,
            cache=cache or HiddenCache(limit, None),
            engine=engine,
            group=group or ProcessGroup(),
            progress=progress,
        )
        of_task = losses if completions.columns > 1 else lambda scores, _: -scores[:, 0]
        return Objective(scorer, TARGETS[records], np.unique(OWNER[records], return_inverse=True)[1], of_task)

    def derivatives(self, units: Iterable[int], *, sample: np.ndarray | None = None, **settings: Any) -> np.ndarray:
        """(n, 1) of the units, or of those in the sample."""
        weights = PerturbedParameters(self.trained, law=RADEMACHER, seed=4, mu=1e-2)
        return self.objective(units, **settings).derivatives(weights, 0, 1, sample).values


@pytest.fixture
def lab(decoder: Decoder, stirred: Callable[..., None]) -> Callable[..., Lab]:
    def make(adapter: str, words: str = "two of one token") -> Lab:
        model, trained = attach(decoder("llama", num_hidden_layers=2), peft_config=LoraConfig(r=2, **ADAPTERS[adapter]))
        stirred(trained)
        return Lab(model, trained, PerRecordCompletions(ANSWERS) if words == "answers" else CandidateTree(WORDS[words]))

    return make


def without(unit: int) -> list[int]:
    return [other for other in range(UNITS) if other != unit]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_pool_without_a_unit_leaves_the_others_as_they_are(lab: Callable[..., Lab], adapter: str) -> None:
    made = lab(adapter)
    whole = made.derivatives(range(UNITS))
    assert np.unique(whole).size > UNITS - 3, "the derivatives are those of the records"
    for unit in range(UNITS) if adapter != "last layer" else (*range(0, UNITS, 5), LONGEST, NO_PREFIX, TWIN):
        np.testing.assert_array_equal(made.derivatives(without(unit)), whole[without(unit)])


def test_shared_micro_batches_do_not(lab: Callable[..., Lab]) -> None:
    """The tests of this file can fail."""
    made = lab("all layers")
    whole = made.derivatives(range(UNITS), isolated=False)
    np.testing.assert_allclose(whole, made.derivatives(range(UNITS)), rtol=1e-2, atol=1e-3)
    assert (made.derivatives(without(NO_PREFIX), isolated=False) != whole[without(NO_PREFIX)]).any()


@pytest.mark.parametrize("words", ["two of several tokens", "answers"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_completions_of_several_tokens(lab: Callable[..., Lab], adapter: str, words: str) -> None:
    made = lab(adapter, words)
    whole = made.derivatives(range(UNITS))
    for unit in (LONGEST, NO_PREFIX):
        np.testing.assert_array_equal(made.derivatives(without(unit)), whole[without(unit)])


@pytest.mark.parametrize(
    "engine", [{"packing": False}, {"prefix": False}, {"cache": False}, {"narrowing": False}], ids=str
)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_any_engine_settings(lab: Callable[..., Lab], adapter: str, engine: dict[str, bool]) -> None:
    made, settings = lab(adapter), EngineConfig(**engine)
    whole = made.derivatives(range(UNITS), engine=settings)
    for unit in (LONGEST, NO_PREFIX):
        np.testing.assert_array_equal(made.derivatives(without(unit), engine=settings), whole[without(unit)])


@pytest.mark.parametrize("limit", [0, 2**13, 2**30])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_small_and_large_pools(lab: Callable[..., Lab], adapter: str, limit: int) -> None:
    """Merging pays in large pools only, and memory may hold the states of small pools only."""
    made = lab(adapter)
    whole = made.derivatives(range(UNITS))
    for units in ([5], [9, LONGEST], [*range(3, 9)], [*range(30)], [*range(UNITS)]):
        np.testing.assert_array_equal(made.derivatives(units, limit=limit), whole[units])


def test_the_limit_lies_between_these_pools(lab: Callable[..., Lab]) -> None:
    made = lab("behind attention")
    kept = [len(made.objective(units, limit=2**13).scorer.cache.states[0]) for units in ([5], range(UNITS))]  # type: ignore[attr-defined]
    assert kept[0] > kept[1]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_secret_samples(lab: Callable[..., Lab], adapter: str) -> None:
    made, chance = lab(adapter), np.random.default_rng(3)
    whole = made.derivatives(range(UNITS))
    objective = made.objective(range(UNITS))
    weights = PerturbedParameters(made.trained, law=RADEMACHER, seed=4, mu=1e-2)
    for size in (1, 2, 5, 11, 24, 47):
        sample = np.sort(chance.choice(UNITS, size=size, replace=False))
        np.testing.assert_array_equal(objective.derivatives(weights, 0, 1, sample).values, whole[sample])


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_ranks(lab: Callable[..., Lab], adapter: str) -> None:
    made = lab(adapter)
    alone = made.objective(range(UNITS)).scorer.scores()
    shares = [made.objective(range(UNITS), group=Rank(rank)).scorer.scores() for rank in (0, 1)]
    assert all(share.any() for share in shares)
    np.testing.assert_array_equal(sum(shares), alone)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("adapter", ["last layer", "behind attention"])
def test_pools_share_hidden_states(lab: Callable[..., Lab], tmp_path: Path, adapter: str, words: str) -> None:
    """A pool takes the states of the records that an earlier one had, and computes the others; another base none."""
    made, told = lab(adapter, words), []

    def scores(units: Iterable[int], base: str = "one", **settings: Any) -> np.ndarray:
        told.clear()
        cache = HiddenCache(2**30, tmp_path, base=base)
        settings["progress"] = lambda done, of: told.append(done)
        return made.objective(units, cache=cache, **settings).scorer.scores()

    whole = made.objective(range(UNITS)).scorer.scores()
    np.testing.assert_array_equal(scores(range(20)), whole[OWNER < 20])
    computed = told[-1]
    assert computed == np.count_nonzero(OWNER < 20)
    np.testing.assert_array_equal(scores(range(10, UNITS)), whole[OWNER >= 10])
    assert told[-1] == np.count_nonzero(OWNER >= 20)
    np.testing.assert_array_equal(scores(without(13)), whole[OWNER != 13])
    assert not told, "everything was known"
    scores(range(20), base="another")
    assert told[-1] == computed


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "qwen3"])
def test_scores_are_those_of_one_record_at_a_time(decoder: Decoder, family: str, words: str) -> None:
    model, tree = decoder(family), CandidateTree(WORDS[words])
    few = PROMPTS[:9]
    expected = centred(slow_scores(model, WORDS[words], few))
    for first in (0, 2):
        batches = micro_batches(few, tree, batch_tokens=80, isolated=True)
        scorer = Scorer(model, batches, tree, first_layer=first, cache=HiddenCache(2**30, None))
        scorer.check()
        np.testing.assert_allclose(centred(scorer.scores()), expected, atol=2e-4, rtol=2e-4)


def test_features(lab: Callable[..., Lab]) -> None:
    made = lab("last layer")
    whole = made.objective(range(UNITS)).scorer.features()
    np.testing.assert_array_equal(made.objective(without(0)).scorer.features(), whole[OWNER != 0])
    shared = made.objective(range(UNITS), isolated=False).scorer.features()
    np.testing.assert_allclose(whole, shared, atol=2e-4, rtol=2e-4)


def test_a_row_is_no_wider_than_the_model(decoder: Decoder) -> None:
    model, tree = decoder("gpt2", n_positions=61), CandidateTree(WORDS["two of one token"])
    prompts = [[5] * 60, [6] * 59]
    scorer = Scorer(model, micro_batches(prompts, tree, batch_tokens=80, isolated=True, context=61), tree)
    expected = centred(slow_scores(model, WORDS["two of one token"], prompts))
    np.testing.assert_allclose(centred(scorer.scores()), expected, atol=2e-4, rtol=2e-4)


def test_each_record_has_one_row() -> None:
    batches = micro_batches(PROMPTS, CandidateTree(WORDS["two of one token"]), batch_tokens=80, isolated=True)
    for size, reads_only in ((64, False), (LAST_LAYERS, False), (READS, True)):
        found = list(blocks(batches, range(0, len(batches), 2), size, reads_only=reads_only))
        rows = [index for block in found for index in block if index is not None]
        assert sorted(rows) == list(range(0, len(batches), 2))
        assert len(found) < len(rows) / 2, "records share blocks"


def test_generated_texts(decoder: Decoder) -> None:
    """What is generated seldom shows the last bits; hidden states do."""
    model, prompts = decoder("llama"), [[*INSTRUCTION * 6, *prompt] for prompt in PROMPTS[:8]]

    def features(chosen: list[list[int]], isolated: bool) -> np.ndarray:
        return Generator(model, chosen, StopCondition(3, frozenset(), lambda ids: False), isolated=isolated).features()

    whole = features(prompts, True)
    for left in range(8):
        np.testing.assert_array_equal(
            features([*prompts[:left], *prompts[left + 1 :]], True), np.delete(whole, left, axis=0)
        )
    np.testing.assert_allclose(whole, features(prompts, False), atol=2e-4, rtol=2e-4)
