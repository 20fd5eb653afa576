"""Heartbeats of the ranks through the launcher's store: which ranks still work, which ended, and why.

Each rank counts its heartbeats in the store from a thread of its own. A rank that is killed, stopped or cut off counts
no further; a slow one does. No time limit for a wait has to be guessed.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paczero.errors import PACZeroError

INTERVAL = 0.5  # seconds between heartbeats

RESPONSE_TIMEOUT = 6.0  # seconds in which a rank must count on when `missing` asks

HEARTBEAT_TIMEOUT = 100.0  # seconds without a heartbeat after which a rank counts as hanging while others wait for it

EXIT_TIMEOUT = 4.0  # seconds that rank 0 stays so that the others can learn how it ended

RENDEZVOUS_TIMEOUT = 300.0  # seconds in which all ranks must have come together


@dataclass(frozen=True)
class RankExit:
    """The end of a rank.

    Attributes:
        exit_code: of the process.
        reason: one line.
        origin: the rank on which the error happened.
    """

    exit_code: int
    reason: str
    origin: int


class HeartbeatMonitor:
    """Counts this rank's heartbeats and reads the others'.

    Args:
        store: a `torch.distributed` store that all ranks reach; it must outlive them.
        rank, size: of this process.

    Attributes:
        store_lost: whether the store cannot be reached any more.
        names: rank -> rank, process and machine in words.
        store_hosts: the other ranks on the machine that has the store.
    """

    def __init__(self, store: Any, rank: int, size: int):
        self.store, self.rank, self.size = store, rank, size
        self.store_lost = False
        self.store_hosts: list[int] = []
        self._reports = False  # whether this rank reports for its machine where the store is lost
        self.names = {r: f"rank {r}" for r in range(size)}
        self._seen = {
            r: (-1, time.monotonic(), 0.0) for r in self.others
        }  # count, time of the last look, seconds of silence
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(store.clone(),), name="heartbeat", daemon=True)

    @property
    def others(self) -> Iterable[int]:
        return [r for r in range(self.size) if r != self.rank]

    def rendezvous(self) -> None:
        """Starts the heartbeat and waits for all other ranks.

        Raises:
            PACZeroError: a rank ended, or did not come in time.
        """
        self._thread.start()
        self._put(f"name{self.rank}", f"process {os.getpid()} on {socket.gethostname()}")
        self._put(f"machine{self.rank}", os.environ.get("GROUP_RANK", "0"))
        deadline = time.monotonic() + RENDEZVOUS_TIMEOUT
        while missing := [r for r in self.others if not self._count(f"beat{r}")]:
            for r, exit_ in self.exits().items():
                raise PACZeroError(f"processes: rank {r} ended before the run began: {exit_.reason}")
            if time.monotonic() > deadline:
                raise PACZeroError(
                    f"processes: {self.size} were to meet, but {listed(missing)} did not come within "
                    f"{RENDEZVOUS_TIMEOUT:.0f} s; start the launcher on every machine, with the same address and "
                    "number of processes"
                )
            time.sleep(0.02)
        for r in self.others:
            while (text := self._get(f"name{r}")) is None or self._get(f"machine{r}") is None:
                time.sleep(0.02)
            self.names[r] = f"rank {r} of {self.size} ({text})"
        # The store is on rank 0's machine: where it is lost, one of these ranks ended.
        machines = [self._get(f"machine{r}") for r in range(self.size)]
        self.store_hosts = [r for r in self.others if machines[r] == machines[0]]
        # Rank 0 holds the store and ends with it, unless the launcher holds it.
        left = range(0 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") else 1, self.size)
        self._reports = self.rank == min(r for r in [*left, self.rank] if machines[r] == machines[self.rank])

    def stop(self) -> None:
        """Stops the heartbeat."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * INTERVAL)

    def alarm(self) -> None:
        """Ends the waits of all other ranks."""
        self._count("alarm", 1)

    def alarmed(self) -> bool:
        """Whether a rank raised the alarm, or has been silent for too long."""
        if self.store_lost or self._count("alarm"):
            return True
        for r in self.others:
            last_count, looked, silent = self._seen[r]
            now, count = time.monotonic(), self._count(f"beat{r}")
            # While this process was itself stopped it saw no heartbeats, which says nothing of the others.
            silent = 0.0 if count != last_count else silent + min(now - looked, 2.0)
            self._seen[r] = (count, now, silent)
        return self.store_lost or any(silent > HEARTBEAT_TIMEOUT for _, _, silent in self._seen.values())

    def missing(self) -> list[int]:
        """The ranks that neither count on nor reported their end; takes `RESPONSE_TIMEOUT` seconds if there are any."""
        before = {r: self._count(f"beat{r}") for r in self.others}
        deadline = time.monotonic() + RESPONSE_TIMEOUT
        while not self.store_lost:
            ended = self.exits()
            silent = [r for r in self.others if r not in ended and self._count(f"beat{r}") == before[r]]
            if not silent or time.monotonic() > deadline:
                return [] if self.store_lost else silent
            time.sleep(INTERVAL / 5)
        return []

    def report_exit(self, exit_code: int, reason: str, origin: int | None = None) -> None:
        """Reports the end of this rank; only the first report counts.

        Args:
            exit_code, reason: as in `RankExit`.
            origin: the rank on which the error happened; this one by default.
        """
        if self._get(f"end{self.rank}") is None:
            self._put(f"end{self.rank}", json.dumps([exit_code, reason, self.rank if origin is None else origin]))

    def wait_for_exits(self) -> None:
        """Waits up to `EXIT_TIMEOUT` seconds until all others have ended: the store may end with this rank."""
        deadline = time.monotonic() + EXIT_TIMEOUT
        while not self.store_lost and len(self.exits()) < self.size - 1 and time.monotonic() < deadline:
            time.sleep(INTERVAL / 5)

    def exits(self) -> dict[int, RankExit]:
        """The other ranks that reported their end."""
        found = {r: self._get(f"end{r}") for r in self.others}
        return {r: RankExit(*json.loads(text)) for r, text in found.items() if text is not None}

    def claim(self, what: str) -> bool:
        """Whether this rank is the first to claim `what`, so that one of several ranks reports an error.

        Where the store is lost, one rank of each machine reports it.
        """
        count = self._count(f"claim {what}", 1)
        return self._reports if self.store_lost else count == 1

    # -- the store -----------------------------------------------------------------------------------------------------

    def _beat(self, store: Any) -> None:
        while not self.store_lost:
            try:
                store.add(f"beat{self.rank}", 1)
            except RuntimeError:  # the process of the store ended; waits see `store_lost`
                self.store_lost = True
            if self._stop.wait(INTERVAL):
                return

    def _count(self, key: str, by: int = 0) -> int:
        """A counter after adding; 0 where the store is lost."""
        try:
            return 0 if self.store_lost else int(self.store.add(key, by))
        except RuntimeError:
            self.store_lost = True
            return 0

    def _put(self, key: str, text: str) -> None:
        try:
            if not self.store_lost:
                self.store.set(key, text)
        except RuntimeError:
            self.store_lost = True

    def _get(self, key: str) -> str | None:
        try:
            return self.store.get(key).decode() if not self.store_lost and self.store.check([key]) else None
        except RuntimeError:
            self.store_lost = True
            return None


def listed(ranks: Iterable[int]) -> str:
    """Ranks in words.

    >>> listed([2]), listed([0, 3])
    ('rank 2', 'ranks 0, 3')
    """
    numbers = list(map(str, ranks))
    return f"rank {numbers[0]}" if len(numbers) == 1 else f"ranks {', '.join(numbers)}"
