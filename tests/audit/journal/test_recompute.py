"""The exact audit: an honest run passes whatever its mechanism, and what does not follow is named by its step."""

import itertools
import json
import math
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.audit import recompute
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.ledger import Ledger
from paczero.mechanism.posterior import Posterior
from paczero.release.statement import render, seal

from ...enumeration import FLIPPED, KEPT
from .journals import make_run, rewrite

PACKAGE = Path(__file__).parents[3] / "paczero"
DP = {"epsilon": 2.0, "delta": 1e-3, "sampling": 1.0, "sigma": 20.0}
HONEST = [
    ("mi", {}, {}),
    ("mi", {"allocation": "uniform"}, {"directions": 3}),
    ("mi", {"channel": "gaussian"}, {"directions": 2}),
    ("mi", {}, {"budget": 5.0, "subsets": 4}),  # budgets beyond ln M: signs as they are, candidates excluded
    ("mi", {"channel": "gaussian"}, {"budget": 5.0, "subsets": 4}),
    ("mi", {}, {"budget": 0.0}),
    ("mi", {}, {"budget": 1e-9}),
    ("zpl", {}, {"directions": 2}),
    ("skip", {}, {}),
    ("half-sign", {}, {}),
    ("none", {}, {"directions": 2}),
    ("full-sign", {}, {}),
    ("coin", {}, {}),
    ("dpzero", DP, {}),
    ("dp-aggzo", DP, {"directions": 3}),
    ("dp-aggzo", DP | {"sampling": 0.5}, {"directions": 3}),
    ("dp-sign", DP, {"directions": 2}),
]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """An `mi` run of 24 steps; copy it before changing anything."""
    return make_run(tmp_path_factory.mktemp("honest") / "run")


@pytest.fixture
def run(honest, tmp_path):
    return Path(shutil.copytree(honest, tmp_path / "run"))


def steps_of(run):
    return [json.loads(line) for line in (run / "private/journal.jsonl").read_text().splitlines()[1:]]


def contested(run, number=3):
    """The step of the so-manieth contested release."""
    return [step["t"] for step in steps_of(run) if not step["unanimous"][0]][number]


def found(audit):
    return {(finding.step, finding.what) for finding in audit.findings}


@pytest.mark.parametrize(("name", "law", "sizes"), HONEST)
def test_an_honest_run_passes(name, law, sizes, tmp_path):
    run = make_run(tmp_path / "run", name, settings=law, **sizes)
    heard = []
    audit = recompute(run, lambda done, total: heard.append((done, total)))
    assert audit.passed and not audit.findings, audit.findings
    assert heard == [(step + 1, 24) for step in range(24)]
    assert len(audit.releases) == 24 * audit.directions == 24 * sizes.get("directions", 1)
    assert audit.steps_run == audit.steps == 24 and not audit.void
    if name == "mi":
        assert audit.budget == sizes.get("budget", 0.3) >= audit.charged
        assert audit.information == pytest.approx(audit.charged, rel=1e-12)
        assert audit.success_bound <= audit.success_stated == posterior_success(audit.budget)
    assert json.loads(json.dumps(audit.to_dict(), allow_nan=False))["passed"] is True
    assert "releases" not in audit.to_dict(releases=False)


def test_a_trained_run_passes(make_trainer, tmp_path):
    run = tmp_path / "run"
    make_trainer(
        run, mechanism={"name": "mi", "budget": 0.4, "channel": "gaussian"}, directions=2, test_seed=None
    ).train()
    audit = recompute(run)
    assert audit.passed, audit.findings
    assert (audit.units, audit.subsets, audit.steps_run, audit.directions) == (48, 8, 6, 2)
    assert 0 < audit.information <= 0.4 and not audit.void and audit.notes == ()


def test_runs_of_the_first_version_pass():
    for name, steps in (("finished", 12), ("stopped", 5)):
        audit = recompute(PACKAGE.parent / "tests/fixtures/before-restructure" / name)
        assert audit.passed and audit.steps_run == steps and audit.void, audit.findings


