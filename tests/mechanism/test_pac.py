"""Both mechanisms: what is released, what is charged, what is written, and what a resumed run takes again."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism import pac as module
from paczero.mechanism.base import Release
from paczero.mechanism.pac import MI, ZPL, HalfSign, Skip
from paczero.mechanism.randomness import Coins
from paczero.mechanism.secret import create_secret, open_secret
from paczero.mechanism.signs import subset_signs
from paczero.mechanism.subsets import draw_subsets, draw_units
from paczero.utils.io import canonical, parse_line

UNITS, SUBSETS, STEPS = 60, 16, 30
MEMBERSHIP = draw_subsets(UNITS, SUBSETS, seed=0)
HIGHEST = 2**64 - 1


class Word:
    """Coins that always show the same word."""

    def __init__(self, word):
        self.value = word

    def word(self, step, k):
        return self.value


class Untouchable:
    """Coins that must not be thrown."""

    def word(self, step, k):
        raise AssertionError("a coin was thrown")


@pytest.fixture
def secret(tmp_path):
    create_secret(tmp_path / "secret.json", subsets=SUBSETS, test_seed=3)
    return tmp_path / "secret.json"


def derivatives(step, directions=1, shift=0.0):
    return np.random.default_rng([step, directions]).standard_normal((UNITS, directions)) + shift


def make_mi(secret, coins=None, **changes):
    settings_ = {"clip": 3.0, "budget": 0.3, "steps": STEPS, "directions": 1} | changes
    return MI(MEMBERSHIP, coins=coins or Coins(1), secret=secret, **settings_)


def contested(membership=MEMBERSHIP, start=0):
    """A step's derivatives on which the candidates disagree."""
    for step in range(start, start + 100):
        signs = subset_signs(derivatives(step)[:, 0], membership, clip=3.0)
        if abs(signs.sum(dtype=int)) < SUBSETS // 2:
            return derivatives(step)
    raise AssertionError


@pytest.mark.parametrize("shift", [5.0, -5.0])
def test_a_unanimous_step_is_released_as_it_is_for_nothing(secret, shift):
    sign = 1 if shift > 0 else -1
    for mechanism in (
        ZPL(MEMBERSHIP, clip=3.0, coins=Untouchable()),
        make_mi(secret, coins=Untouchable()),
        make_mi(secret, coins=Untouchable(), channel="gaussian"),
    ):
        release = mechanism.release(0, derivatives(0, shift=shift))
        assert release.y == (sign,)
        assert release.unanimous == (True,)
        assert release.q == ((1 + sign) / 2,)
        assert release.beta == release.noise == (0.0,)
        assert mechanism.spent == 0.0


def test_zpl_throws_a_fair_coin_and_never_opens_the_secret(monkeypatch):
    monkeypatch.setattr(module, "open_secret", lambda _: pytest.fail("the secret was opened"))
    g = contested()
    for word, y in ((0, -1), (2**63 - 1, -1), (2**63, 1), (HIGHEST, 1)):
        release = ZPL(MEMBERSHIP, clip=3.0, coins=Word(word)).release(0, g)
        assert release.y == (y,)
        assert release.unanimous == (False,)
        assert release.noise == (0.5,)
        assert release.beta == (0.0,)
        assert release.output is None
    zpl = ZPL(MEMBERSHIP, clip=3.0, coins=Coins())
    total = sum(zpl.release(t, g).y[0] for t in range(4000))
    assert abs(total) < 7 * math.sqrt(4000)


def test_mi_releases_the_secret_candidates_sign_unless_it_is_flipped(secret):
    g = contested()
    sign = open_secret(secret).signs_of(subset_signs(g[:, 0], MEMBERSHIP, clip=3.0))
    assert make_mi(secret, Word(HIGHEST)).release(0, g).y == (sign,)
    assert make_mi(secret, Word(0)).release(0, g).y == (-sign,)


def test_skip_releases_nothing_where_candidates_disagree_and_never_opens_the_secret(monkeypatch):
    monkeypatch.setattr(module, "open_secret", lambda _: pytest.fail("the secret was opened"))
    skip = Skip(MEMBERSHIP, clip=3.0, coins=Word(HIGHEST), directions=2)
    both = np.hstack([contested(), derivatives(0, shift=-5.0)])
    release = skip.release(0, both)
    assert release.y == (0, -1) and release.unanimous == (False, True)
    assert skip.budget == skip.spent == 0.0
    for y in ((1, -1), (-1, -1), (0, 0), (0, 1)):
        with pytest.raises(IntegrityError, match="y does not follow"):
            Skip(MEMBERSHIP, clip=3.0, coins=Untouchable(), directions=2).restore(dataclasses.replace(release, y=y))


