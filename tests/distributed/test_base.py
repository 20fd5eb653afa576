"""Sharing of work is balanced; what travels between real processes arrives whole, errors and refusals too."""

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.distributed import join
from paczero.distributed.base import SINGLE_PROCESS, balanced, terminable, world
from paczero.errors import PACZeroError

Launch = Callable[..., Any]


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 9))
def test_every_piece_is_somebodys_and_nobody_has_much_more(costs: list[int], size: int) -> None:
    pieces = balanced(costs, size)
    assert sorted(itertools.chain(*pieces)) == list(range(len(costs)))
    assert all(piece == sorted(piece) for piece in pieces)
    loads = [sum(costs[index] for index in piece) for piece in pieces]
    # Graham 1969: the largest first is at most 4/3 of the best; the best is no less than the mean and the largest.
    assert not costs or max(loads) <= sum(costs) / size + max(costs)
    assert pieces == balanced(costs, size)


def test_equal_pieces_are_dealt_out_evenly() -> None:
    assert balanced([7] * 8, 4) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert balanced([5, 3], 4) == [[0], [1], [], []]


def test_alone() -> None:
    group = join()
    assert group is SINGLE_PROCESS and group.is_main and group.size == 1
    assert group.broadcast_from_main(lambda: 3) == group.on_main(lambda: 3) == 3
    assert group.shard([4, 2]) == [0, 1] and group.device("auto") == "auto"
    values = np.arange(3.0)
    assert group.sum(values) is values


@pytest.mark.parametrize("given", [("2", "2"), ("0", "0"), ("x", "2"), ("-1", "2")])
def test_an_environment_that_names_no_process(monkeypatch: pytest.MonkeyPatch, given: tuple[str, str]) -> None:
    monkeypatch.setenv("RANK", given[0])
    monkeypatch.setenv("WORLD_SIZE", given[1])
    with pytest.raises(PACZeroError, match=r"RANK, WORLD_SIZE: .* expected what a launcher sets"):
        world()


@pytest.mark.parametrize("size", [2, 3])
def test_what_travels(launcher: Launch, size: int) -> None:
    done = launcher("exchange", size, sizes=[0, 400, 504, 505, 100_000])
    assert done.status == [0] * size, done.err
    for rank, said in enumerate(done.results):
        assert said["sum"] and said["small"] == [[1.0], [1.0]]
        assert said["long"] == [0, 400, 504, 505, 100_000]
        assert said["share"] == {"from": 0}
        assert said["keep"] == (10 if rank == 0 else None)
        kind, text = (
            ("IntegrityError", "no such file") if rank == 0 else ("RemoteRankError", "rank 0 ended: no such file")
        )
        assert said["refused"] == [kind, text, 1]
    assert sorted(itertools.chain(*(said["mine"] for said in done.results))) == [0, 1, 2, 3]
    told = {said["agree"] for said in done.results}
    if size == 3:  # most have it otherwise than rank 1; rank 0 otherwise than the others
        text = "rank 1: another pool; rank 0: another settings than the other ranks"
    else:
        text = "rank 1: another pool, another settings than the other ranks"
    assert told == {f"processes: {text}; give all of them the same model, data, settings and versions"}


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("agent", [True, False])
def test_one_fails_by_itself(launcher: Launch, rank: int, agent: bool) -> None:
    """The others end too, and leave the report to the rank that failed."""
    done = launcher("fail", 3, rank=rank, agent=agent)
    assert done.status == [1, 1, 1], done.err
    assert done.results[rank]["said"] == ["OSError", "disk full"]
    for other in {0, 1, 2} - {rank}:
        assert done.results[other]["said"] == ["RemoteRankError", f"rank {rank} ended: disk full"]
        assert done.results[other]["code"] == 1


def test_sigterm_is_an_interrupt_inside_and_itself_again_outside() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
