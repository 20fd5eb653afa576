"""The table of mechanisms agrees with the settings, and fails closed."""

from typing import get_args, get_type_hints

import pytest

from paczero.config import MechanismConfig
from paczero.mechanism.registry import KINDS


def test_the_settings_name_all_of_them_and_no_other():
    assert get_args(get_type_hints(MechanismConfig)["name"]) == tuple(KINDS)
    assert all(kind.name == name for name, kind in KINDS.items())


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_budgets(kind):
    bound = kind.budget(0.33)
    assert bound == {"mi": 0.33}.get(kind.name, 0.0 if kind.protects != "nothing" else None)
    assert not (kind.real and kind.zero)
    assert kind.private == kind.name.startswith("dp")
    assert kind.clipped or kind.name in ("none", "coin")
