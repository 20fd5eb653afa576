"""The live line: pace, unanimity, budget, dev accuracy; what a resumed run shows."""

import io
import os
import signal
from dataclasses import replace

import pytest

from paczero.cli.console import Live, ProgressCallback
from paczero.config import MechanismConfig
from paczero.distributed.base import terminable
from paczero.mechanism.base import Release
from paczero.training.loop import DevResult, Step


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
        "step 2: no record's loss changed along 1 of 1 directions; what they release says nothing of the pool; a "
        "larger --mu helps (said once)"
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


def test_sigterm_is_an_interrupt_inside_and_itself_again_outside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
