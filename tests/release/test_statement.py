"""The statement: true numbers, plain words, a seal that no change survives."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.bounds import epsilon_for_nats, posterior_success, success_for_epsilon
from paczero.mechanism.registry import SPECS, spec_of
from paczero.release import guarantee
from paczero.release import statement as st
from paczero.release.wording import COMES_ABOUT, DESCRIBED, GATES

from ..written_runs import make_header


def make(name: str = "zpl", **changes: Any) -> dict[str, Any]:
    header = make_header(name, **changes)
    return st.statement(header, chosen_step=10, weights_sha256="0f" * 32, files={"b": "1" * 64, "a": "2" * 64})


def test_zpl_promises_a_coin_toss() -> None:
    document = make()
    assert (document["posterior_success"], document["epsilon"], document["budget"]) == (0.5, 0.0, 0.0)
    assert not document["void"]
    assert "p = 0.5:" in document["promise"] and "every release" in document["promise"]
    assert list(document["files"]) == ["a", "b"]
    assert tuple(document) == st.KEYS


@pytest.mark.parametrize("budget", [1e-9, 0.001, 0.33, 0.68])
def test_mi_states_the_bound_and_prints_it_rounded_up(budget: float) -> None:
    document = make("mi", budget=budget)
    assert document["posterior_success"] == posterior_success(budget)
    assert document["epsilon"] == epsilon_for_nats(budget)
    printed = float(document["promise"].split("p = ")[1].split(" ")[0])
    assert posterior_success(budget) <= printed <= posterior_success(budget) + 1.01e-4
    assert "on average" in document["promise"] and "rare" in document["promise"]


@pytest.mark.parametrize(
    ("name", "changes", "void"),
    [
        ("none", {}, False),
        ("zpl", {"test_seed": 0}, True),
        ("mi", {"test_seed": 7}, True),
        ("none", {"test_seed": 7}, True),
        ("full-sign", {}, False),
        ("half-sign", {}, False),
        ("dpzero", {"test_seed": 7}, True),
        ("mi", {"budget": math.log(2)}, False),
        ("mi", {"budget": 3.0}, False),
    ],
)
def test_nothing_is_promised(name: str, changes: dict[str, Any], void: bool) -> None:
    document = make(name, **changes)
    assert document["void"] is void
    assert document["posterior_success"] == 1.0 and document["epsilon"] is None
    assert document["promise"].startswith("VOID: nothing is promised" if void else "No privacy is promised")
    assert "at most p" not in document["promise"]
    assert document["not_promised"][0].startswith(("It hides nothing", "Nothing is hidden"))


@pytest.mark.parametrize("name", ["zpl", "mi"])
@pytest.mark.parametrize("family", ["random", "paired", "balanced"])
def test_everything_not_promised_is_said(name: str, family: str) -> None:
    text = " ".join(make(name, family=family)["not_promised"])
    for words in (
        "in the pool at all",
        "larger collection",
        "Every record of the pool influences",
        "not differential privacy",
        "coin flip",
        "3 times out of 4",
        "development set",
        "unit column",
        "1 - 2^-k",
        "budgets add up",
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
    document = make(name)
    assert document["mechanism"] | {"epsilon": 2.0, "delta": 600**-2.0, "sigma": 4.62428} == document["mechanism"]
    assert (document["epsilon"], document["budget"]) == (2.0, 0.0)
    assert document["posterior_success"] == success_for_epsilon(2.0, 600**-2.0)
    for words in (
        "who was in the pool at all",
        "ε = 2 and δ = 2.78e-06 (1/N² for N = 600)",
        "one unit is added or removed",
        "p = 0.8808",
        "σ = 4.62428",
        "never read",
        "secret sample" if name != "dp-sign" else "the whole pool",
    ):
        assert words in document["promise"]
    text = " ".join(document["not_promised"])
    for words in (
        "many records",
        "size of the pool",
        "unit column",
        "add up",
        "development set",
        "micro-batch",
        "took",
    ):
        assert words in text
    assert "It is not differential privacy" not in text
    given = make(name, mechanism=document["mechanism"] | {"delta": 1e-5})
    assert "δ = 1e-05," in given["promise"]


def test_an_epsilon_that_bounds_nothing_promises_nothing() -> None:
    mechanism = make_header("dp-sign")["mechanism"] | {"epsilon": 50.0}
    document = make("dp-sign", mechanism=mechanism)
    assert document["promise"].startswith("No privacy is promised. ε = 50") and document["epsilon"] is None


def test_ablations_say_what_they_are() -> None:
    assert make("skip")["posterior_success"] == 0.5 and "everybody sees where that was" in make("skip")["promise"]
    assert any("everybody sees which steps were" in entry for entry in make("skip")["not_promised"])
    coin = make("coin")
    assert "nothing was learned" in coin["promise"] and coin["posterior_success"] == 0.5
    assert len(coin["not_promised"]) == 1
    assert "secret half's sign as it is" in make("half-sign")["promise"]
    assert "which half of it was the secret one" in make("half-sign")["not_promised"][0]


@pytest.mark.parametrize("name", SPECS)
def test_every_mechanism_has_its_words(name: str) -> None:
    assert st.promise(make_header(name)) and st.not_promised(make_header(name))
    assert name in DESCRIBED[name] and len(GATES[name]) == 4
    assert (name in COMES_ABOUT) == (spec_of(name).hides != "nothing")


def test_what_is_stated_depends_on_the_header_only_through_public_keys() -> None:
    """No key in which something about the pool's steps could hide."""
    assert not {"spent", "q", "beta", "noise", "unanimous", "unanimity", "loss", "accuracy"} & set(make("mi"))


