"""Messages of a command while it works: errors, warnings, and the live line of a run.

    with Live() as live:
        trainer.observers.append(ProgressCallback(live, mechanism))

    step 120 of 300 · 1 min 12 s left · unanimous 48 % (last 50: 36 %) · spent 0.12 of 0.33 nats · dev 71.2 %

The line is for the owner alone: unanimous steps and spent nats depend on the pool and must not be published.
"""

import contextlib
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from paczero.config import MechanismConfig
from paczero.data.metrics import METRICS
from paczero.mechanism.registry import spec_of
from paczero.utils.formatting import duration

if TYPE_CHECKING:
    import rich.live

    from paczero.training.loop import DevResult, Step


def complain(message: str) -> None:
    """Prints an error as one line on standard error."""
    _write_now(sys.stderr, f"paczero: error: {' '.join(message.split())}\n")


def warn(message: str) -> None:
    """Prints a warning as one line on standard error."""
    _write_now(sys.stderr, f"paczero: warning: {' '.join(message.split())}\n")


def _write_now(stream: TextIO | None, text: str) -> None:
    """Writes a message at once; a stream that takes nothing more does not change what a command returns."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError:  # such as a full disk; what is left in the buffer would fail again at exit
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Live:
    """One line that is redrawn in place; plain lines, now and then, where the output is no terminal.

    Text longer than the terminal is wide continues in the next row.

        with Live(every=30) as live:
            live.show("step 10 of 300")           # replaces what was shown before
            live.note("dev accuracy 68.8 %")      # stays

    Args:
        stream: where to write; standard error when left out, so that standard output holds results only.
        every: seconds between plain lines (the first call prints one).
        clock: seconds, monotonic; replaced in tests.
    """

    def __init__(
        self, stream: TextIO | None = None, *, every: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._redraws = (
            self._stream is not None and self._stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        )
        self._every, self._clock = every, clock
        self._next = -float("inf")
        self._drawn: rich.live.Live | None = None  # on a terminal, while something is shown
        self._shown = ""  # the last text given
        self._printed = ""  # the last text written as a plain line, which is not written again
        self._pending = False  # whether that text still has to be written as a plain line

    def show(self, text: str) -> None:
        """Replaces the line; `text` has one line."""
        if self._redraws:
            self._redraw(text)
            return
        self._shown = text
        if text == self._printed:
            self._pending = False
        elif (now := self._clock()) >= self._next:
            self._next, self._pending, self._printed = now + self._every, False, text
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
        self._shown = self._printed = ""
        self._pending, self._next = False, -float("inf")

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
        """A display that draws only when it is updated, without a thread; standard output is left alone for results."""
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
        _write_now(self._stream, text)


RECENT = 50  # releases in the recent share of unanimous ones


class ProgressCallback:
    """An observer that keeps the live line up to date.

    Args:
        live: where it is shown.
        mechanism: decides what is shown: only some mechanisms spend a budget or can be unanimous.
        clock: seconds, monotonic; replaced in tests.

    Attributes:
        done: steps taken so far.
    """

    def __init__(self, live: Live, mechanism: MechanismConfig, clock: Callable[[], float] = time.monotonic):
        self.live, self.mechanism, self.clock = live, mechanism, clock
        self.done = 0
        self._releases = self._unanimous = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._dev: list[DevResult] = []
        self._zero_derivatives = self._nonfinite = False
        self._pace: tuple[int, float] | None = None  # the first step that was measured here, and when it ended

    def on_step(self, step: "Step") -> None:
        self.done = step.index + 1
        flags = step.release.unanimous
        self._releases += len(flags)
        self._unanimous += sum(flags)
        self._recent.extend(flags)
        if step.loss is None:  # from the journal: its time does not count for the pace
            self.live.show(f"going through step {self.done:,} of {step.steps:,} again, as the journal has it")
            return
        if step.release.nonfinite and not self._nonfinite:
            self._nonfinite = True
            self.live.note(
                f"step {self.done:,}: {step.release.nonfinite:,} derivatives were not finite and count as 0, as "
                "others will; training goes on; another run may do better with a smaller --learning_rate or --dtype "
                "float32 (shown once)"
            )
        if step.zero_derivatives and not step.release.nonfinite and not self._zero_derivatives:
            self._zero_derivatives = True
            self.live.note(
                f"step {self.done:,}: no record's loss changed along {step.zero_derivatives} of {len(step.release.y)} "
                "directions; what they release does not depend on the pool; a larger --mu helps (shown once)"
            )
        self.live.show(self._line(step))

    def on_dev(self, result: "DevResult") -> None:
        self._dev.append(result)

    def _line(self, step: "Step") -> str:
        parts = [f"step {self.done:,} of {step.steps:,}", self._left(step)]
        spec = spec_of(self.mechanism.name)
        if spec.candidates and self._releases:
            share, recent = self._unanimous / self._releases, sum(self._recent) / len(self._recent)
            parts.append(f"unanimous {share:.0%} (last {len(self._recent)}: {recent:.0%})".replace("%", " %"))
        if spec.has_budget:
            parts.append(f"spent {step.spent:.3g} of {self.mechanism.budget:g} nats")
        if self._dev:
            parts.append(self._development())
        return " · ".join(part for part in parts if part)

    def _development(self) -> str:
        """The task's figure on the dev set: the last, and the best since training began."""
        last = self._dev[-1].figures
        metric = next(metric for name, metric in METRICS.items() if name in last)
        values = [result.figures[metric.name] for result in self._dev if result.done]
        best = max(values or [last[metric.name]], key=metric.better)
        title = "" if metric.name == "accuracy" else f"{metric.title} "
        return f"dev {title}{metric.shown(last[metric.name])} (best {metric.shown(best)})"

    def _left(self, step: "Step") -> str:
        """Time left at the pace since this call's first own step, dev evaluations included."""
        now = self.clock()
        if self._pace is None:
            self._pace = (step.index, now - step.seconds)
        first, began = self._pace
        taken = step.index - first + 1
        return f"{duration((now - began) / taken * (step.steps - step.index - 1))} left"


def shown(live: Live) -> Callable[[str, int, int], None]:
    """The `progress` of a trainer, on a live line."""
    return lambda what, done, total: live.show(f"{what}: {done:,} of {total:,}")


def keep_quiet() -> None:
    """Silences the progress bars and warnings of libraries; only for the command line."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
