"""Each mechanism as the factory makes it: its releases, its journal and transcript, and whole runs."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.config import MechanismConfig, PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.accounting import success_of
from paczero.mechanism.base import Mechanism, Release
from paczero.mechanism.journal import Journal
from paczero.mechanism.registry import SPECS, spec_of
from paczero.mechanism.secret import create_secret
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.release.verify.release import verify_release
from paczero.training.factory import make_mechanism, mechanism_header
from paczero.utils.io import canonical, parse_line

from ..interruptions import Stop, StopAt

MakeTrainer = Callable[..., Any]
UNITS, SUBSETS, STEPS = 48, 8, 8
MEMBERSHIP = draw_subsets(UNITS, SUBSETS, seed=0)
# Every mechanism as settings, those with a choice of their own in each of its forms.
SETTINGS: dict[str, dict[str, Any]] = {
    "zpl": {},
    "mi": {"budget": 0.4},
    "none": {},
    "dpzero": {"epsilon": 3.0, "delta": 1e-3, "sampling_prob": 0.25, "clip": 3.0},
    "dp-aggzo": {"epsilon": 3.0, "delta": 1e-3, "sampling_prob": 0.25, "clip": 3.0},
    "dp-aggzo whole": {"epsilon": 3.0, "clip": 3.0},
    "dp-sign": {"epsilon": 3.0, "clip": 3.0},
    "full-sign": {},
    "half-sign": {},
    "coin": {},
    "skip": {},
}
Make = Callable[[], Mechanism]


def named(case: str) -> str:
    """The mechanism of a case."""
    return case.partition(" ")[0]


def test_all_are_here() -> None:
    assert {named(name) for name in SETTINGS} == set(SPECS)


def args_of(case: str, **changes: Any) -> PACZeroConfig:
    name = named(case)
    mechanism = MechanismConfig(**({"name": name, "subsets": SUBSETS, "clip": 3.0} | SETTINGS[case] | changes))
    directions = 1 if name == "dpzero" else 3
    return PACZeroConfig(mechanism=mechanism, max_steps=STEPS, directions=directions, test_seed=4)


@pytest.fixture(params=SETTINGS)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(case: str, tmp_path: Path) -> Make:
    secret = tmp_path / "secret.json"
    create_secret(secret, subsets=SUBSETS, test_seed=4)
    args = args_of(case)
    return lambda: make_mechanism(args, mechanism_header(args, UNITS), MEMBERSHIP, secret, units=UNITS)


def derivatives(step: int, directions: int) -> np.ndarray:
    """Steps that agree and steps that do not, of both signs."""
    shift = (0.4, -0.4, 0.0)[step % 3]
    return np.random.default_rng([step, 5]).standard_normal((UNITS, directions)) + shift


def released(mechanism: Mechanism, step: int, **more: Any) -> Release:
    """A step as the loop takes it: the sample first, then the derivatives of its units alone."""
    part, g = mechanism.sample(step), derivatives(step, mechanism.directions)
    return mechanism.release(step, g if part is None else g[part], unit_indices=part, **more)


def test_what_it_is(make: Make, case: str) -> None:
    mechanism, kind = make(), spec_of(named(case))
    assert mechanism.name == kind.name
    assert mechanism.budget == kind.budget(SETTINGS[case].get("budget"))
    assert mechanism.spent == 0.0
    y = [value for step in range(STEPS) for value in released(mechanism, step).y]
    if kind.real:
        assert all(type(value) is float and math.isfinite(value) for value in y)
    else:
        assert all(type(value) is int for value in y) and set(y) == ({1, -1, 0} if kind.zero else {1, -1})


def test_what_is_written_is_taken_again_and_goes_on_the_same(make: Make, tmp_path: Path, case: str) -> None:
    mechanism = make()
    whole = [released(mechanism, step, nonfinite=step) for step in range(STEPS)]
    header = {"format": FORMAT, "mechanism": {"name": named(case)}, "directions": mechanism.directions}
    journal = Journal.create(tmp_path / "journal.jsonl", {})
    transcript = Transcript.create(tmp_path / "transcript.jsonl", header | {"steps": STEPS})
    for step, release in enumerate(whole):
        journal.append(release.to_journal())
        transcript.append(step, release.y)
    assert Transcript.read(transcript.path).y == [release.y for release in whole]
    resumed = make()
    for entry in Journal.open(journal.path).entries[:5]:
        resumed.restore(Release.from_journal(entry))
    assert [released(resumed, step, nonfinite=step) for step in range(5, STEPS)] == whole[5:]
    assert resumed.spent == pytest.approx(mechanism.spent)


def test_a_written_release_that_was_edited_is_refused(make: Make, case: str) -> None:
    good = released(make(), 0)
    other = 0.5 if spec_of(named(case)).real else 2
    edits: list[dict[str, Any]] = [
        {"y": (*good.y[:-1], other)} if isinstance(other, int) else {"y": (*good.y[:-1], math.nan)},
        {"y": (*good.y, good.y[0])},
        {"y": tuple(str(value) for value in good.y)},
        {"step": 1},
        {"q": tuple(value + 1e-9 for value in good.q)},
        {"beta": tuple(value + 1e-9 for value in good.beta)},
        {"noise": tuple(value + 0.125 for value in good.noise)},
        {"unanimous": tuple(not value for value in good.unanimous)},
        {"signs": ()} if good.signs else {"signs": (b"\xff",) * len(good.y)},
        {"output": tuple(float(value) for value in good.y)},
    ]
    make().restore(Release.from_journal(parse_line(canonical(good.to_journal()), "entry")))
    for edit in edits:
        with pytest.raises(IntegrityError, match="step") as caught:
            make().restore(dataclasses.replace(good, **edit))
        assert "\n" not in str(caught.value)


def test_what_cannot_be_released_is_refused(make: Make) -> None:
    mechanism = make()
    k = mechanism.directions
    for wrong in (np.zeros((UNITS, k + 1)), np.zeros(UNITS)):
        with pytest.raises(PACZeroError, match="derivatives"):
            make().release(0, wrong)
    released(mechanism, 0)
    for step in (0, 2, 5):
        with pytest.raises(PACZeroError, match="step 1"):
            released(mechanism, step)
    released(mechanism, 1)


def test_what_is_not_finite_counts_as_zero(make: Make) -> None:
    mechanism, other = make(), make()
    part, same = mechanism.sample(0), other.sample(0)
    assert (part is None and same is None) or np.array_equal(part, same)
    g = derivatives(0, mechanism.directions)
    g = g if part is None else g[part]
    broken, zero = g.copy(), g.copy()
    broken[[1, 3], 0] = math.nan, -math.inf
    zero[[1, 3], 0] = 0.0
    first, second = (
        mechanism.release(0, broken, unit_indices=part, nonfinite=5),
        other.release(0, zero, unit_indices=part),
    )
    assert first.y == second.y and (first.nonfinite, second.nonfinite) == (7, 0)


def test_a_public_part(make: Make, case: str) -> None:
    part = np.array([2, 5, 11, 30])
    g = derivatives(0, make().directions)[part]
    if spec_of(named(case)).is_dp:
        with pytest.raises(PACZeroError, match="unit_indices: "):
            make().release(0, g, unit_indices=part)
    else:
        assert make().sample(0) is None
        assert len(make().release(0, g, unit_indices=part).y) == g.shape[1]


def test_the_header_says_what_the_noise_follows_from() -> None:
    stated = mechanism_header(args_of("dpzero"), UNITS)
    assert stated == {"name": "dpzero", "clip": 3.0, "epsilon": 3.0, "delta": 1e-3, "sampling": 0.25} | {
        "sigma": stated["sigma"],
        "posterior_success": success_of(
            "dpzero", stated["sigma"], steps=args_of("dpzero").max_steps, sampling_prob=0.25
        ),
    }
    assert mechanism_header(args_of("dp-sign"), UNITS)["delta"] == 1e-6
    for name in ("zpl", "none", "coin"):
        assert mechanism_header(args_of(name), UNITS) == {"name": name, "clip": 3.0}


def test_a_sample_of_less_than_one_unit_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    mechanism = {"name": "dpzero", "epsilon": 1.0, "sampling_prob": 0.02}
    with pytest.raises(PACZeroError, match=r"mechanism\.sampling_prob: 0\.02 of 48 units"):
        make_trainer(tmp_path / "run", mechanism=mechanism)


def test_candidates_must_be_there_where_they_are_asked(tmp_path: Path) -> None:
    with pytest.raises(PACZeroError, match="membership: none was given; 'skip' needs it"):
        make_mechanism(args_of("skip"), {"clip": 3.0}, None, tmp_path / "secret.json", units=UNITS)


def kept(run: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}
    return found | {"journal": (run / "private" / "journal.jsonl").read_bytes()}


def verified(run: Path, model: str) -> bool:
    """Whether the weights are rebuilt bit for bit and the stated noise is enough."""
    verification = verify_release(run, with_base=True, model=model)
    is_dp = spec_of(verification.document["mechanism"]["name"]).is_dp
    return verification.replayed and ("noise" in dict(verification.lines)) == is_dp


def test_a_run_that_was_killed_ends_like_one_that_was_not(make_trainer: MakeTrainer, case: str, tmp_path: Path) -> None:
    name = named(case)
    settings = {"directions": 1 if name == "dpzero" else 2, "mechanism": {"name": name} | SETTINGS[case]}
    settings |= {"max_steps": 4, "dev": None, "restore": "arithmetic"}
    whole = make_trainer(tmp_path / "whole", **settings)
    result = whole.train()
    assert (result.unanimity is None) == (not spec_of(name).candidates)
    trainer = make_trainer(tmp_path / "run", observers=[StopAt(1)], **settings)
    with pytest.raises(Stop):
        trainer.train()
    trainer.observers = []
    assert trainer.train(resume_from_checkpoint=True).statement == result.statement
    assert verified(tmp_path / "run", trainer._base["id"])
    assert kept(tmp_path / "run") == kept(tmp_path / "whole")
    for path in (tmp_path / "whole", tmp_path / "run"):
        shutil.rmtree(path)


def test_the_sample_decides_who_is_evaluated(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """A rate so small that most steps have no unit: those cost no forward pass, and are released all the same."""
    mechanism = {"name": "dpzero", "epsilon": 0.5, "sampling_prob": 0.03, "clip": 3.0}
    trainer = make_trainer(tmp_path / "run", mechanism=mechanism, max_steps=8, dev=None)
    seen: list[int] = []

    class Count:
        def on_step(self, step: Any) -> None:
            seen.append(step.loss is not None and math.isnan(step.loss))

        def on_dev(self, result: Any) -> None:
            pass

    trainer.observers = [Count()]
    trainer.train()
    assert 0 < sum(seen) < 8
    diagnostics = (tmp_path / "run" / "private" / "diagnostics.jsonl").read_text()
    assert len([line for line in diagnostics.splitlines() if json.loads(line)["kind"] == "step"]) == 8
    everything = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*.jsonl"))
    assert b"sample" not in everything and b'"part"' not in everything