def test_an_unfinished_run_passes_and_says_so(tmp_path):
    run = make_run(tmp_path / "run", until=9)
    audit = recompute(run)
    assert audit.passed and audit.steps_run == 9 and audit.success_stated is None
    assert audit.notes == ("There is no statement yet: the run is not finished.",)
    with open(run / "private/journal.jsonl", "ab") as stream:
        stream.write(b'{"beta":[0.0')  # what a killed process leaves
    assert recompute(run) == audit


# What the figures are.


@pytest.mark.parametrize("budget", [0.05, 0.6])
def test_the_posterior_is_that_of_bayes_rule_over_whole_transcripts(budget, tmp_path):
    run = make_run(tmp_path / "run", budget=budget, directions=2)
    likelihood = [Fraction(1)] * 8
    for step in steps_of(run):
        for signs, f, y, unanimous in zip(step["signs"], step["noise"], step["y"], step["unanimous"], strict=True):
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(signs), dtype=np.uint8))[:8]
            for m, bit in enumerate(bits):
                if not unanimous:
                    likelihood[m] *= 1 - Fraction(f) if (bit == 1) == (y == 1) else Fraction(f)
    exact = [float(weight / sum(likelihood)) for weight in likelihood]
    audit = recompute(run)
    assert list(audit.posterior) == pytest.approx(exact, rel=1e-15)
    with np.load(run / "private/candidates.npz") as stored:
        membership = np.unpackbits(stored["packed"], axis=1, count=8).astype(bool)
    inside = membership @ np.array(exact)
    assert list(audit.unit_posterior) == pytest.approx(inside.tolist(), rel=1e-14)
    last = audit.releases[-1]
    assert last.likeliest == pytest.approx(max(exact), rel=1e-14)
    assert last.entropy == pytest.approx(-sum(p * math.log(p) for p in exact), rel=1e-13)


class Words:
    """Coins that flip the contested steps that they are told to."""

    def __init__(self, flips):
        self.flips = flips

    def word(self, step, k):
        return FLIPPED if self.flips[step] else KEPT


def test_what_the_audit_adds_up_is_the_information_of_all_transcripts(tmp_path):
    """I(S*; Y) by definition, from the joint law of secret and transcript, against the mean of the audits' sums."""
    steps, subsets = 4, 4
    law, audits = {}, {}
    for secret in range(subsets):
        for flips in itertools.product((False, True), repeat=steps):

            def set_up(mechanism, secret=secret, flips=flips):
                path = mechanism._secret
                path.write_text(json.dumps({"format": "paczero-secret/1", "index": secret, "subsets": subsets}))
                text = path.read_text().replace(" ", "")
                path.write_text(text + "\n")
                mechanism._coins = Words(flips)

            run = make_run(tmp_path / f"{secret}-{flips}", subsets=subsets, steps=steps, drift=0.0, alter=set_up)
            entries = steps_of(run)
            flip_chances = [0.0 if step["unanimous"][0] else step["noise"][0] for step in entries]
            chances = [f if flip else 1 - f for f, flip in zip(flip_chances, flips, strict=True)]
            y = tuple(step["y"][0] for step in entries)
            law[secret, y] = law.get((secret, y), 0.0) + math.prod(chances) / subsets
            if y not in audits:
                audits[y] = recompute(run)
                assert audits[y].passed
    marginal = {y: math.fsum(law.get((m, y), 0.0) for m in range(subsets)) for y in audits}
    assert math.fsum(marginal.values()) == pytest.approx(1, abs=1e-14)
    assert any(audit.contested >= 2 for audit in audits.values())
    information = math.fsum(p * math.log(p * subsets / marginal[y]) for (_, y), p in law.items() if p > 0)
    charged = math.fsum(p * audits[y].information for y, p in marginal.items())
    assert information == pytest.approx(charged, abs=1e-12) and information > 0.1
    for y, audit in audits.items():
        if marginal[y] > 0:
            exact = [law.get((m, y), 0.0) / marginal[y] for m in range(subsets)]
            assert list(audit.posterior) == pytest.approx(exact, rel=1e-12)


