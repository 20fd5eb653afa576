"""Sentences: those of a published wording never change, and the newest says what holds, with the run's own numbers."""

import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from paczero.config import TaskConfig
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.registry import SPECS, spec_of
from paczero.release import guarantee, wording
from paczero.release.model_card import card
from paczero.release.statement import Development
from paczero.release.wording.labels import GATES, HIDES, HOW_IT_WORKS
from paczero.report.html import write_report

from ...written_runs import header_of_version_01, make_header

# What each published wording says, for each mechanism and some settings.
FIXTURES = Path(__file__).parents[2] / "fixtures"
PUBLISHED = [
    pytest.param(version, case, id=f"{version}-{case['name']}-{number}")
    for version in wording.VERSIONS
    for number, case in enumerate(json.loads((FIXTURES / f"wording-{version}.json").read_text(encoding="utf-8")))
]
TASKS = (None, TaskConfig(), TaskConfig(kind="answer"), TaskConfig(kind="chat"))
DEVELOPMENT = (
    None,
    Development((0, 40), (0.6, 0.7), 0.57, 0.6, 400, ("the served step", "the threshold")),
    Development((0, 40), (0.6, 0.7), untuned=0.5, metric="loss"),
)
BUDGETS = ({"budget": 0.01, "units": 12_345}, {"budget": 0.7})


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("dp-sign", {"delta": 1e-3}, ["δ = 0.001 is 1/N or more (N = 1,000 units)"]),
        ("dpzero", {"delta": 0.01}, ["δ = 0.01 is 1/N or more"]),
        ("dp-sign", {"delta": 9e-4}, []),
        ("dp-sign", {"posterior_success": 0.99996}, ["p = 1: a guess about a unit can be right nearly always"]),
        ("dp-aggzo", {"posterior_success": 0.995, "delta": 0.5}, ["δ = 0.5 is 1/N or more", "p = 0.995: a guess"]),
        ("dp-sign", {"posterior_success": 0.99}, []),
        ("mi", {"budget": 0.68}, ["p = 0.9983: a guess about a unit can be right nearly always"]),
        ("mi", {"budget": 0.33}, []),
        ("mi", {"budget": 0.7}, []),  # promises nothing, which the card says at its head
        ("zpl", {}, []),
        ("none", {}, []),
    ],
)
def test_a_promise_that_promises_little_says_so(name: str, changes: dict[str, Any], said: list[str]) -> None:
    header = make_header(name, units=1000)
    for key, value in changes.items():
        header = (
            {**header, key: value} if key in header else {**header, "mechanism": {**header["mechanism"], key: value}}
        )
    found = wording.weak(header)
    assert len(found) == len(said) and all(map(str.startswith, found, said)), found
    assert wording.weak(header, 1) == []
    facts = {"chosen_step": 40, "weights_sha256": "0f" * 32, "threshold": 0.0, "development": None}
    text = card(header, facts, folder="adapter")
    assert [f"> **Attention.** {sentence}" for sentence in found] == [
        line for line in text.splitlines() if line.startswith("> **Attention")
    ]


@pytest.mark.parametrize(("version", "case"), PUBLISHED)
def test_a_published_wording_does_not_change(version: int, case: dict[str, Any]) -> None:
    of_the_time = header_of_version_01 if version == 1 else make_header
    header, development = of_the_time(case["name"], **case["changes"]), DEVELOPMENT[case["dev"]]
    assert wording.promise(header, version) == case["promise"]
    assert wording.limits(header, version) == case["not_promised"]
    assert wording.sentences(header, version) == case["sentences"]
    facts = {
        "chosen_step": 40,
        "weights_sha256": "0f" * 32,
        "threshold": 0.1 if header["threshold"] == "median" else 0.0,
        "development": development and development.facts(40),
    } | case.get("facts", {})
    text = card(
        header,
        facts,
        folder="model" if header["peft"] is None else "adapter",
        pictures=("released.png", "posterior.png")[: case["dev"]],
        task=TASKS[case["task"]],
        version=version,
    )
    assert hashlib.sha256(text.encode()).hexdigest() == case["card_sha256"]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("test_seed", [None, 3])