def test_half_sign_releases_the_secret_candidates_sign_and_promises_nothing(secret):
    half = HalfSign(MEMBERSHIP, clip=3.0, coins=Word(0), secret=secret)
    for step in range(10):
        signs = subset_signs(derivatives(step)[:, 0], MEMBERSHIP, clip=3.0)
        assert half.release(step, derivatives(step)).y == (open_secret(secret).signs_of(signs),)
    assert half.budget is None
    with pytest.raises(IntegrityError, match="16 candidates"):
        HalfSign(MEMBERSHIP[:, :4], clip=1.0, coins=Word(0), secret=secret)


def test_the_charge_comes_before_the_secret_is_read(secret, monkeypatch):
    order = []
    mechanism = make_mi(secret)
    charge = mechanism._ledger.charge
    monkeypatch.setattr(mechanism._ledger, "charge", lambda nats: order.append("charge") or charge(nats))
    monkeypatch.setattr(module, "open_secret", lambda path: order.append("open") or open_secret(path))
    mechanism.release(0, contested())
    assert order == ["charge", "open"]


def test_nothing_of_the_secret_stays_in_the_mechanism(secret):
    g = contested()
    signs = subset_signs(g[:, 0], MEMBERSHIP, clip=3.0)
    states = []
    for index in np.flatnonzero(signs > 0)[:3].tolist():
        secret.write_bytes(canonical({"format": "paczero-secret/1", "index": index, "subsets": SUBSETS}) + b"\n")
        mechanism = make_mi(secret, Word(HIGHEST))
        assert mechanism.release(0, g).y == (1,)
        states.append(pickle.dumps(mechanism))
    assert len(set(states)) == 1


@pytest.mark.parametrize("channel", ["bit", "gaussian"])
@pytest.mark.parametrize("allocation", ["adaptive", "uniform"])
@pytest.mark.parametrize("directions", [1, 3])
@pytest.mark.parametrize("budget", [0.0, 1e-9, 0.3, 5.0])
def test_charges_never_pass_the_budget(secret, channel, allocation, directions, budget):
    mechanism = make_mi(secret, channel=channel, allocation=allocation, directions=directions, budget=budget)
    total = 0.0
    for step in range(STEPS):
        release = mechanism.release(step, derivatives(step, directions))
        total += sum(release.beta)
        assert all(beta >= 0 for beta in release.beta)
        assert set(release.y) <= {1, -1}
    assert mechanism.budget == budget
    assert mechanism.spent == pytest.approx(total, rel=1e-12)
    assert mechanism.spent <= budget


def test_after_a_noiseless_release_only_what_is_possible_votes(secret):
    mechanism = make_mi(secret, budget=50.0, steps=20)
    seen = [mechanism.release(step, derivatives(step)) for step in range(20)]
    assert any(release.noise == (0.0,) and not release.unanimous[0] for release in seen)
    # unanimous among the possible, not among all
    positive = [np.unpackbits(np.frombuffer(release.signs[0], dtype=np.uint8)).sum() for release in seen]
    late = [r for r, plus in zip(seen, positive, strict=True) if r.unanimous[0] and 0 < plus < SUBSETS]
    assert late
    assert all(release.q[0] in (0.0, 1.0) and release.beta == (0.0,) for release in late)
    # the secret is one of the possible, so such a step releases its sign
    for release in late:
        signs = subset_signs(derivatives(release.step)[:, 0], MEMBERSHIP, clip=3.0)
        assert release.y == (open_secret(secret).signs_of(signs),)


def run(mechanism, steps, start=0, units=None):
    found = []
    for step in range(start, steps):
        g = derivatives(step, mechanism.directions, shift=0.4)
        found.append(mechanism.release(step, g if units is None else g[units], nonfinite=step, unit_indices=units))
    return found


def makers(secret):
    yield lambda coins: ZPL(MEMBERSHIP, clip=3.0, coins=coins, directions=2)
    for channel in ("bit", "gaussian"):
        for budget in (0.0, 0.3, 5.0):
            yield lambda coins, channel=channel, budget=budget: make_mi(
                secret, coins, channel=channel, budget=budget, directions=2
            )


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(secret):
    for make in makers(secret):
        whole = run(make(Coins(5)), STEPS)
        assert any(not all(release.unanimous) for release in whole)
        for stop in (0, 1, 7, STEPS):
            resumed = make(Untouchable())
            for release in whole[:stop]:
                entry = parse_line(canonical(release.to_journal()), "entry")  # as it comes back from the disk
                resumed.restore(Release.from_journal(entry))
            resumed._coins = Coins(5)
            assert run(resumed, STEPS, stop) == whole[stop:]
            assert resumed.spent == pytest.approx(sum(sum(release.beta) for release in whole), rel=1e-12)


