"""Card and report say the promise in the same three sentences, with the run's own numbers."""

import html
import re

import pytest

from paczero.mechanism.bounds import posterior_success, success_for_epsilon
from paczero.mechanism.registry import SPECS, spec_of
from paczero.release.wording import three_sentences
from paczero.report.html import write_report

from ..written_runs import make_header

CASES = [
    *((name, {}) for name in SPECS),
    ("zpl", {"test_seed": 3}),
    ("mi", {"budget": 0.01, "units": 12_345}),
    ("mi", {"budget": 0.7}),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_three_sentences(name, changes):
    header = make_header(name, **changes)
    hidden, not_hidden, helps = three_sentences(header)
    for begin, sentence in (("Hidden: ", hidden), ("Not hidden: ", not_hidden), ("What helps", helps)):
        assert sentence.startswith(begin) and sentence.endswith(".") and "\n" not in sentence
        assert not re.search(r"[.!?] [A-Z]", sentence), "one sentence each"
    stated = [float(number) for number in re.findall(r"probability ([0-9.]+) at most", hidden)]
    kind, budget = spec_of(name), header["budget"]
    if header["test_seed"] is not None or kind.hides == "nothing" or (budget or 0) > 0.6931:
        assert "Hidden: nothing" in hidden and not stated
    elif kind.hides == "half":
        true = posterior_success(budget)
        assert true <= stated[0] < true + 1.01e-4
        assert f"{header['units']:,} units" in hidden and f"I = {budget:g} nats" in hidden
        assert "in the pool at all" in not_hidden and "dp-sign" in helps
        assert ("on average" in hidden) == (name == "mi")
    elif kind.is_dp:
        true = success_for_epsilon(header["mechanism"]["epsilon"], header["mechanism"]["delta"])
        assert true <= stated[0] < true + 1.01e-4
        assert f"ε = {header['mechanism']['epsilon']:g}" in hidden


@pytest.mark.parametrize("name", ["zpl", "mi", "none", "dpzero", "skip"])
def test_card_and_report_say_the_same(finished, undrawn, name):
    run = finished(name)
    card = (run.release / "README.md").read_text(encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    for sentence in three_sentences(make_header(name)):
        assert f"\n- {sentence}\n" in card
        assert f"<li>{sentence}</li>" in html.unescape(page)
