"""The live line on a terminal and elsewhere; pace, unanimity, budget and dev accuracy of a run; times and sizes."""

import io
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from paczero.cli.console import Live, ProgressCallback, complain, warn
from paczero.config import MechanismConfig
from paczero.mechanism.base import Release
from paczero.training.loop import DevResult, Step
from paczero.utils.formatting import duration, size


def screen(written):
    """The lines that a terminal of any width would show at the end; knows the few codes that are used."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|\r|\n)", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part and not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return lines


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def test_plain_lines_come_now_and_then_and_the_last_always(clock):
    stream = io.StringIO()
    with Live(stream, every=10, clock=clock) as live:
        for step in range(25):
            clock.now = step
            live.show(f"step {step}")
        live.note("dev accuracy 68.8 %")
    assert stream.getvalue() == "step 0\nstep 10\nstep 20\ndev accuracy 68.8 %\nstep 24\n"


def test_a_plain_line_comes_once_until_it_changes(clock):
    """A sweep shows the same line for as long as a run takes."""
    stream = io.StringIO()
    with Live(stream, every=10, clock=clock) as live:
        for step in range(100):
            clock.now = step
            live.show("0 of 2 runs finished" if step < 55 else "1 of 2 runs finished")
    assert stream.getvalue() == "0 of 2 runs finished\n1 of 2 runs finished\n"


def test_nothing_shown_leaves_nothing():
    stream = io.StringIO()
    Live(stream).close()
    assert stream.getvalue() == ""


def test_a_terminal_is_redrawn_within_its_width(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "21")
    stream = Terminal()
    live = Live(stream)
    live.show("step 1 of 300 · 12 % unanimous · dev 70 %")
    live.note("kept [not markup], longer than the line is wide")
    live.show("step 2")
    live.close()
    live.close()
    assert screen(stream.getvalue()) == ["kept [not markup], longer than the line is wide", "step 2", ""]
    assert "step 1 of 300 · 12 % \nunanimous · dev 70 %" in stream.getvalue()
    assert stream.getvalue().rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l")  # the cursor is there again


def test_a_cursor_is_never_missing_for_long(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    live = Live(stream)
    live.show("step 1")
    text = stream.getvalue()  # all that there is when the process is killed now
    live.close()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_standard_output_is_left_alone(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    out, err = sys.stdout, sys.stderr
    with Live(Terminal()) as live:
        live.show("step 1")
        assert sys.stdout is out
        print("a result")
    assert (sys.stdout, sys.stderr) == (out, err)
    assert capsys.readouterr().out == "a result\n"


def test_rich_is_loaded_for_terminals_only():
    code = "import sys; from paczero.cli.console import Live; Live().show('x'); sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Live(stream).show("step 1")
    assert stream.getvalue() == "step 1\n"


def test_an_error_inside_still_ends_the_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(KeyError), Live(stream) as live:
        live.show("x")
        raise KeyError
    assert screen(stream.getvalue()) == ["x", ""]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (133, "2 min 13 s"),
        (3600, "1 h 0 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (98e6, "98 MB"),
        (999_600, "1.0 MB"),
        (2.5e9, "2.5 GB"),
        (4e12, "4.0 TB"),
    ],
)
def test_size(count, text):
    assert size(count) == text


def test_messages_are_one_line_on_standard_error(capsys):
    complain("a\n  b")
    warn("c")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "paczero: error: a b\npaczero: warning: c\n")


def step(index, unanimous=True, *, spent=0.0, loss=0.7, steps=10):
    release = Release(
        step=index,
        y=(1,),
        unanimous=(unanimous,),
        signs=(b"",),
        q=(0.5,),
        beta=(0.0,),
        noise=(0.0,),
        output=None,
        nonfinite=0,
    )
    return Step(index, steps, 0.1, release, spent, loss, seconds=2.0)


class Shown(Live):
    """Keeps the lines instead of printing them."""

    def __init__(self):
        super().__init__(io.StringIO())
        self.lines = []

    def show(self, text):
        self.lines.append(text)


def watched(mechanism, *events):
    """The lines after these steps and evaluations, each step taking two seconds."""
    live, now = Shown(), [100.0]
    watcher = ProgressCallback(live, mechanism, clock=lambda: now[0])
    for event in events:
        if isinstance(event, Step):
            now[0] += 2
            watcher.on_step(event)
        else:
            watcher.on_dev(event)
    return live.lines


def test_directions_that_move_nothing_are_said_once():
    live = Shown()
    live.notes = []
    live.note = live.notes.append
    watcher = ProgressCallback(live, MechanismConfig())
    for event in (step(0), replace(step(1), zero_derivatives=1), replace(step(2), zero_derivatives=1)):
        watcher.on_step(event)
    assert len(live.lines) == 3
    assert live.notes == [
        "step 2: no record's loss changed along 1 of 1 directions; what they release does not depend on the "
        "pool; a larger --mu helps (shown once)"
    ]


def test_step_time_left_unanimity_and_dev():
    dev = [DevResult(0, 0.9, 0.6, 0.0), DevResult(1, 0.72, 0.6, 0.0), DevResult(2, 0.7, 0.6, 0.0)]
    lines = watched(MechanismConfig(), dev[0], step(0), dev[1], step(1, False), dev[2], step(2, False))
    assert lines[0] == "step 1 of 10 · 18 s left · unanimous 100 % (last 1: 100 %) · dev 90.0 % (best 90.0 %)"
    assert lines[2] == "step 3 of 10 · 14 s left · unanimous 33 % (last 3: 33 %) · dev 70.0 % (best 72.0 %)"


def test_budget_of_mi_only():
    mi = MechanismConfig(name="mi", budget=0.33)
    assert "spent 0.12 of 0.33 nats" in watched(mi, step(0, spent=0.12))[0]
    assert "nats" not in watched(MechanismConfig(), step(0))[0]
    assert watched(MechanismConfig(name="none"), step(0))[0] == "step 1 of 10 · 18 s left"


def test_steps_of_the_journal_do_not_count_for_the_pace():
    again = [step(index, loss=None) for index in range(6)]
    lines = watched(MechanismConfig(), *again, step(6))
    assert lines[5] == "going through step 6 of 10 again, as the journal has it"
    assert "6.0 s left" in lines[6] and "(last 7: 100 %)" in lines[6]
