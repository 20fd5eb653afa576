"""Runs of a sweep as processes: each is a `paczero train` of the same interpreter, with a log."""

import ctypes
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
from paczero.run_directory import shared_log

_WAIT = 0.2  # seconds between two polls

_PARENT_DEATH = 1  # Linux, prctl(2): PR_SET_PDEATHSIG

_PATIENCE = 60.0  # seconds for a run to finish its step


class Workers:
    """Starts runs and reports which have ended.

    Args:
        threads: of each run.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._running: list[tuple[Planned, subprocess.Popen[bytes]]] = []

    @property
    def busy(self) -> list[Planned]:
        """The runs that are running."""
        return [item for item, _ in self._running]

    def start(self, item: Planned) -> None:
        """Starts a run, or resumes an interrupted one."""
        item.directory.parent.mkdir(parents=True, exist_ok=True)
        if state_of(item) == "new":
            save_settings(item.settings, item.config)
            arguments = ["--config", str(item.config)]
        else:
            arguments = ["--resume", str(item.directory), *as_flags(given_anew(item))]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        command = [sys.executable, "-m", "paczero", "train", *arguments]
        with shared_log(item.log) as log:  # the run inherits the lock: a locked log means that it is running
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=_stop_with_parent(),  # noqa: PLW1509
            )
        self._running.append((item, process))

    def ended(self) -> list[tuple[Planned, int]]:
        """Waits a moment; returns the runs that have ended, with their exit codes."""
        time.sleep(_WAIT)
        ended = [(item, process) for item, process in self._running if process.poll() is not None]
        self._running = [(item, process) for item, process in self._running if process.returncode is None]
        return [(item, process.returncode) for item, process in ended]

    def close(self) -> None:
        """Stops the runs as Ctrl-C would; they can go on later."""
        for _, process in self._running:
            process.terminate()  # a process that a shell started in the background ignores SIGINT
        until = time.monotonic() + _PATIENCE
        for _, process in self._running:
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


def _stop_with_parent() -> Callable[[], None] | None:
    """A function for the child process to call first: SIGTERM reaches it when the sweep is killed. Linux only."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def request_signal() -> None:
        prctl(_PARENT_DEATH, signal.SIGTERM)
        if os.getppid() != parent:  # the sweep was killed before the call above
            os._exit(128 + signal.SIGTERM)

    return request_signal
