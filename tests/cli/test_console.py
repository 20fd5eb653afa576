"""The live line: redrawn on a terminal, plain lines elsewhere; times and sizes as a person says them."""

import io
import re
import subprocess
import sys

import pytest

from paczero.cli.console import Live, complain, warn
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
