"""Each deliberate leak is caught by the rule for real runs; the honest control is not."""

import math

from paczero.audit import positive_controls
from paczero.audit.intervals import exceeds


def test_leaks_are_caught_and_the_honest_one_is_not():
    found = positive_controls.controls()
    assert [control.name for control in found if control.leaks] == [
        "seeded secret",
        "absolute tolerance",
        "posterior not updated",
        "posterior lost on resume",
    ]
    assert [control.name for control in found if not control.leaks] == ["no leak"]
    for control in found:
        assert control.caught, control.detail
        assert control.comparison.exceeded == control.leaks
        assert control.comparison.attacks == len(found)
    honest = found[-1].comparison
    assert 1 / positive_controls._SUBSETS < honest.interval.estimate < honest.bound, (
        "the honest channel releases information"
    )


def test_the_rule_does_not_catch_by_chance():
    """The decision needs more than a lucky run: right guesses at the bound itself are not enough."""
    for trials in (100, 1000, 10_000):
        assert not exceeds(0.6, math.ceil(0.6 * trials), trials, attacks=5)
