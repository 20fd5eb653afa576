"""What a person reads: refusals, a live line, times and sizes.

>>> duration(133), size(98_000_000)
('2 min 13 s', '98 MB')
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def complain(message: str) -> None:
    """Prints a refusal as one line on standard error."""
    print(f"paczero: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Prints what should be known but stops nothing, as one line on standard error."""
    print(f"paczero: warning: {' '.join(message.split())}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them, at two units: `0.4 s`, `2 min 13 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def size(count: float) -> str:
    """Bytes in powers of 1000, at most three digits: `812 B`, `98 MB`, `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class Live:
    """One line that is redrawn in place; plain lines, now and then, where the output is no terminal.

    >>> with Live(every=30) as live:
    ...     live.show("step 10 of 300")           # replaces what was shown before
    ...     live.note("dev accuracy 68.8 %")      # stays

    Args:
        stream: where to write; standard error when left out, so that standard output holds results only.
        every: seconds between plain lines (the first call prints one).
        clock: seconds, monotonic; replaced in tests.
    """

    def __init__(
        self, stream: TextIO | None = None, *, every: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._redraws = self._stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._every, self._clock = every, clock
        self._next = -float("inf")
        self._shown = ""  # the last text given
        self._pending = False  # whether that text still has to be written as a plain line

    def show(self, text: str) -> None:
        """Shows where things stand now; `text` has one line."""
        self._shown = text
        if self._redraws:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{text[:width]}")
        elif (now := self._clock()) >= self._next:
            self._next, self._pending = now + self._every, False
            self._write(f"{text}\n")
        else:
            self._pending = True

    def note(self, text: str) -> None:
        """Prints a line that stays, above the live one."""
        self._write(f"\r\x1b[K{text}\n" if self._redraws else f"{text}\n")
        if self._redraws and self._shown:
            self.show(self._shown)

    def close(self) -> None:
        """Leaves the last text standing and the cursor on a line of its own; may be called again."""
        if self._shown and (self._redraws or self._pending):
            self._write("\n" if self._redraws else f"{self._shown}\n")
        self._shown, self._pending, self._next = "", False, -float("inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
