"""A small laboratory of each kind, made once."""

from collections.abc import Callable
from typing import Any

import pytest

from paczero.audit.simulation import Laboratory, settings
from paczero.config import MechanismConfig


@pytest.fixture(scope="session")
def laboratory() -> Callable[..., Laboratory]:
    """`laboratory(name, steps=8, **mechanism)`: 32 units, 8 candidates; of each kind one, which tests share."""
    made: dict[Any, Laboratory] = {}

    def make(name: str = "zpl", *, steps: int = 8, directions: int = 1, **mechanism: Any) -> Laboratory:
        key = (name, steps, directions, *sorted(mechanism.items()))
        if key not in made:
            chosen = MechanismConfig(name=name, **({"subsets": 8, "pilots": 2} | mechanism))  # type: ignore[arg-type]
            made[key] = Laboratory(settings(chosen, steps=steps, directions=directions), units=32)
        return made[key]

    return make
