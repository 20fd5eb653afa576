"""An observer that interrupts a run after a step."""

from typing import Any


class Stop(Exception):
    """An interruption."""


class StopAt:
    """An observer that interrupts after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step(self, step: Any) -> None:
        if step.index == self.step:
            raise Stop

    def on_dev(self, result: Any) -> None:
        pass
