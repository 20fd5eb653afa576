"""What a person reads: refusals, a live line, times and sizes.

>>> duration(133), size(98_000_000)
('2 min 13 s', '98 MB')
"""

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    import rich.live

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

    What is longer than a terminal is wide goes on in the next row, so that nothing is missing in a narrow one.

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
        self._drawn: rich.live.Live | None = None  # on a terminal, while something is shown
        self._shown = ""  # the last text given
        self._pending = False  # whether that text still has to be written as a plain line

    def show(self, text: str) -> None:
        """Shows where things stand now; `text` has one line."""
        if self._redraws:
            self._redraw(text)
            return
        self._shown = text
        if (now := self._clock()) >= self._next:
            self._next, self._pending = now + self._every, False
            self._write(f"{text}\n")
        else:
            self._pending = True

    def note(self, text: str) -> None:
        """Prints a line that stays, above the live one."""
        if self._drawn is None:
            self._write(f"{text}\n")
        else:
            self._drawn.console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Leaves the last text standing and the cursor on a line of its own; may be called again."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None
        elif self._pending:
            self._write(f"{self._shown}\n")
        self._shown, self._pending, self._next = "", False, -float("inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _redraw(self, text: str) -> None:
        from rich.text import Text

        if self._drawn is None:
            self._drawn = self._begin()
        self._drawn.update(Text(text), refresh=True)

    def _begin(self) -> "rich.live.Live":
        """A display that draws when it is told to, without a thread; standard output stays what it is, for results."""
        from rich.console import Console
        from rich.live import Live as Drawn

        console = Console(file=self._stream, force_terminal=True, force_interactive=True, markup=False, highlight=False)
        # What a library prints to standard error meanwhile appears above the line.
        ours = self._stream is sys.stderr
        drawn = Drawn(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=ours)
        drawn.start()
        console.show_cursor(True)  # a run that is killed outright must not leave a terminal without a cursor
        return drawn

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