def test_seal_and_round_trip(tmp_path: Path) -> None:
    document = make("mi")
    st.check(document)
    assert st.seal(document) == document
    path = tmp_path / st.NAME
    path.write_bytes(st.render(document))
    assert st.read(path) == document


@pytest.mark.parametrize("key", [key for key in st.KEYS if key != "format"])
def test_any_changed_value_is_refused(key: str) -> None:
    with pytest.raises(IntegrityError, match="sha256"):
        st.check(make("mi") | {key: "other"})


def test_added_missing_and_foreign_are_refused() -> None:
    document = make()
    for broken in (document | {"more": 1}, {k: v for k, v in document.items() if k != "void"}, [], None):
        with pytest.raises(IntegrityError):
            st.check(broken)
    with pytest.raises(IntegrityError, match="format"):
        st.check(st.seal(document | {"format": "other/1"}))
    with pytest.raises(IntegrityError, match="number"):
        st.check(document | {"budget": math.nan})


def test_every_flipped_byte_of_the_file_is_refused(tmp_path: Path) -> None:
    data, path = st.render(make()), tmp_path / st.NAME
    for place in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(IntegrityError) as caught:
            st.read(path)
        assert "\n" not in str(caught.value)
    for other in (b"", b"[" * 100_000, data + b"\n", json.dumps(json.loads(data)).encode(), b"\xff"):
        path.write_bytes(other)
        with pytest.raises(IntegrityError):
            st.read(path)
    with pytest.raises(IntegrityError, match="cannot be read"):
        st.read(tmp_path / "nothing")


def test_bad_arguments_name_what_is_wrong() -> None:
    header = make_header()
    with pytest.raises(PACZeroError, match="chosen_step: 41"):
        st.statement(header, chosen_step=41, weights_sha256="", files={})
    with pytest.raises(PACZeroError, match="budget"):
        st.statement({k: v for k, v in header.items() if k != "budget"}, chosen_step=0, weights_sha256="", files={})
    with pytest.raises(PACZeroError, match="laplace"):
        st.promise(header | {"mechanism": {"name": "laplace"}})
    with pytest.raises(PACZeroError, match="steps_run: 41"):
        st.statement(header, chosen_step=0, steps_run=41, weights_sha256="", files={})


def test_a_run_that_ended_early_says_so() -> None:
    early = {"chosen_step": 9, "weights_sha256": "", "files": {}}
    document = st.statement(make_header(), steps_run=9, **early)
    assert (document["steps"], document["steps_run"]) == (40, 9)
    with pytest.raises(PACZeroError, match="chosen_step: 9 was given; expected 0 to 8"):
        st.statement(make_header(), steps_run=8, **early)


def test_the_served_threshold_is_stated() -> None:
    given = {"chosen_step": 10, "weights_sha256": "", "files": {}}
    assert st.statement(make_header(), **given)["threshold"] == 0.0
    document = st.statement(make_header(), threshold=-0.25, **given)
    assert document["threshold"] == -0.25
    with pytest.raises(IntegrityError, match="sha256"):
        st.check(document | {"threshold": 0.25})
    for wrong in (math.nan, math.inf, "0.1", None, 1):
        with pytest.raises(PACZeroError, match="expected a finite number"):
            st.statement(make_header(), threshold=wrong, **given)
    with pytest.raises(PACZeroError, match="this run moves none"):
        st.statement(make_header(threshold="none"), threshold=0.1, **given)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (0.88188757, "0.8819"), (0.0, "0"), (1.0, "1"), (0.50002, "0.5001")]
)
def test_rounded_up(value: float, text: str) -> None:
    assert guarantee.rounded_up(value) == text