def test_an_edited_release_is_refused(secret):
    for make in makers(secret):
        whole = run(make(Coins(5)), 6)
        step = next(t for t in range(6) if not all(whole[t].unanimous))
        good = whole[step]
        other = bytes(value ^ 0xFF for value in good.signs[0])
        edits = [
            {"q": (good.q[0] + 1e-9, good.q[1])},
            {"beta": (good.beta[0] + 1e-9, good.beta[1])},
            {"noise": (0.25, good.noise[1])},
            {"signs": (other, good.signs[1])},
            {"signs": (good.signs[0][:1], good.signs[1])},
            {"signs": ()},
            {"unanimous": tuple(not value for value in good.unanimous)},
            {"y": (*good.y, 1)},
            {"y": (0, good.y[1])},
            {"y": (float(good.y[0]), good.y[1])},
            {"y": (str(good.y[0]), good.y[1])},
            {"step": str(good.step)},
            {"step": good.step + 1},
            {"output": (0.5, 0.5) if good.output is None else None},
        ]
        if good.output is not None:
            edits += [{"y": (-good.y[0], good.y[1])}, {"output": (-good.output[0], good.output[1])}]
        for edit in edits:
            mechanism = make(Untouchable())
            for release in whole[:step]:
                mechanism.restore(release)
            with pytest.raises(IntegrityError, match="step") as caught:
                mechanism.restore(dataclasses.replace(good, **edit))
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "edit",
    [
        {"y": [1.5j]},
        {"y": 1},
        {"signs": ["zz"]},
        {"signs": [1]},
        {"q": []},
        {"noise": ["nan"]},
        {"beta": None},
        {"output": [1.0, 1.0]},
        {"more": 1},
    ],
)
def test_a_journal_entry_of_other_types_is_refused(edit):
    entry = ZPL(MEMBERSHIP, clip=3.0, coins=Word(0)).release(0, contested()).to_journal()
    assert Release.from_journal(entry).to_journal() == entry
    with pytest.raises(IntegrityError, match="journal step"):
        Release.from_journal(entry | edit)


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_pool_does_not_matter(seed, random):
    g = np.random.default_rng(seed).standard_normal((UNITS, 2)) * 10.0
    g[seed % UNITS] = math.nan
    order = random.sample(range(UNITS), UNITS)
    one = ZPL(MEMBERSHIP, clip=3.0, coins=Coins(0), directions=2).release(0, g)
    other = ZPL(MEMBERSHIP[order], clip=3.0, coins=Coins(0), directions=2).release(0, g[order])
    assert one == other
    assert one.nonfinite == 2


def test_some_units_of_the_pool(secret):
    units = draw_units(UNITS, 32, seed=0, step=0)
    release = make_mi(secret).release(0, derivatives(0)[units], unit_indices=units, nonfinite=2)
    whole = ZPL(MEMBERSHIP[units], clip=3.0, coins=Word(0)).release(0, derivatives(0)[units])
    assert release.signs == whole.signs
    assert release.nonfinite == 2
    # a single unit: the candidates without it follow those with it, so that the step is unanimous
    alone = ZPL(MEMBERSHIP, clip=3.0, coins=Untouchable()).release(0, np.array([[-1.0]]), unit_indices=np.array([7]))
    assert alone.unanimous == (True,)
    assert alone.y == (-1,)
    for bad in ([UNITS], [-1], [3, 3], [], [[1]]):
        with pytest.raises(PACZeroError, match=r"unit_indices|membership"):
            ZPL(MEMBERSHIP, clip=3.0, coins=Word(0)).release(0, np.zeros((1, 1)), unit_indices=np.array(bad, dtype=int))


def test_steps_come_once_and_in_order(secret):
    mechanism = make_mi(secret)
    mechanism.release(0, derivatives(0))
    for step in (0, 2, -1):
        with pytest.raises(PACZeroError, match="step 1"):
            mechanism.release(step, derivatives(1))
    mechanism.release(1, derivatives(1))


def test_a_run_has_no_more_steps_than_its_budget_is_for(secret):
    mechanism = make_mi(secret, steps=2)
    run(mechanism, 2)
    with pytest.raises(PACZeroError, match="step"):
        mechanism.release(2, derivatives(2))


def test_what_cannot_work_is_refused_early(secret, tmp_path):
    with pytest.raises(IntegrityError, match="16 candidates"):
        MI(MEMBERSHIP[:, :4], clip=1.0, coins=Word(0), budget=0.1, steps=1, secret=secret)
    with pytest.raises(PACZeroError, match="cannot be read"):
        make_mi(tmp_path / "none")
    for changes, name in (
        ({"budget": -1.0}, "budget"),
        ({"channel": "x"}, "channel"),
        ({"directions": 0}, "directions"),
    ):
        with pytest.raises(PACZeroError, match=name):
            make_mi(secret, **changes)
    for members in (MEMBERSHIP[:, :3], MEMBERSHIP.astype(int), MEMBERSHIP[:0], MEMBERSHIP[0]):
        with pytest.raises(PACZeroError, match="membership"):
            ZPL(members, clip=1.0, coins=Word(0))
    with pytest.raises(PACZeroError, match="derivatives"):
        make_mi(secret).release(0, np.zeros((UNITS, 2)))
    with pytest.raises(PACZeroError, match="clip"):
        ZPL(MEMBERSHIP, clip=0.0, coins=Word(0)).release(0, derivatives(0))
