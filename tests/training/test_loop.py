"""The one loop, with a mechanism and an objective of the test's own: order, journal first, evaluations, selection."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paczero.config import MechanismConfig, PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.journal import Journal
from paczero.mechanism.pac import ZPL
from paczero.mechanism.randomness import Coins
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.optim.derivatives import Derivatives
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters, WeightEMA
from paczero.training.loop import DevResult, Loop, Schedule
from paczero.training.state import RunState

UNITS, STEPS = 40, 7
HEADER = {"format": "paczero-transcript/1", "mechanism": {"name": "zpl"}, "directions": 2, "steps": STEPS}
TARGET = torch.linspace(-1, 1, 12)


class Quadratic:
    """Each unit pulls the weights to a place of its own; keeps the order of events."""

    units = UNITS

    def __init__(self, events: list[Any]):
        self.events = events
        self.offsets = np.random.default_rng(0).normal(size=(UNITS, 12))

    def derivatives(self, weights: PerturbedParameters, step: int, directions: int, part: Any = None) -> Derivatives:
        self.events.append(("derivatives", step, None if part is None else len(part)))
        theta = weights.parameters["w"].detach().numpy().astype(np.float64)
        rows = slice(None) if part is None else part
        columns = []
        for k in range(directions):
            z = weights.law.draw(seed=weights.seed, step=step, k=k, name="w", start=0, stop=12).numpy()
            columns.append((theta - TARGET.numpy() - self.offsets[rows]) @ z)
        for k in range(directions):
            weights.skip(step, k)
        return Derivatives(np.stack(columns, axis=1), 0, part, float(((theta - TARGET.numpy()) ** 2).mean()))


class Watching:
    """An observer that also looks whether the journal is ahead of the weights."""

    def __init__(self, events: list[Any]):
        self.events = events

    def on_step(self, step: Any) -> None:
        self.events.append(("step", step.index, step.loss is None))

    def on_dev(self, result: DevResult) -> None:
        self.events.append(("dev", result.done))


def trainer(place: Path, events: list[Any], *, average: float = 0.0, stop: Any = None, **schedule: Any) -> Loop:
    weights = PerturbedParameters(
        {"w": nn.Parameter(torch.zeros(12))}, law=direction_law("rademacher"), seed=3, mu=1e-2
    )
    header = {"run": "test"}
    path = place / "journal.jsonl"
    journal = Journal.open(path, header) if path.exists() else Journal.create(path, header)
    made: list[Loop] = []

    def evaluate(done: int) -> DevResult:
        theta = weights.parameters["w"].detach()
        loss = float(((theta - TARGET) ** 2).mean())
        return DevResult(done, accuracy=round(1 - loss, 1), loss=loss, threshold=0.0)

    made.append(
        Loop(
            Quadratic(events),  # type: ignore[arg-type]
            weights,
            RunState(
                ZPL(draw_subsets(UNITS, 8, seed=0), clip=5.0, coins=Coins(1), directions=2),
                journal,
                Transcript.resume(place / "transcript.jsonl", HEADER, [entry["y"] for entry in journal.entries]),
            ),
            schedule=Schedule(
                **({"steps": STEPS, "directions": 2, "rate": lambda step: 0.1 / (1 + step), "eval_steps": 3} | schedule)
            ),
            average=WeightEMA(weights, average) if average else None,
            evaluate=evaluate,
            observers=[Watching(events)],
            stop=stop or (lambda: False),
        )
    )
    return made[0]


def test_the_order_of_a_run(tmp_path: Path) -> None:
    events: list[Any] = []
    outcome = trainer(tmp_path, events).run()
    expected: list[Any] = [("dev", 0)]
    for step in range(STEPS):
        expected += [("derivatives", step, None), ("step", step, False)]
        expected += [("dev", step + 1)] if step + 1 in (3, 6, 7) else []
    assert events == expected
    assert (outcome.done, outcome.chosen, [row.done for row in outcome.dev]) == (7, 7, [0, 3, 6, 7])


def test_the_update_is_what_was_released(tmp_path: Path) -> None:
    made = trainer(tmp_path, [])
    made.run()
    slow = torch.zeros(12, dtype=torch.float64)
    for step, y in enumerate(Transcript.read(tmp_path / "transcript.jsonl").y):
        for k in range(2):
            z = direction_law("rademacher").draw(seed=3, step=step, k=k, name="w", start=0, stop=12)
            slow -= 0.1 / (1 + step) / 2 * y[k] * z.double()
    torch.testing.assert_close(made.weights.parameters["w"].double(), slow, atol=1e-6, rtol=1e-6)


def test_a_release_is_on_disk_before_the_weights_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path, [])
    seen: list[tuple[int, int]] = []
    update = made.weights.update

    def watched(step: int, *rest: Any) -> None:
        journal = Journal.open(tmp_path / "journal.jsonl")
        seen.append((len(journal.entries), len(Transcript.read(tmp_path / "transcript.jsonl").y)))
        update(step, *rest)

    monkeypatch.setattr(made.weights, "update", watched)
    made.run()
    assert seen == [(step + 1, step + 1) for step in range(STEPS)]


@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("done", [0, 1, 4, STEPS])
def test_what_is_written_is_taken_and_not_drawn_again(tmp_path: Path, done: int, average: float) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    first = trainer(tmp_path / "whole", [], average=average, select="loss")
    whole = first.run()
    if done:
        steps = iter(range(1, 100))
        trainer(tmp_path / "parts", [], average=average, stop=lambda: next(steps) == done).run()
    events: list[Any] = []
    second = trainer(tmp_path / "parts", events, average=average, select="loss")
    again = second.run()
    assert [event[1] for event in events if event[0] == "derivatives"] == list(range(done, STEPS))
    assert [event[2] for event in events if event[0] == "step"] == [step < done for step in range(STEPS)]
    assert second.weights.fingerprint() == first.weights.fingerprint() and again == whole
    for name in ("journal.jsonl", "transcript.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_journal_of_other_signs_is_refused(tmp_path: Path) -> None:
    """The chain holds, but the entry does not follow from its own signs."""
    made = trainer(tmp_path, [])
    made.run()
    entries = [dict(entry) for entry in made.state.journal.entries]
    place = tmp_path / "other"
    place.mkdir()
    forged = Journal.create(place / "journal.jsonl", {"run": "test"})
    entries[2]["unanimous"] = [not flag for flag in entries[2]["unanimous"]]
    for entry in entries:
        forged.append(entry)
    with pytest.raises(IntegrityError, match="step 2"):
        trainer(place, []).run()


def test_a_part_of_the_units_a_step(tmp_path: Path) -> None:
    events: list[Any] = []
    trainer(tmp_path, events, units_per_step=33).run()
    assert {event[2] for event in events if event[0] == "derivatives"} == {33}


@pytest.mark.parametrize(("select", "average"), [("loss", 0.0), ("accuracy", 0.0), ("loss", 0.8), (None, 0.8)])
def test_what_is_served(tmp_path: Path, select: str | None, average: float) -> None:
    """The first of the best; never the start; the average where one is kept."""
    made = trainer(tmp_path, [], average=average, eval_steps=1, select=select)
    outcome = made.run()
    trained = outcome.dev[1:]
    if select == "loss":
        best = min(trained, key=lambda row: row.loss)
    elif select == "accuracy":
        best = max(trained, key=lambda row: row.accuracy)
    else:
        best = trained[-1]
    assert outcome.chosen == best.done
    assert float(((made.weights.parameters["w"].detach() - TARGET) ** 2).mean()) == pytest.approx(best.loss, rel=1e-6)


def test_stopping(tmp_path: Path) -> None:
    events: list[Any] = []
    steps = iter(range(1, 100))
    outcome = trainer(tmp_path, events, stop=lambda: next(steps) == 4).run()
    assert (outcome.done, outcome.chosen, [row.done for row in outcome.dev]) == (4, 4, [0, 3, 4])


def test_without_a_dev_set(tmp_path: Path) -> None:
    made = trainer(tmp_path, [])
    made.evaluate = None
    outcome = made.run()
    assert (outcome.dev, outcome.chosen, outcome.done) == ([], STEPS, STEPS)


def broken_at(made: Loop, when: int, loss: float) -> Loop:
    """The same loop, whose dev loss is that from this step on."""
    evaluate = made.evaluate
    assert evaluate is not None

    def odd(done: int) -> DevResult:
        found = evaluate(done)
        return DevResult(done, 1.0, loss, loss) if done >= when else found

    made.evaluate = odd
    return made


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("select", ["loss", "accuracy"])
def test_a_run_that_diverges_ends_there_and_serves_the_best_step_before(
    tmp_path: Path, loss: float, select: str
) -> None:
    outcome = broken_at(trainer(tmp_path, [], eval_steps=1, select=select), 4, loss).run()
    assert outcome.done == 4 and len(Transcript.read(tmp_path / "transcript.jsonl").y) == 4
    assert outcome.diverged == f"the dev loss after step 4 is {loss}"
    sound = [row for row in outcome.dev if 0 < row.done < 4]
    best = min(sound, key=lambda row: row.loss) if select == "loss" else max(sound, key=lambda row: row.accuracy or 0)
    assert outcome.chosen == best.done
    again = broken_at(trainer(tmp_path, [], eval_steps=1, select=select), 4, loss).run()  # as `--resume` does
    assert (again.done, again.chosen, again.diverged) == (outcome.done, outcome.chosen, outcome.diverged)


@pytest.mark.parametrize("schedule", [{}, {"select": "loss"}])
def test_a_run_that_diverges_before_a_step_was_kept_says_so(tmp_path: Path, schedule: dict[str, Any]) -> None:
    made = broken_at(trainer(tmp_path, [], **schedule), 3, float("nan"))
    said = "the dev loss after step 3 is nan, .* ends after 3 of 7 steps; it cannot be published.* smaller learning"
    with pytest.raises(PACZeroError, match=said):
        made.run()
    assert len(Transcript.read(tmp_path / "transcript.jsonl").y) == 3


def test_a_dev_loss_that_was_infinite_from_the_start_is_no_sign(tmp_path: Path) -> None:
    outcome = broken_at(trainer(tmp_path, [], select="loss"), 0, float("inf")).run()
    assert (outcome.done, outcome.diverged) == (STEPS, None)


def without_finite_derivatives(made: Loop, when: int, count: int) -> Loop:
    """The same loop, of whose derivatives so many are not finite from this step on."""
    measure = made.objective.derivatives
    made.objective.scorer = SimpleNamespace(records=UNITS)  # type: ignore[assignment]

    def odd(weights: PerturbedParameters, step: int, *rest: Any) -> Derivatives:
        found = measure(weights, step, *rest)
        return replace(found, values=0 * found.values, nonfinite=count) if step >= when else found

    made.objective.derivatives = odd  # type: ignore[method-assign]
    return made


def test_a_step_without_a_finite_derivative_is_not_released(tmp_path: Path) -> None:
    made = without_finite_derivatives(trainer(tmp_path, [], watch_pool=True), 4, 2 * UNITS)
    with pytest.raises(PACZeroError, match=r"no derivative of step 5 is finite, .* after 4 of 7 steps"):
        made.run()
    assert len(Journal.open(tmp_path / "journal.jsonl").entries) == 4


@pytest.mark.parametrize(
    ("watch", "part", "count"), [(False, None, 2 * UNITS), (True, None, 2 * UNITS - 1), (True, 20, 40)]
)
def test_what_must_not_end_a_run(tmp_path: Path, watch: bool, part: int | None, count: int) -> None:
    """Under a promise about the pool its derivatives end nothing; one finite value or a part of the units goes on."""
    made = without_finite_derivatives(trainer(tmp_path, [], watch_pool=watch, units_per_step=part), 2, count)
    assert made.run().done == STEPS


@pytest.mark.parametrize(("name", "watched"), [("zpl", True), ("none", True), ("dp-sign", False), ("coin", False)])
def test_which_mechanisms_may_stop_by_the_pool(name: str, watched: bool) -> None:
    epsilon = 2.0 if name == "dp-sign" else None
    args = PACZeroConfig(mechanism=MechanismConfig(name=name, epsilon=epsilon))  # type: ignore[arg-type]
    assert Schedule.of(args).watch_pool is watched


def test_weights_that_are_not_finite_are_not_served_without_a_dev_set(tmp_path: Path) -> None:
    made = trainer(tmp_path, [], rate=lambda step: 3e38)
    made.evaluate = None
    with pytest.raises(PACZeroError, match=r"weights after step \d are not finite"):
        made.run()
