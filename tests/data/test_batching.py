"""Micro-batches: each record once, as few positions as can be, and a tree that says what every candidate reads."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.data.batching import BATCH_OVERHEAD, MicroBatch, common_prefix, micro_batches
from paczero.data.completions import CandidateTree
from paczero.errors import PACZeroError

Tokens = list[list[int]]
ONE = CandidateTree([[90], [91]])
# One candidate is a prefix of another, two share a prefix, and two inner tokens are the same at different places.
MANY = [[7], [7, 8], [7, 8, 9], [7, 5], [8, 8, 1]]

prompts = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=12), min_size=1, max_size=30)
candidates = st.lists(
    st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple), min_size=2, max_size=5, unique=True
).map(lambda paths: [list(path) for path in paths])


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All ways to put items into groups."""
    if not items:
        yield []
        return
    first, *rest = items
    for groups in partitions(rest):
        yield [[first], *groups]
        for place, group in enumerate(groups):
            yield [*groups[:place], [first, *group], *groups[place + 1 :]]


def padded_cost(groups: list[list[int]], limit: int) -> float:
    """Positions and overhead of groups of lengths; infinite where a group of two or more passes the limit."""
    if any(len(group) > 1 and len(group) * max(group) > limit for group in groups):
        return float("inf")
    return sum(len(group) * max(group) + BATCH_OVERHEAD for group in groups)


@given(prompts, candidates, st.integers(1, 200), st.booleans(), st.booleans())
def test_every_record_is_in_one_row_and_reads_its_own_end(
    texts: Tokens, words: Tokens, limit: int, packing: bool, prefix: bool
) -> None:
    tree = CandidateTree(words)
    batches = micro_batches(texts, tree, batch_tokens=limit, packing=packing, prefix=prefix)
    assert sorted(np.concatenate([batch.records for batch in batches]).tolist()) == list(range(len(texts)))
    shared = common_prefix(texts) if packing and prefix else 0
    for batch in batches:
        assert (batch.prefix, batch.packed) == (shared, packing)
        assert len(batch.records) == 1 or batch.positions <= limit
        for row, record in enumerate(batch.records):
            prompt = texts[record]
            assert batch.input_ids[row, : batch.lengths[row]].tolist() == prompt + tree.tokens.tolist()
            assert not batch.input_ids[row, batch.lengths[row] :].any()
            assert batch.reads[row].tolist() == list(range(len(prompt) - 1, len(prompt) + len(tree)))
            assert batch.own[row].tolist() == [shared <= i < batch.lengths[row] for i in range(batch.own.shape[1])]
        own = [len(texts[record]) + len(tree) - shared for record in batch.records]
        assert min(own) >= 1
        assert batch.tokens == shared + sum(own)
        assert batch.positions == (batch.tokens if packing else batch.input_ids.size)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(1, 150))
def test_the_padded_partition_is_the_best_of_all(lengths: list[int], limit: int) -> None:
    """Against every set partition, not only those of neighbours in length."""
    batches = micro_batches([[1] * length for length in lengths], ONE, batch_tokens=limit, packing=False)
    ours = [[lengths[record] for record in batch.records] for batch in batches]
    assert padded_cost(ours, limit) == min(padded_cost(groups, limit) for groups in partitions(lengths))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 150))
def test_the_packed_partition_is_the_best_of_neighbours(lengths: list[int], limit: int) -> None:
    """As few micro-batches as neighbours in length allow, and of those the most even ones."""
    batches = micro_batches([[1] * n for n in lengths], ONE, batch_tokens=limit, prefix=False)
    sizes = [batch.tokens for batch in batches]
    ascending = sorted(lengths)
    count = len(lengths)
    allowed = []
    for cuts in itertools.product([False, True], repeat=count - 1):
        bounds = [0, *(place + 1 for place, cut in enumerate(cuts) if cut), count]
        parts = [ascending[a:b] for a, b in itertools.pairwise(bounds)]
        if all(len(part) == 1 or sum(part) <= limit for part in parts):
            allowed.append([sum(part) for part in parts])
    fewest = [parts for parts in allowed if len(parts) == min(map(len, allowed))]
    assert sum(size**2 for size in sizes) == min(sum(size**2 for size in parts) for parts in fewest)
    assert len(sizes) == len(fewest[0])


@given(prompts)
def test_the_common_prefix(texts: Tokens) -> None:
    count = common_prefix(texts)
    assert len({tuple(text[:count]) for text in texts}) == 1 and count < min(map(len, texts))
    if len(texts) > 1 and count < min(map(len, texts)) - 1:
        assert len({text[count] for text in texts}) > 1, "no longer one"


@given(prompts, candidates)
def test_a_tree_row_sees_what_each_candidate_would_see(texts: Tokens, words: Tokens) -> None:
    """Along each candidate's path, the row has the tokens, the positions and the view of a sequence of its own."""
    tree = CandidateTree(words)
    for batch in micro_batches(texts, tree, batch_tokens=100):
        for row, record in enumerate(batch.records):
            prompt = texts[record]
            for word, path in zip(words, tree.terms, strict=True):
                assert [token for _, token in path] == word
                places = list(range(len(prompt))) + [int(batch.reads[row, place]) for place, _ in path[1:]]
                assert batch.input_ids[row, places].tolist() == prompt + word[:-1]
                if batch.position_ids is None or batch.visible is None:
                    assert len(tree) == 0
                    continue
                assert batch.position_ids[row, places].tolist() == list(range(len(places)))
                view = batch.visible[row][places]
                np.testing.assert_array_equal(view[:, places], np.tri(len(places), dtype=bool))
                assert view.sum() == len(places) * (len(places) + 1) // 2, "and nothing else is seen"


def test_shared_prefixes_are_one_node() -> None:
    tree = CandidateTree(MANY)
    assert tree.tokens.tolist() == [7, 8, 8, 8]  # 7 · 8 · 7 8 · 8 8
    assert tree.depths.tolist() == [0, 0, 1, 1]
    assert tree.terms[0] == [(0, 7)]
    assert tree.terms[1] == [(0, 7), (1, 8)]
    assert tree.terms[2] == [(0, 7), (1, 8), (3, 9)]
    assert tree.terms[3] == [(0, 7), (1, 5)]
    assert tree.terms[4] == [(0, 8), (2, 8), (4, 1)]
    assert len(ONE) == 0 and ONE.terms == [[(0, 90)], [(0, 91)]]


def test_the_partition_depends_on_nothing_else() -> None:
    texts = [[1] * (1 + 7 * record % 11) for record in range(40)]
    one, two = (micro_batches(texts, ONE, batch_tokens=64) for _ in range(2))
    assert [batch.records.tolist() for batch in one] == [batch.records.tolist() for batch in two]


def test_some_rows_of_a_batch() -> None:
    batch: MicroBatch = micro_batches([[1, 2], [3, 4, 5], [6]], CandidateTree(MANY), batch_tokens=1000)[0]
    taken = batch.take(np.array([2, 0]))
    assert taken.records.tolist() == batch.records[[2, 0]].tolist()
    assert taken.input_ids.shape == (2, batch.input_ids.shape[1])
    assert taken.position_ids is not None and taken.visible is not None
    assert taken.visible.shape[0] == taken.position_ids.shape[0] == len(taken.reads) == len(taken.lengths) == 2


def test_a_prompt_without_a_token() -> None:
    with pytest.raises(PACZeroError, match="record 2 has a prompt without a token"):
        micro_batches([[1], []], CandidateTree(MANY), batch_tokens=10)
