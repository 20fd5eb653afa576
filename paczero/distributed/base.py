"""The processes of one run: each evaluates its share of the pool, one releases, all take the same update.

A launcher (`torchrun`, `accelerate launch`) starts them and says in the environment how many there are; without one
there is one process, and nothing here costs anything.

>>> group = join()
>>> group.broadcast_from_main(lambda: 3), group.is_main, group.size
(3, True, 1)
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from paczero.errors import IntegrityError, PACZeroError

if TYPE_CHECKING:
    import numpy as np


T = TypeVar("T")


class RankLostError(PACZeroError):
    """A process of the run ended without a word, or hangs; the journal holds all that was released."""

    exit_code = 1


class WeightsDivergedError(IntegrityError):
    """The processes' weights are no longer the same."""


class RemoteRankError(PACZeroError):
    """The run ended on another rank, which says why; this one has nothing to add."""

    def __init__(self, rank: int, why: str, exit_code: int) -> None:
        super().__init__(f"rank {rank} ended: {why}")
        self.rank, self.why, self.exit_code = rank, why, exit_code


class ProcessGroup:
    """One process among `size`; by itself where nobody else is there.

    Attributes:
        rank: from 0; rank 0 keeps the journal and the secret, draws the coins and writes all files.
        size: how many there are.
    """

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that releases and writes."""
        return self.rank == 0

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on every rank; an exception there ends all of them (`RemoteRankError` on the others)."""
        return make()

    def on_main(self, make: Callable[[], T]) -> T | None:
        """What rank 0 makes, on rank 0 only: nothing travels but whether it failed. The others wait and get None."""
        return make()

    def sum(self, values: "np.ndarray") -> "np.ndarray":
        """The sum over ranks, exact where each entry differs from 0 on one rank at most; same shape and type."""
        return values

    def shard(self, costs: Sequence[int]) -> list[int]:
        """Which pieces of work this rank takes, in ascending order; the ranks' totals of `costs` are about equal."""
        return balanced(costs, self.size)[self.rank]

    def assert_equal(self, facts: Mapping[str, str]) -> None:
        """Compares what must be the same on all ranks.

        Args:
            facts: what it is in words -> its value here; the same keys in the same order on all ranks.

        Raises:
            IntegrityError: on every rank, naming what differs and where.
        """

    def check_weights(self, fingerprint: Callable[[], str], done: int) -> None:
        """Compares the weights after `done` steps; raises Diverged on every rank where they differ."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around work in which a rank may be lost: an interruption that a launcher sent for that reason says so."""
        yield

    def leave(self) -> None:
        """Ends the exchange once all have come to this point."""

    def left_by(self, error: BaseException) -> BaseException:
        """Ends the exchange for an error; returns what this rank reports (`RemoteRankError` if another rank does)."""
        return error

    def device(self, setting: str) -> str:
        """The device setting of this rank: each takes a GPU of its own where the setting leaves it open."""
        return setting


SINGLE_PROCESS = ProcessGroup()

_joined: list[ProcessGroup] = []  # the one that this process is, once it has joined


def world() -> tuple[int, int]:
    """(rank, how many processes) as the launcher's environment has it; (0, 1) without one.

    Raises:
        PACZeroError: the environment names no process.
    """
    given = [os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))]
    if not all(text.isdecimal() for text in given) or not int(given[0]) < int(given[1]):
        raise PACZeroError(f"RANK, WORLD_SIZE: {' of '.join(given)} was given; expected what a launcher sets")
    return int(given[0]), int(given[1])


def join() -> ProcessGroup:
    """This process among those that a launcher started with it, once all are there; `SINGLE_PROCESS` without one.

    Raises:
        PACZeroError: they do not come together.
    """
    if not _joined:
        rank, size = world()
        if size == 1:
            return SINGLE_PROCESS
        from paczero.distributed.gloo import GlooProcessGroup

        _joined.append(GlooProcessGroup(rank, size))
    return _joined[0]


def has_joined() -> bool:
    """Whether this process has met others."""
    return bool(_joined)


def forget() -> None:
    """The next `join` meets the others anew."""
    _joined.clear()


def balanced(costs: Sequence[int], size: int) -> list[list[int]]:
    """Pieces of work for each of `size` ranks: the largest first, each to whoever has least so far.

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
    """SIGTERM and SIGHUP (a closed terminal) end what runs inside as Ctrl-C does: files are closed, the others hear of
    it, the user how to go on. A SIGHUP that whoever started us has set aside, as nohup does, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