def test_one_honest_release_may_say_more_of_a_unit_than_the_mean_allows(tmp_path):
    audits = [recompute(make_run(tmp_path / str(seed), budget=0.1, subsets=2, seed=seed)) for seed in range(8)]
    assert all(audit.passed for audit in audits)
    assert max(audit.units_above_bound for audit in audits) > 0
    for audit in audits:
        inside = np.array(audit.unit_posterior)
        assert audit.units_above_bound == np.sum(np.maximum(inside, 1 - inside) > audit.success_bound)


def test_zero_information_leaves_every_candidate_alike(tmp_path):
    audit = recompute(make_run(tmp_path / "run", "zpl"))
    assert set(audit.posterior) == {1 / 8} and set(audit.unit_posterior) == {0.5} and audit.units_above_bound == 0
    assert audit.unanimous and audit.contested and audit.information == audit.charged == 0


def test_what_half_sign_lets_through_is_shown(tmp_path):
    audit = recompute(make_run(tmp_path / "run", "half-sign"))
    assert audit.charged == 0 and audit.information > 1 and audit.success_bound == 1
    assert audit.releases[-1].likeliest > 0.3 and audit.budget is None


# What does not follow.


def test_a_lowered_charge_is_found(run):
    step = contested(run)
    rewrite(run, lambda steps: steps[step]["beta"].__setitem__(0, steps[step]["beta"][0] * (1 - 3e-12)))
    audit = recompute(run)
    assert found(audit) == {(step, "charge")} and not audit.passed
    assert str(audit.findings[0]).startswith(f"step {step}, direction 0: charge: ") and "\n" not in str(
        audit.findings[0]
    )


def test_a_raised_charge_does_not_follow_either(run):
    step = contested(run)
    rewrite(run, lambda steps: steps[step]["beta"].__setitem__(0, steps[step]["beta"][0] * (1 + 1e-6)))
    assert {(step, "charge"), (step, "share")} <= found(recompute(run))


def test_a_lowered_flip_probability_is_found(run):
    step = contested(run)

    def lower(steps):
        steps[step]["noise"][0] = math.ldexp(math.floor(math.ldexp(steps[step]["noise"][0] * 0.999, 64)), -64)

    rewrite(run, lower)
    audit = recompute(run)
    assert audit.findings[0].step == step and audit.findings[0].what == "charge"
    assert audit.releases[step].information > audit.releases[step].charged


def test_a_flip_probability_that_is_no_integer_comparison_is_found(run):
    step = contested(run)
    rewrite(run, lambda steps: steps[step]["noise"].__setitem__(0, 2.0**-80))
    assert (step, "noise") in found(recompute(run))


def test_more_noise_than_was_asked_for_is_found(run):
    """Its charge agrees with it, so nobody is harmed, but it is not what the rules make of the share."""
    step = contested(run)

    def raise_noise(steps):
        f = math.ldexp(math.floor(math.ldexp(steps[step]["noise"][0] * 1.05, 64)), -64)
        q = steps[step]["q"][0]
        steps[step]["noise"][0], steps[step]["beta"][0] = f, BitChannel.information(min(q, 1 - q), f)

    rewrite(run, raise_noise)
    assert recompute(run).findings[0].what == "noise" and recompute(run).findings[0].step == step


def test_a_changed_q_is_found(run):
    step = contested(run)
    rewrite(run, lambda steps: steps[step]["q"].__setitem__(0, steps[step]["q"][0] * (1 + 1e-8)))
    assert found(recompute(run)) == {(step, "q")}


def test_a_contested_step_called_unanimous_is_found(run):
    step = contested(run)
    rewrite(run, lambda steps: steps[step]["unanimous"].__setitem__(0, True))
    assert found(recompute(run)) == {(step, "unanimity")}


