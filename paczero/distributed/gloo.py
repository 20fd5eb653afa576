"""The ranks that a launcher started: they meet through its store and exchange values through gloo, on the CPU.

Only scores, released bits and public flags are exchanged: N scalars a pass and K values a step, so gloo serves GPUs as
well. torch's collectives cannot be interrupted. Each therefore runs in a thread while the main thread waits, handles
signals and checks the heartbeats: a rank that is killed or hangs ends the others, with one line that names it.
"""

import atexit
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
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
    terminable,
)
from paczero.distributed.heartbeat import RENDEZVOUS_TIMEOUT, HeartbeatMonitor, listed
from paczero.errors import IntegrityError, PACZeroError

T = TypeVar("T")

POLL_INTERVAL = 1.0  # seconds between looks at the heartbeats during a wait

INTERRUPTED = 130

_sessions = itertools.count()


class GlooProcessGroup(ProcessGroup):
    """The group of a process that a launcher started; made by `paczero.distributed.join`.

    Args:
        rank, size: from the launcher's environment.

    Raises:
        PACZeroError: the ranks do not come together.
    """

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size
        self._exit_code: int | None = None  # set once nothing can be exchanged any more
        try:
            store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=timedelta(seconds=RENDEZVOUS_TIMEOUT)))
        except (RuntimeError, ValueError) as error:
            raise PACZeroError(f"processes: the launcher's store cannot be reached: {_line(error)}") from error
        # A launcher that starts the ranks again keeps the store, and with it the alarms of the attempt before.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        session = f"paczero {attempt} {next(_sessions)}"
        self.heartbeat = HeartbeatMonitor(dist.PrefixStore(f"{session} heartbeat", store), rank, size)
        self.heartbeat.rendezvous()
        timeout = timedelta(days=365)  # the heartbeats, not a fixed time, say whether a rank still works
        self._owns_default_group = not dist.is_initialized()
        if self._owns_default_group:
            dist.init_process_group(
                "gloo", store=dist.PrefixStore(session, store), rank=rank, world_size=size, timeout=timeout
            )
        self._group = dist.group.WORLD if self._owns_default_group else dist.new_group(backend="gloo", timeout=timeout)
        atexit.register(self._at_exit)

    # -- exchange ------------------------------------------------------------------------------------------------------

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        message: list[Any] = [None, None]  # (exit code and reason of a failure, value)
        failure: Exception | None = None
        if self.is_main:
            try:
                message[1] = make()
            except Exception as error:
                failure, message[0] = error, (_code(error), _line(error))
        self._wait(lambda: dist.broadcast_object_list(message, group_src=0, group=self._group))
        if failure is not None:
            raise failure
        if message[0] is not None:
            exit_code, reason = message[0]
            raise RemoteRankError(0, reason, exit_code)
        return message[1]

    def on_main(self, make: Callable[[], T]) -> T | None:
        made: list[T] = []
        self.broadcast_from_main(lambda: made.append(make()))
        return made[0] if self.is_main else None

    def sum(self, values: np.ndarray) -> np.ndarray:
        # As integers: where all other ranks have zero bits, the bits of the one that counts arrive unchanged.
        bits = torch.from_numpy(np.ascontiguousarray(values)).clone()
        integers = bits.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[bits.element_size()])
        self._wait(lambda: dist.all_reduce(integers, group=self._group))
        return bits.numpy().reshape(values.shape)

    def assert_equal(self, facts: Mapping[str, str]) -> None:
        differing: dict[str, list[str]] = {}
        for name, values in zip(facts, zip(*self._gather(list(facts.values())), strict=True), strict=True):
            if ranks := _minority(values):
                differing.setdefault(listed(ranks), []).append(name)
        if differing:
            message = "; ".join(f"{ranks}: another {', another '.join(names)}" for ranks, names in differing.items())
            raise IntegrityError(
                f"processes: {message} than the other ranks; give all of them the same model, data, settings and "
                "versions"
            )

    def check_weights(self, fingerprint: Callable[[], str], done: int) -> None:
        if ranks := _minority(self._gather(fingerprint())):
            raise WeightsDivergedError(
                f"weights: after step {done} those of {listed(ranks)} differ from the others'; a machine computes or "
                "remembers wrongly. What was released until then stands in the journal"
            )

    def device(self, setting: str) -> str:
        if setting not in ("auto", "cuda") or not torch.cuda.is_available():
            return setting
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % torch.cuda.device_count()}"

    def _gather(self, value: T) -> list[T]:
        """The value of each rank."""
        values: list[Any] = [None] * self.size
        self._wait(lambda: dist.all_gather_object(values, value, group=self._group))
        return values

    def _wait(self, exchange: Callable[[], None]) -> None:
        """Runs a collective; ends this rank where a signal arrives or another rank is lost meanwhile."""
        if self._exit_code is not None:
            raise PACZeroError("processes: they were parted by an earlier error; start all of them again")
        future: Future[None] = Future()

        def run() -> None:
            try:
                exchange()
                future.set_result(None)
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="exchange", daemon=True).start()
        try:
            while True:
                try:
                    return future.result(timeout=POLL_INTERVAL)
                except TimeoutError:
                    if self.heartbeat.alarmed():
                        self._raise_cause(None)
        except RuntimeError as error:  # gloo's only kind: a connection was closed
            self._raise_cause(error)
        except KeyboardInterrupt:
            self._exit_code = INTERRUPTED
            raise

    # -- the end -------------------------------------------------------------------------------------------------------

    def _raise_cause(self, error: RuntimeError | None) -> NoReturn:
        """Finds out which rank ended or was lost, and raises what this rank reports."""
        self._exit_code = 1
        self.heartbeat.alarm()
        if missing := self.heartbeat.missing():
            raise self._lost(missing) from error
        if self.heartbeat.store_lost:
            ranks = " or ".join(self.heartbeat.names[rank] for rank in self.heartbeat.store_hosts)
            raise RankLostError(f"processes: {ranks or 'the launcher'} was lost, or the launcher there") from error
        exits = self.heartbeat.exits()
        if not exits:
            raise RankLostError(f"processes: a connection between the ranks broke ({_line(error)})") from error
        first = exits[min(exits)]
        if first.exit_code == INTERRUPTED and self.is_main:
            raise KeyboardInterrupt from error
        raise RemoteRankError(first.origin, first.reason, first.exit_code) from error

    def _lost(self, missing: Sequence[int]) -> RankLostError:
        ranks = ", ".join(self.heartbeat.names[rank] for rank in missing)
        return RankLostError(f"processes: {ranks} was lost: killed (out of memory?), or it hangs")

    @contextmanager
    def detect_lost_ranks(self) -> Iterator[None]:
        try:
            with terminable():  # a launcher terminates the other ranks where one was killed
                yield
        except KeyboardInterrupt as error:
            self._exit_code = INTERRUPTED
            if missing := self.heartbeat.missing():
                raise self._lost(missing) from error
            raise

    def close(self) -> None:
        self.broadcast_from_main(lambda: None)
        self.heartbeat.report_exit(0, "finished")
        self.heartbeat.stop()
        self._exit_code = None
        dist.destroy_process_group(None if self._owns_default_group else self._group)
        atexit.unregister(self._at_exit)
        self.closed = True

    def abort(self, error: BaseException) -> BaseException:
        code, line = _code(error), _line(error)
        self._exit_code = code
        if isinstance(error, RemoteRankError):
            self.heartbeat.report_exit(code, error.reason, error.rank)
            return error
        self.heartbeat.report_exit(code, line)
        self.heartbeat.alarm()
        if isinstance(error, KeyboardInterrupt):
            reports = self.is_main
        else:
            reports = self.heartbeat.claim("loss" if isinstance(error, RankLostError) else line)
        return error if reports else RemoteRankError(self.rank, line, code)

    def _at_exit(self) -> None:
        """Ends the process without waiting for exchanges that a lost rank will never answer."""
        if self._exit_code is None:  # a user's script ended or failed
            self.heartbeat.report_exit(1, "its program ended")
        elif self.is_main:
            self.heartbeat.wait_for_exits()
        self.heartbeat.stop()
        if self._exit_code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._exit_code)


def _minority(values: Sequence[str]) -> list[int]:
    """The ranks whose value is not the most frequent one; at a tie, rank 0's value wins.

    >>> _minority(["a", "b", "a"]), _minority(["a", "b"])
    ([1], [1])
    """
    common = max(values, key=lambda value: (values.count(value), value == values[0]))
    return [rank for rank, value in enumerate(values) if value != common]


def _code(error: BaseException) -> int:
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else int(getattr(error, "exit_code", 1))


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
