"""One small simulation of each kind, made once."""

from collections.abc import Callable
from typing import Any

import pytest

from paczero.audit.losses import QuadraticLosses
from paczero.audit.simulation import Simulation, settings
from paczero.config import MechanismConfig


@pytest.fixture(scope="session")
def simulation() -> Callable[..., Simulation]:
    """`simulation(name, steps=8, **mechanism)`: 32 units, 8 candidates; tests share one of each kind.

    With `quick`, losses are quadratic: for tests of what is released, not of what it was measured on.
    """
    made: dict[Any, Simulation] = {}

    def make(
        name: str = "zpl", *, steps: int = 8, directions: int = 1, quick: bool = False, **mechanism: Any
    ) -> Simulation:
        key = (name, steps, directions, quick, *sorted(mechanism.items()))
        if key not in made:
            chosen = MechanismConfig(name=name, **({"subsets": 8, "pilots": 2} | mechanism))  # type: ignore[arg-type]
            losses = QuadraticLosses(32) if quick else None
            made[key] = Simulation(settings(chosen, steps=steps, directions=directions), units=32, losses=losses)
        return made[key]

    return make
