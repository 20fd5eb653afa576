"""Runs of a sweep as processes: each is a `paczero train` with the same interpreter, and has a log."""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from paczero.config_io import save_settings
from paczero.experiments.sweep import Planned, given_anew, state_of

_WAIT = 0.2  # seconds between two looks

_PARENT_DEATH = 1  # Linux, prctl(2): PR_SET_PDEATHSIG

_PATIENCE = 60.0  # seconds that a run has to finish its step


class Workers:
    """Starts runs and reports which have ended.

    Args:
        threads: of each run.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._running: dict[int, tuple[Planned, subprocess.Popen[bytes]]] = {}

    @property
    def busy(self) -> list[Planned]:
        """The runs that are at work."""
        return [item for item, _ in self._running.values()]

    def start(self, item: Planned) -> None:
        """Begins a run, or goes on with it where it was interrupted."""
        item.directory.parent.mkdir(parents=True, exist_ok=True)
        if state_of(item) == "new":
            save_settings(item.settings, item.config)
            arguments = ["--config", str(item.config)]
        else:
            arguments = ["--resume", str(item.directory), *as_flags(given_anew(item))]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        command = [sys.executable, "-m", "paczero", "train", *arguments]
        with item.log.open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_SH)  # the run inherits it: locked, it is still at work
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=_ending_with_us(),  # noqa: PLW1509
            )
        self._running[process.pid] = (item, process)

    def ended(self) -> list[tuple[Planned, int]]:
        """Waits a moment; returns the runs that have ended, with their exit codes."""
        time.sleep(_WAIT)
        over = [
            (pid, item, process.returncode)
            for pid, (item, process) in self._running.items()
            if process.poll() is not None
        ]
        for pid, _, _ in over:
            del self._running[pid]
        return [(item, code) for _, item, code in over]

    def close(self) -> None:
        """Stops the runs as Ctrl-C would; they can go on later."""
        for _, process in self._running.values():
            process.terminate()  # a process that a shell started in the background ignores SIGINT
        until = time.monotonic() + _PATIENCE
        for _, process in self._running.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as flags of `paczero train`.

    >>> as_flags({"device": "cpu", "report_to": ["wandb"]})
    ['--device=cpu', '--report_to=["wandb"]']
    """
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def _ending_with_us() -> Callable[[], None] | None:
    """A function that a run calls first: it then stops as by Ctrl-C when the sweep is killed. None except on Linux."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def follow() -> None:
        prctl(_PARENT_DEATH, signal.SIGTERM)
        if os.getppid() != parent:  # the sweep was killed before the call above
            os._exit(128 + signal.SIGTERM)

    return follow