def test_every_mechanism_has_its_sentences(name: str, test_seed: int | None) -> None:
    header = make_header(name, test_seed=test_seed)
    assert wording.promise(header) and wording.limits(header)
    assert wording.mechanism_line(header).partition(" ")[0].rstrip(":") == name
    hidden, not_hidden, helps = wording.sentences(header)
    assert hidden.startswith("Hidden: ") and not_hidden.startswith("Not hidden: ") and helps.startswith("What helps")
    assert len(GATES[name]) == 4 and spec_of(name).hides in HIDES
    assert (name in HOW_IT_WORKS) == (spec_of(name).hides != "nothing")


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in SPECS), *(("mi", c) for c in BUDGETS)])
def test_the_bound_is_stated_with_the_runs_own_numbers(name: str, changes: dict[str, Any]) -> None:
    header = make_header(name, **changes)
    hidden, not_hidden, helps = wording.sentences(header)
    stated = [float(number) for number in re.findall(r"probability at most ([0-9.]+)", hidden)]
    spec, budget = spec_of(name), header["budget"]
    if spec.hides in ("nothing", "all") or (budget or 0) > 0.6931:
        assert not stated
    elif spec.hides == "half":
        assert posterior_success(budget) <= stated[0] < posterior_success(budget) + 1.01e-4
        assert f"{header['units']:,} units" in hidden and f"{budget:g} nats" in hidden
        assert "in the pool" in not_hidden and "dp-sign" in helps
        assert ("on average" in hidden) == (name == "mi")
    else:
        true = header["mechanism"]["posterior_success"]
        assert true <= stated[0] < true + 1.01e-4
        assert f"ε = {header['mechanism']['epsilon']:g}" in hidden


def test_what_zero_nats_are_worth_is_said() -> None:
    """I = 0 holds for plain training on the whole pool too; no release may sell it as more."""
    for name in ("zpl", "skip"):
        assert "plain training on the whole pool hides that as well" in wording.sentences(make_header(name))[0]
        assert "plain training on the whole pool" in wording.promise(make_header(name)).partition(". ")[0]
    assert "plain training on the whole pool has I = 0 nats" in wording.sentences(make_header("mi"))[1]
    for name in ("none", "full-sign"):
        header = make_header(name)
        assert guarantee.half(header)["nats"] == 0.0 and "I = 0 nats" in wording.sentences(header)[0]
        assert "protects no record" in wording.promise(header)


@pytest.mark.parametrize("budget", [1e-9, 0.001, 0.33, 0.68])
def test_the_promise_of_mi_prints_the_bound_rounded_up(budget: float) -> None:
    text = wording.promise(make_header("mi", budget=budget))
    printed = float(text.split("p = ")[1].split(" ")[0])
    assert posterior_success(budget) <= printed <= posterior_success(budget) + 1.01e-4
    assert "on average" in text and "rare" in text


@pytest.mark.parametrize("name", ["zpl", "mi"])
@pytest.mark.parametrize("family", ["random", "paired", "balanced"])
def test_every_limit_is_said(name: str, family: str) -> None:
    text = " ".join(wording.limits(make_header(name, family=family)))
    for words in (
        "Membership in the pool is not hidden",
        "larger collection",
        "Every record of the pool influences",
        "not differential privacy",
        "coin toss",
        "3 times out of 4",
        "development set",
        "unit column",
        "1 - 2^-k",
        "add their budgets",
        "log2 M = 7",
        family,
        "(ε, δ)-differentially private",
    ):
        assert words in text
    assert ("partner" in text) == (family == "paired")
    assert ("complement" in text) == (family == "balanced")
    assert ("an average" in text) == (name == "mi")


@pytest.mark.parametrize("name", ["dpzero", "dp-aggzo", "dp-sign"])
def test_a_private_run_states_what_its_noise_follows_from(name: str) -> None:
    header = make_header(name)
    text = wording.promise(header)
    for words in (
        "ε = 2 and δ = 2.78e-06 (1/N² for N = 600)",
        "neighbours if they differ in what one unit contributes",
        "p = 0.5888",
        "ε₀ = 0.142857" if name == "dp-sign" else "4.62428",
        "never reads the secret half",
        "the whole pool" if name == "dp-sign" else "secret sample",
    ):
        assert words in text
    limits = " ".join(wording.limits(header))
    for words in ("many records", "size of the pool", "unit column", "add their", "development set", "float32"):
        assert words in limits
    assert "not differential privacy" not in limits
    given = make_header(name, mechanism=header["mechanism"] | {"delta": 1e-5})
    assert "δ = 1e-05:" in wording.promise(given)


def test_individual_accounting_is_stated_and_changes_nothing_else() -> None:
    header = make_header("dp-sign")
    plain = wording.promise(header)
    text = wording.promise(header | {"mechanism": header["mechanism"] | {"individual": True, "rho": 0.0712}})
    for words in ("ρ = 0.0712 in all contributes nothing from then on", "which of them stopped is not released"):
        assert words in text and words not in plain
    start, end = plain.split("(c = 25).")
    assert text.startswith(start) and text.endswith(end), "ε bounds the loss of each unit as before"


@pytest.mark.parametrize("name", ["zpl", "mi", "none", "dpzero", "skip"])
def test_card_and_report_say_the_same(finished, name):
    run = finished(name)
    text = (run.release / "README.md").read_text(encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    for sentence in wording.sentences(make_header(name)):
        assert f"\n- {sentence}\n" in text
        assert f"<li>{sentence}</li>" in html.unescape(page)
