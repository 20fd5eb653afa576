"""The interface of a group of ranks, the group of a single process, and the errors of several ranks."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import numpy as np

from paczero.errors import IntegrityError, PACZeroError

T = TypeVar("T")


class RankLostError(PACZeroError):
    """A process of the run was killed or hangs; the journal holds all that was released."""

    exit_code = 1


class WeightsDivergedError(IntegrityError):
    """The processes' weights are no longer the same."""


class RemoteRankError(PACZeroError):
    """The run ended on another rank, which reports the error."""

    def __init__(self, rank: int, reason: str, exit_code: int) -> None:
        super().__init__(f"rank {rank} ended: {reason}")
        self.rank, self.reason, self.exit_code = rank, reason, exit_code


class ProcessGroup:
    """The ranks of a run as this process sees them; this class is the group of a single process.

    Attributes:
        rank: from 0; rank 0 keeps the journal and the secret, draws the coins and writes all files.
        size: the number of ranks.
        closed: whether the group has ended.
    """

    rank = 0
    size = 1
    closed = False

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that releases and writes."""
        return self.rank == 0

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """The value that rank 0 makes, on every rank. An exception of `make` is a `RemoteRankError` on the others."""
        return make()

    def on_main(self, make: Callable[[], T]) -> T | None:
        """The value that rank 0 makes, on rank 0 only. The others wait, learn whether it failed, and get None."""
        return make()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over ranks, exact where each entry differs from 0 on one rank at most; same shape and dtype."""
        return values

    def shard(self, costs: Sequence[int]) -> list[int]:
        """The pieces of work of this rank, ascending; the ranks' totals of `costs` are about equal."""
        return balanced(costs, self.size)[self.rank]

    def assert_equal(self, facts: Mapping[str, str]) -> None:
        """Compares facts that must be the same on all ranks.

        Args:
            facts: description -> value on this rank; the same keys in the same order on all ranks.

        Raises:
            IntegrityError: on every rank, with the facts that differ and the ranks.
        """

    def check_weights(self, fingerprint: Callable[[], str], done: int) -> None:
        """Compares the weights after `done` steps; raises WeightsDivergedError on every rank where they differ."""

    @contextmanager
    def detect_lost_ranks(self) -> Iterator[None]:
        """Turns an interruption that a launcher sends because a rank was lost into a `RankLostError`."""
        yield

    def close(self) -> None:
        """Ends the group once all ranks have come to this point."""

    def abort(self, error: BaseException) -> BaseException:
        """Ends the group for an error; returns the error of this rank (`RemoteRankError` if another rank reports)."""
        return error

    def device(self, setting: str) -> str:
        """The device setting of this rank: a GPU of its own where the setting leaves it open."""
        return setting


SINGLE_PROCESS = ProcessGroup()


def world() -> tuple[int, int]:
    """(rank, number of ranks) from the launcher's environment; (0, 1) without a launcher.

    Raises:
        PACZeroError: the environment variables do not describe a rank.
    """
    given = [os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))]
    if not all(text.isdecimal() for text in given) or not int(given[0]) < int(given[1]):
        raise PACZeroError(f"RANK, WORLD_SIZE: {' of '.join(given)} was given; expected what a launcher sets")
    return int(given[0]), int(given[1])


def balanced(costs: Sequence[int], size: int) -> list[list[int]]:
    """The pieces of work of each of `size` ranks: the largest piece first, each to the rank with the least work so far.

    >>> balanced([5, 3, 3, 1], 2)
    [[0, 3], [1, 2]]
    """
    loads = [0] * size
    pieces: list[list[int]] = [[] for _ in range(size)]
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min(range(size), key=lambda r: (loads[r], r))
        loads[rank] += costs[index]
        pieces[rank].append(index)
    return [sorted(piece) for piece in pieces]


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP (a closed terminal) raise KeyboardInterrupt inside, as Ctrl-C does.

    Files are then closed, and the other ranks and the user get a message. A SIGHUP that the parent ignores (nohup)
    stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    caught = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
