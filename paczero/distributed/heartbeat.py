"""Who of the processes is still there, who ended and why: through the launcher's store, beside the work.

Each rank counts its heartbeats there from a thread of its own. A rank that is killed, stopped or cut off counts no
further; one that merely takes long does. So nobody has to guess how long a wait for another rank may be.
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

BEAT = 0.5  # seconds between heartbeats

ANSWER = 6.0  # seconds in which a rank must count on when the roll is called

SILENCE = 100.0  # seconds without a heartbeat after which a rank counts as hanging while others wait for it

LINGER = 4.0  # seconds that rank 0 stays so that the others can learn how it ended

MEETING = 300.0  # seconds in which all ranks must have come together


@dataclass(frozen=True)
class Ended:
    """How a rank ended: its exit code, in a line why, and on which rank that happened."""

    exit_code: int
    why: str
    where: int


class HeartbeatMonitor:
    """The store as this rank sees it.

    Args:
        store: a `torch.distributed` store that all ranks reach; it must outlive them.
        rank, size: of this process.

    Attributes:
        gone: whether the store itself cannot be reached any more.
        names: each rank with its process, in words.
        hosts: the other ranks on the machine that has the store.
    """

    def __init__(self, store: Any, rank: int, size: int):
        self.store, self.rank, self.size = store, rank, size
        self.gone = False
        self.hosts: list[int] = []
        self._speaks = False  # whether this rank is its machine's voice where the store is gone
        self.names = {r: f"rank {r}" for r in range(size)}
        self._heard = {r: (-1, time.monotonic(), 0.0) for r in self.others}  # beats, last looked, seconds of silence
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(store.clone(),), name="heartbeat", daemon=True)

    @property
    def others(self) -> Iterable[int]:
        return [r for r in range(self.size) if r != self.rank]

    def meet(self) -> None:
        """Begins to beat and waits for all others.

        Raises:
            PACZeroError: not all came.
        """
        self._thread.start()
        self._put(f"name{self.rank}", f"process {os.getpid()} on {socket.gethostname()}")
        self._put(f"machine{self.rank}", os.environ.get("GROUP_RANK", "0"))
        deadline = time.monotonic() + MEETING
        while missing := [r for r in self.others if not self._count(f"beat{r}")]:
            for r, end in self.ended().items():
                raise PACZeroError(f"processes: rank {r} ended before the run began: {end.why}")
            if time.monotonic() > deadline:
                raise PACZeroError(
                    f"processes: {self.size} were to meet, but {listed(missing)} did not come within {MEETING:.0f} s; "
                    "start the launcher on every machine, with the same address and number of processes"
                )
            time.sleep(0.02)
        for r in self.others:
            while (text := self._get(f"name{r}")) is None or self._get(f"machine{r}") is None:
                time.sleep(0.02)
            self.names[r] = f"rank {r} of {self.size} ({text})"
        # The store is where rank 0 is, so where it is gone one of these ended.
        machines = [self._get(f"machine{r}") for r in range(self.size)]
        self.hosts = [r for r in self.others if machines[r] == machines[0]]
        # Where it is gone, its process took rank 0 along, unless it is the launcher's.
        left = range(0 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") else 1, self.size)
        self._speaks = self.rank == min(r for r in [*left, self.rank] if machines[r] == machines[self.rank])

    def stop(self) -> None:
        """Beats no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * BEAT)

    def alarm(self) -> None:
        """Makes all others look up from what they wait for."""
        self._count("alarm", 1)

    def alarmed(self) -> bool:
        """Whether somebody raised the alarm, ended, or has been silent for too long."""
        if self.gone or self._count("alarm"):
            return True
        for r in self.others:
            beats, looked, silent = self._heard[r]
            now, count = time.monotonic(), self._count(f"beat{r}")
            # A process that was itself stopped for a while has heard nobody, and that says nothing of the others.
            silent = 0.0 if count != beats else silent + min(now - looked, 2.0)
            self._heard[r] = (count, now, silent)
        return self.gone or any(silent > SILENCE for _, _, silent in self._heard.values())

    def missing(self) -> list[int]:
        """Calls the roll: the ranks that neither go on counting nor said that they ended; takes seconds if any."""
        before = {r: self._count(f"beat{r}") for r in self.others}
        deadline = time.monotonic() + ANSWER
        while not self.gone:
            ended = self.ended()
            silent = [r for r in self.others if r not in ended and self._count(f"beat{r}") == before[r]]
            if not silent or time.monotonic() > deadline:
                return [] if self.gone else silent
            time.sleep(BEAT / 5)
        return []

    def end(self, exit_code: int, why: str, where: int | None = None) -> None:
        """Says that this rank ends, and how; the first word stands.

        Args:
            where: the rank on which that happened; this one where left out.
        """
        if self._get(f"end{self.rank}") is None:
            self._put(f"end{self.rank}", json.dumps([exit_code, why, self.rank if where is None else where]))

    def linger(self) -> None:
        """Waits, not for long, until all others have ended: the store may end with this rank."""
        deadline = time.monotonic() + LINGER
        while not self.gone and len(self.ended()) < self.size - 1 and time.monotonic() < deadline:
            time.sleep(BEAT / 5)

    def ended(self) -> dict[int, Ended]:
        """The other ranks that said so."""
        found = {r: self._get(f"end{r}") for r in self.others}
        return {r: Ended(*json.loads(text)) for r, text in found.items() if text is not None}

    def claim(self, what: str) -> bool:
        """Whether this rank is the first to claim it: of several that would say the same, one does.

        Where the store is gone nobody knows, and one rank of each machine says it.
        """
        count = self._count(f"claim {what}", 1)
        return self._speaks if self.gone else count == 1

    # -- the store -----------------------------------------------------------------------------------------------------

    def _beat(self, store: Any) -> None:
        while not self.gone:
            try:
                store.add(f"beat{self.rank}", 1)
            except RuntimeError:  # its process ended; whoever waits for another rank will see `gone`
                self.gone = True
            if self._stop.wait(BEAT):
                return

    def _count(self, key: str, by: int = 0) -> int:
        """A counter after adding; 0 where the store is gone."""
        try:
            return 0 if self.gone else int(self.store.add(key, by))
        except RuntimeError:
            self.gone = True
            return 0

    def _put(self, key: str, text: str) -> None:
        try:
            if not self.gone:
                self.store.set(key, text)
        except RuntimeError:
            self.gone = True

    def _get(self, key: str) -> str | None:
        try:
            return self.store.get(key).decode() if not self.gone and self.store.check([key]) else None
        except RuntimeError:
            self.gone = True
            return None


def listed(group: Iterable[int]) -> str:
    """Ranks in words: `rank 2`, `group 0, 3`."""
    numbers = list(map(str, group))
    return f"rank {numbers[0]}" if len(numbers) == 1 else f"ranks {', '.join(numbers)}"
