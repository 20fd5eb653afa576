"""Ranks that a launcher started: they meet through its store and talk through gloo, on the CPU.

Only scores, released bits and public flags travel: N scalars a pass and K values a step, so gloo serves GPUs as well.
Every wait can be interrupted, and looks up each second: a rank that is killed or hangs ends the others with one line
that names it.
"""

import atexit
import hashlib
import itertools
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from paczero.distributed.base import (
    ProcessGroup,
    RankLostError,
    RemoteRankError,
    WeightsDivergedError,
    forget,
    terminable,
)
from paczero.distributed.heartbeat import MEETING, HeartbeatMonitor, listed
from paczero.errors import IntegrityError, PACZeroError

T = TypeVar("T")

LOOK = 1.0  # seconds after which a wait looks whether all are still there

INTERRUPTED = 130

_FRAME = 512  # bytes of a message's first part; most need no second

_sessions = itertools.count()


class GlooProcessGroup(ProcessGroup):
    """One of the processes that a launcher started; made by `paczero.distributed.base.join`.

    Args:
        rank, size: as the launcher's environment has them.

    Raises:
        PACZeroError: the ranks do not come together.
    """

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size
        self._ending: int | None = None  # the exit code once the ranks are parted and nothing can be exchanged any more
        patience = timedelta(seconds=MEETING)
        try:
            store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=patience))
        except (RuntimeError, ValueError) as error:
            raise PACZeroError(f"processes: the launcher's meeting place cannot be reached: {_line(error)}") from error
        session = f"paczero {next(_sessions)}"
        self.roll = HeartbeatMonitor(dist.PrefixStore(f"{session} roll", store), rank, size)
        self.roll.meet()
        # How long a rank may take nobody can know; who waits for it hears its heartbeat.
        forever = timedelta(days=365)
        self._own = not dist.is_initialized()
        if self._own:
            dist.init_process_group(
                "gloo", store=dist.PrefixStore(session, store), rank=rank, world_size=size, timeout=forever
            )
        self._group = dist.group.WORLD if self._own else dist.new_group(backend="gloo", timeout=forever)
        atexit.register(self._at_exit)

    # -- what travels --------------------------------------------------------------------------------------------------

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        value: Any = None
        failure: BaseException | None = None
        message = b""
        if self.is_main:
            try:
                value = make()
                message = pickle.dumps((None, value))
            except Exception as error:
                failure = error
                message = pickle.dumps(((_code(error), _line(error)), None))
        failed, shared = pickle.loads(self._send(message))  # rank 0 of the same run sent it
        if failure is not None:
            raise failure
        if failed is not None:
            raise RemoteRankError(0, failed[1], failed[0])
        return value if self.is_main else shared

    def on_main(self, make: Callable[[], T]) -> T | None:
        kept: list[T] = []

        def silent() -> None:
            kept.append(make())

        self.broadcast_from_main(silent)
        return kept[0] if self.is_main else None

    def sum(self, values: np.ndarray) -> np.ndarray:
        # As whole numbers: where all others have zero bits, the bits of the one that counts arrive as they are.
        bits = torch.from_numpy(np.ascontiguousarray(values)).clone()
        whole = bits.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[bits.element_size()])
        self._wait(lambda: dist.all_reduce(whole, group=self._group, async_op=True))
        return bits.numpy().reshape(values.shape)

    def assert_equal(self, facts: Mapping[str, str]) -> None:
        hashes = self._hashes(facts.values())
        found: dict[str, list[str]] = {}
        for place, what in enumerate(facts):
            if others := _others(hashes[:, place]):
                found.setdefault(listed(others), []).append(what)
        if found:
            said = "; ".join(f"{who}: another {', another '.join(what)}" for who, what in found.items())
            raise IntegrityError(
                f"processes: {said} than the other ranks; give all of them the same model, data, settings and versions"
            )

    def check_weights(self, fingerprint: Callable[[], str], done: int) -> None:
        others = _others(self._hashes([fingerprint()])[:, 0])
        if others:
            raise WeightsDivergedError(
                f"weights: after step {done} those of {listed(others)} differ from the others'; a machine computes or "
                "remembers wrongly. What was released until then stands in the journal"
            )

    def device(self, setting: str) -> str:
        if setting not in ("auto", "cuda") or not torch.cuda.is_available():
            return setting
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % torch.cuda.device_count()}"

    def _hashes(self, texts: Any) -> np.ndarray:
        """The hash of each text on each rank (size, texts, 4), int64."""
        mine = np.frombuffer(b"".join(hashlib.sha256(text.encode()).digest() for text in texts), dtype=np.int64)
        table = np.zeros((self.size, mine.size // 4, 4), dtype=np.int64)
        table[self.rank] = mine.reshape(-1, 4)
        return self.sum(table)

    def _send(self, message: bytes) -> bytes:
        """Rank 0's message, on all ranks: its length and beginning first, what is left after it."""
        frame = torch.zeros(_FRAME, dtype=torch.uint8)
        if self.is_main:
            head = len(message).to_bytes(8, "little") + message[: _FRAME - 8]
            frame[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8)
        self._wait(lambda: dist.broadcast(frame, group_src=0, group=self._group, async_op=True))
        content = frame.numpy().tobytes()
        length, start = int.from_bytes(content[:8], "little"), content[8:]
        if length <= len(start):
            return start[:length]
        rest = torch.zeros(length - len(start), dtype=torch.uint8)
        if self.is_main:
            rest.copy_(torch.frombuffer(bytearray(message[len(start) :]), dtype=torch.uint8))
        self._wait(lambda: dist.broadcast(rest, group_src=0, group=self._group, async_op=True))
        return start + rest.numpy().tobytes()

    def _wait(self, begin: Callable[[], Any]) -> None:
        """Exchanges something; whatever keeps the others from taking part ends this rank too."""
        if self._ending is not None:
            raise PACZeroError("processes: they were parted by an earlier error; start all of them again")
        done = threading.Event()
        try:
            work = begin()
            work.get_future().add_done_callback(lambda _: done.set())
            while not done.wait(LOOK):
                if self.roll.alarmed():
                    self._part(None)
            work.wait()
        except RuntimeError as error:  # gloo's only kind: a connection was closed
            self._part(error)
        except KeyboardInterrupt:
            self._ending = INTERRUPTED
            raise

    # -- how it ends ---------------------------------------------------------------------------------------------------

    def _part(self, cause: RuntimeError | None) -> NoReturn:
        """Ends this rank's part, once it is clear who left."""
        self._ending = 1
        self.roll.alarm()
        if missing := self.roll.missing():
            raise self._lost(missing) from cause
        if self.roll.gone:
            who = " or ".join(self.roll.names[rank] for rank in self.roll.hosts)
            raise RankLostError(f"processes: {who or 'the launcher'} was lost, or the launcher there") from cause
        ended = self.roll.ended()
        if not ended:
            raise RankLostError(f"processes: a connection between the ranks broke ({_line(cause)})") from cause
        end = ended[min(ended)]
        if end.exit_code == INTERRUPTED and self.is_main:
            raise KeyboardInterrupt from cause
        raise RemoteRankError(end.where, end.why, end.exit_code) from cause

    def _lost(self, missing: list[int]) -> RankLostError:
        who = ", ".join(self.roll.names[rank] for rank in missing)
        return RankLostError(f"processes: {who} was lost: killed (out of memory?), or it hangs")

    @contextmanager
    def watched(self) -> Iterator[None]:
        try:
            with terminable():  # a launcher ends the others so, where one was killed
                yield
        except KeyboardInterrupt as error:
            self._ending = INTERRUPTED
            if missing := self.roll.missing():
                raise self._lost(missing) from error
            raise

    def leave(self) -> None:
        """Ends together with all others."""
        self.broadcast_from_main(lambda: None)
        self.roll.end(0, "finished")
        self.roll.stop()
        self._ending = None
        if self._own:
            dist.destroy_process_group()
        else:
            dist.destroy_process_group(self._group)
        atexit.unregister(self._at_exit)
        forget()

    def left_by(self, error: BaseException) -> BaseException:
        """What this rank has to say of the error that ended it; `RemoteRankError` where another rank says it."""
        code, line = _code(error), _line(error)
        self._ending = code
        if isinstance(error, RemoteRankError):
            self.roll.end(code, error.why, error.rank)
            return error
        self.roll.end(code, line)
        self.roll.alarm()
        if isinstance(error, KeyboardInterrupt):
            speaks = self.is_main
        else:
            speaks = self.roll.claim("loss" if isinstance(error, RankLostError) else line)
        return error if speaks else RemoteRankError(self.rank, line, code)

    def _at_exit(self) -> None:
        """Python would wait, at its end, for exchanges that a lost rank will never answer."""
        if self._ending is None:  # a script of the user's came to its end, or failed
            self.roll.end(1, "its program ended")
        elif self.is_main:
            self.roll.linger()
        self.roll.stop()
        if self._ending is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._ending)


def _others(hashes: np.ndarray) -> list[int]:
    """The ranks whose hash (size, 4) is not that of most; rank 0's counts where as many have another."""
    rows = [row.tobytes() for row in hashes]
    most = max(rows, key=lambda row: (rows.count(row), row == rows[0]))
    return [rank for rank, row in enumerate(rows) if row != most]


def _code(error: BaseException) -> int:
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else int(getattr(error, "exit_code", 1))


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
