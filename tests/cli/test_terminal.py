"""The live line: redrawn on a terminal, plain lines elsewhere; times and sizes as a person says them."""

import io

import pytest

from paczero.cli.terminal import Live, complain, duration, size, warn


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
    live.show("step 1 " + "." * 40)
    live.note("kept")
    live.close()
    live.close()
    line = "\r\x1b[Kstep 1 " + "." * 13
    assert stream.getvalue() == f"{line}\r\x1b[Kkept\n{line}\n"


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
    assert stream.getvalue().endswith("\n")


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