def test_a_unanimous_step_of_the_other_sign_is_found(run):
    step = next(step["t"] for step in steps_of(run) if step["unanimous"][0])
    rewrite(run, lambda steps: steps[step]["y"].__setitem__(0, -steps[step]["y"][0]))
    assert found(recompute(run)) == {(step, "release")}


def test_a_turned_release_shows_in_what_follows(run):
    """Journal and transcripts are forged alike: the posterior is another, and so every later q."""
    step = contested(run)
    rewrite(run, lambda steps: steps[step]["y"].__setitem__(0, -steps[step]["y"][0]))
    audit = recompute(run)
    assert audit.findings[0].step == contested(run, 4) and {what for _, what in found(audit)} >= {"q"}


def test_a_forgotten_posterior_is_found(tmp_path):
    def forget(mechanism):
        mechanism._learn = lambda signs, output, noise: None

    run = make_run(tmp_path / "run", alter=forget, budget=0.6)
    audit = recompute(run)
    first, second = contested(run, 0), contested(run, 1)
    assert not audit.passed and audit.findings[0].step == second > first and audit.findings[0].what == "q"
    assert "charge" in {finding.what for finding in audit.findings}


def test_a_posterior_that_a_resumed_run_began_anew_is_found(tmp_path):
    """The authors' resume restores what was spent, and forgets what was told."""

    def begin_anew(mechanism):
        released = mechanism.release

        def release(step, derivatives, *, unit_indices=None):
            if step == 12:
                mechanism._posterior = Posterior.uniform(8)
            return released(step, derivatives, unit_indices=unit_indices)

        mechanism.release = release

    run = make_run(tmp_path / "run", alter=begin_anew, budget=0.6)
    audit = recompute(run)
    after = [step["t"] for step in steps_of(run) if not step["unanimous"][0] and step["t"] >= 12]
    assert audit.findings[0].step == after[0] and audit.findings[0].what == "q"


def test_an_absolute_tolerance_is_found(tmp_path):
    """The authors' bisection stops at 1e-6 nats, which is twenty times what such a step may tell."""

    class Absolute(BitChannel):
        @staticmethod
        def calibrate(q, nats):
            low, high = 0.0, 0.5
            while True:
                f = (low + high) / 2
                excess = BitChannel.information(q, f) - nats
                if abs(excess) <= 1e-6:
                    return f
                low, high = (f, high) if excess > 0 else (low, f)

    run = make_run(tmp_path / "run", budget=24 * 5e-8, alter=lambda mi: setattr(mi, "_channel", Absolute))
    audit = recompute(run)
    assert audit.findings[0].step == contested(run, 0) and audit.findings[0].what == "charge"
    first = audit.releases[contested(run, 0)]
    assert first.charged <= first.share < first.information
    assert audit.information > audit.budget >= audit.charged
    assert "information" in {finding.what for finding in audit.findings}


def test_a_passed_budget_is_found(tmp_path):
    run = make_run(tmp_path / "run", alter=lambda mi: setattr(mi, "_ledger", Ledger(1.0, 24)))
    audit = recompute(run)
    assert (contested(run, 0), "share") in found(audit)
    (passed,) = [finding for finding in audit.findings if finding.what == "budget"]
    assert sum(r.charged for r in audit.releases[: passed.step]) <= 0.3 < audit.releases[passed.step].spent
    assert audit.charged > audit.budget


def test_a_removed_step_is_found(run):
    rewrite(run, lambda steps: steps.pop(5))
    audit = recompute(run)
    assert (5, "step") in found(audit)
    assert [f for f in audit.findings if f.what == "step"] == [audit.findings[0]]


def test_a_removed_step_is_found_also_where_the_others_are_numbered_anew(run):
    step = contested(run)

    def remove(steps):
        del steps[step]
        for t, entry in enumerate(steps):
            entry["t"] = t

    rewrite(run, remove)
    assert any(finding.step >= step for finding in recompute(run).findings)
    assert (None, "statement") in found(recompute(run))  # one step fewer than it says


def test_swapped_steps_are_found(run):
    rewrite(run, lambda steps: steps.insert(4, steps.pop(7)))
    assert (4, "step") in found(recompute(run))


def test_a_changed_line_breaks_the_chain(run):
    path = run / "private/journal.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[6] = lines[6].replace(b'"nonfinite":0', b'"nonfinite":1')
    path.write_bytes(b"\n".join(lines))
    assert found(recompute(run)) == {(5, "chain")}


def test_a_changed_header_breaks_the_chain(run):
    path = run / "private/journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"base":"ab"', b'"base":"ac"', 1))
    assert {(None, "chain"), (None, "transcript")} <= found(recompute(run))


def test_a_transcript_that_says_other_than_the_journal_is_found(run):
    path = run / "release/transcript.jsonl"
    lines = path.read_text().splitlines()
    step = json.loads(lines[9])
    lines[9] = json.dumps({"t": step["t"], "y": [-step["y"][0]]}, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
    assert found(recompute(run)) == {(8, "transcript")}
    path.write_text("\n".join(lines[:9]) + "\n")
    assert found(recompute(run)) == {(None, "transcript")}


def test_another_header_in_the_transcript_is_found(run):
    for name in ("release", "private"):
        path = run / name / "transcript.jsonl"
        path.write_text(path.read_text().replace('"budget":0.3', '"budget":0.9', 1))
    audit = recompute(run)
    assert {(None, "transcript"), (None, "settings"), (None, "statement")} <= found(audit)


def test_other_candidates_are_found(run):
    path = run / "private/candidates.npz"
    with np.load(path) as stored:
        packed = stored["packed"].copy()
    packed[3] ^= 0b1000_0000
    np.savez(path, packed=packed, subsets=8)
    assert [finding.what for finding in recompute(run).findings] == ["candidates", "candidates"]
    assert "unit 3" in recompute(run).findings[1].found


@pytest.mark.parametrize(
    ("key", "value"),
    [("half", {}), ("pool", {}), ("budget", 0.2), ("steps_run", 23), ("test_seed", 1), ("subsets", 4)],
)
def test_a_statement_that_says_other_than_the_run_is_found(run, key, value):
    path = run / "release/privacy.json"
    path.write_bytes(render(seal(json.loads(path.read_text()) | {key: value})))
    assert found(recompute(run)) == {(None, "statement")}
    assert recompute(run).findings[0].found.startswith(key)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("half", "posterior_success", 0.8),
        ("half", "nats", 0.2),
        ("half", "equivalent_epsilon", 1.5),
        ("pool", "posterior_success", 0.9),
        ("pool", "epsilon", 1.0),
        ("pool", "delta", 0.0),
    ],
)
def test_a_bound_that_is_not_the_runs_is_found(run, part, key, value):
    path = run / "release/privacy.json"
    document = json.loads(path.read_text())
    document[part] |= {key: value}
    path.write_bytes(render(seal(document)))
    (finding,) = recompute(run).findings
    assert finding.found.startswith(f"{part}.{key}")


def test_settings_that_say_other_than_the_run_are_found(run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("budget: 0.3", "budget: 0.1"))
    assert found(recompute(run)) == {(None, "settings")}


@pytest.mark.parametrize(("name", "directions"), [("dpzero", 1), ("dp-sign", 2)])
def test_too_little_noise_for_the_stated_epsilon_is_found(name, directions, tmp_path):
    law = DP | {"sigma": 5.0}
    audit = recompute(make_run(tmp_path / "run", name, settings=law, directions=directions))
    assert found(audit) == {(None, "epsilon")} and audit.delta_found > audit.delta


def test_noise_of_another_size_than_the_header_says_is_found(tmp_path):
    run = make_run(tmp_path / "run", "dpzero", settings=DP, alter=lambda dp: setattr(dp, "noise", 1.0))
    audit = recompute(run)
    assert found(audit) == {(step, "noise") for step in range(24)}


def test_an_unfair_coin_is_found(tmp_path):
    run = make_run(tmp_path / "run", "zpl")
    step = contested(run, 0)
    rewrite(run, lambda steps: steps[step]["noise"].__setitem__(0, 0.25))
    assert found(recompute(run)) == {(step, "noise")}


def test_findings_are_kept_within_bounds(tmp_path):
    run = make_run(tmp_path / "run", "zpl", steps=300)

    def spoil(steps):
        for step in steps:
            step["q"][0] = 0.123

    rewrite(run, spoil)
    audit = recompute(run)
    assert len(audit.findings) == 200 and audit.findings_in_all == 300


# What cannot be read.


def refused(run):
    with pytest.raises(PACZeroError) as error:
        recompute(run)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return error.value


def test_what_is_no_run_is_refused(tmp_path):
    assert "no such file" in str(refused(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:50],
        lambda data: data.replace(b'"t":3', b'"t": 3'),
        lambda data: data.replace(b'"q":[', b'"q":[true,', 1),
        lambda data: data.replace(b'"t":3', b'"t":"3"'),
        lambda data: data.replace(b'"output":null', b'"output":NaN', 1),
        lambda data: data.replace(b'"signs":["', b'"signs":["f', 1),
        lambda data: data.replace(b'"unanimous":[', b'"unanimous":[[],', 1),
        lambda data: data.replace(b"\n", b"\n" + b"[" * 5000 + b"\n", 1),
        lambda data: data.replace(b"\n", b"\n" + b"9" * 10**5 + b"\n", 1),
        lambda data: data + data.split(b"\n")[-2] + b"\n",
        lambda data: data.replace(b"\n", b"\n\xff\n", 1),
    ],
)
def test_a_broken_journal_is_refused_in_one_line(run, change):
    path = run / "private/journal.jsonl"
    path.write_bytes(change(path.read_bytes()))
    assert isinstance(refused(run), IntegrityError)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 100, b"x" * 10**6])
def test_broken_candidates_are_refused(run, content):
    (run / "private/candidates.npz").write_bytes(content)
    assert isinstance(refused(run), IntegrityError)


def test_candidates_that_unpack_to_much_more_are_refused_before_they_are(run):
    np.savez_compressed(run / "private/candidates.npz", packed=np.zeros((10**6, 8), np.uint8), subsets=8)
    assert "unpacks to more" in str(refused(run))


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", 0), ("directions", "2"), ("budget", -1.0), ("subsets", 10**9), ("units", None), ("mechanism", "mi")],
)
def test_a_header_that_no_run_has_is_refused(run, key, value):
    path = run / "release/transcript.jsonl"
    first, rest = path.read_text().split("\n", 1)
    header = json.loads(first) | {key: value}
    path.write_text(json.dumps(header, sort_keys=True, separators=(",", ":")) + "\n" + rest)
    assert isinstance(refused(run), IntegrityError)


def test_a_mechanism_that_is_unknown_is_refused(run):
    path = run / "release/transcript.jsonl"
    path.write_text(path.read_text().replace('"name":"mi"', '"name":"magic"', 1))
    assert "magic" in str(refused(run))


@settings(max_examples=60)
@given(data=st.data())
def test_no_change_of_bytes_ends_in_a_traceback(honest, tmp_path_factory, data):
    run = tmp_path_factory.mktemp("fuzz") / "run"
    shutil.copytree(honest, run)
    name = data.draw(
        st.sampled_from(
            [
                "private/journal.jsonl",
                "private/candidates.npz",
                "release/transcript.jsonl",
                "release/privacy.json",
                "config.yaml",
            ]
        )
    )
    content = bytearray((run / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from([*b'0129-.eE{}[]",:nul\n', data.draw(st.integers(0, 255))]))
    (run / name).write_bytes(content)
    try:
        audit = recompute(run)
    except PACZeroError as error:
        assert "\n" not in str(error)
    else:
        assert all("\n" not in str(finding) for finding in audit.findings)
