"""Repeats the whole procedure hundreds of times with a tiny model and made-up records.

    simulation = Simulation(settings_of(header), units=64)
    trial = simulation.run(Path("/tmp/one"))
    trial.y.shape, trial.losses.shape
    # ((24, 1), (64,))

It runs the code that users train with: prompts, forward passes, derivatives, candidates of the run's own family,
releases with a secret and coins of the operating system, journal, transcript, updates. Model and records come from
public seeds, so every attacker knows them. Steps without influence on the release are left out: evaluation, plots,
publishing.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from paczero.audit.arrays import Bools, Floats
from paczero.audit.likelihoods import clipped_shares
from paczero.audit.losses import TASK, Losses, ModelLosses, made_up
from paczero.config import MINIMUM_UNITS, MechanismConfig, PACZeroConfig
from paczero.mechanism.base import Mechanism
from paczero.mechanism.journal import Journal
from paczero.mechanism.registry import FOLLOWING, spec_of
from paczero.mechanism.secret import create_secret, open_secret
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.optim.derivatives import Derivatives
from paczero.training.candidates import pilot_derivatives
from paczero.training.clip import measured_log_odds, median_clip
from paczero.training.factory import make_mechanism, mechanism_header
from paczero.training.loop import Loop, Schedule
from paczero.training.state import RunState

Progress = Callable[[str, int, int], None]  # (name, done, total)

UNITS = 64  # of a re-run's pool
STEPS, RATE, REAL_RATE = 24, 0.02, 0.01

_PILOTS = 16

_MOST_DIRECTIONS = 4


def settings_of(header: Mapping[str, Any], steps: int = STEPS, units: int = UNITS) -> PACZeroConfig:
    """The audited run's mechanism, with its budget, channel, family, M and K, for a short run of the small model.

    Args:
        header: the transcript's. K is at most 4 and the pilots are 16; no bound depends on them.
        steps: T.
        units: N of the small pool; a step uses the same share of it as the audited run's, but 32 units at least.
    """
    # Noise, shares and p follow from ε, δ, T and K, which differ here.
    stated = {k: v for k, v in header["mechanism"].items() if k not in FOLLOWING}
    if (sampling := stated.pop("sampling", 1.0)) != 1.0:
        stated["sampling_prob"] = sampling
    spec = spec_of(stated["name"])
    if spec.is_dp:
        stated.pop("delta", None)
        stated["clip"] = "auto"  # the run's clip may never bite here, and a clip that does not bite cannot be tested
    mechanism = MechanismConfig(
        **stated,
        subsets=header["subsets"],
        family=header["family"],
        pilots=_PILOTS,
        budget=header["budget"] if spec.has_budget else None,
    )
    made = settings(mechanism, steps=steps, directions=min(header["directions"], _MOST_DIRECTIONS))
    if (part := header.get("units_per_step")) is None:
        return made
    return replace(made, units_per_step=min(max(MINIMUM_UNITS, round(part / header["units"] * units)), units))


def settings(mechanism: MechanismConfig, *, steps: int = STEPS, directions: int = 1) -> PACZeroConfig:
    """A short run of the small model under any mechanism."""
    real = spec_of(mechanism.name).real
    return PACZeroConfig(
        max_steps=steps,
        directions=directions,
        learning_rate=REAL_RATE if real else RATE,
        lr_scheduler_type="constant",
        batch_tokens=4096,
        task=TASK,
        mechanism=mechanism,
    )


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        y: (T, K) released values.
        signs: (T, K, M) int8 of every candidate; None without candidates. They are public here: they follow from model,
            records and candidates.
        noise: (T, K) f or σ of each release, public for the same reason.
        output: (T, K) the channel's output, whose sign is y; y itself for most channels.
        beta: (T, K) nats charged.
        sums: (T, K) of the units that the step was measured on: each clipped as the settings say, in units of the clip.
            Empty for mechanisms without differential privacy.
        stopped: (T, K) of the units that had spent their share, and should contribute nothing; empty without accounts.
        sampled: (T, N) which units the step was measured on.
        inside: (N,) which units are in S*, the target of attacks. None without candidates.
        secret: the index of S*; None without candidates.
        derivatives: (T, K, N) of *all* units at each step, including those outside the pool.
        weights: (D,) float32 at the end, sorted by name.
        losses: (N,) of every unit under these weights, nats.
    """

    y: Floats
    signs: npt.NDArray[np.int8] | None
    noise: Floats
    output: Floats
    beta: Floats
    sums: Floats
    stopped: Floats
    sampled: Bools
    inside: Bools | None
    secret: int | None
    derivatives: Floats
    weights: npt.NDArray[np.float32]
    losses: Floats


class Simulation:
    """The small model with its records, for repeated training.

    Args:
        args: mechanism, steps and rates.
        units: N, the number of records; each is a unit.
        odd: the number of records, at the end, whose label is random, as for canaries.
        good: share of the others whose label is the second one; the farther from 1/2, the more the records agree.
        alike: how many words the others end with; the more, the more the records agree.
        seed: public, of model, records and candidates.
        build: makes the release object, as `make_mechanism`, its default, does.
        draw_secret: writes the file of S*, as `create_secret`, its default, does.
        losses: what is trained on; by default a small model with made-up records, described by `odd`, `good`, `alike`.

    Attributes:
        args: the settings; a clip of `auto` is replaced by the median of |g| at the start, so that it bites.
        membership: (N, M) the candidates of the whole pool; None if the mechanism has none.
    """

    def __init__(
        self,
        args: PACZeroConfig,
        *,
        units: int,
        odd: int = 0,
        good: float = 0.5,
        alike: int = 0,
        seed: int = 0,
        build: Callable[..., Mechanism] = make_mechanism,
        draw_secret: Callable[..., None] = create_secret,
        losses: Losses | None = None,
    ) -> None:
        self.args, self.units = replace(args, seed=seed), units
        if losses is None:
            torch.set_num_threads(1)
            losses = ModelLosses(self.args, made_up(units, odd=odd, good=good, alike=alike, seed=seed))
        self._losses, self._build, self._draw_secret = losses, build, draw_secret
        self._weights = losses.weights(self.args)
        self._start = self._weights.snapshot()
        if spec_of(args.mechanism.name).is_dp:
            self._measured = losses.objective.derivatives(self._weights, 0, args.directions).values
        if args.mechanism.clip == "auto":
            clip = median_clip(args, self._measured)
            self.args = replace(self.args, mechanism=replace(args.mechanism, clip=clip))
        self.membership = self.candidates(np.ones(units, dtype=bool))

    def stated(self, count: int) -> dict[str, Any]:
        """What a header states of the mechanism for a pool of so many units; a share is spent about as a run does."""
        found = mechanism_header(self.args, count)
        if self.args.mechanism.individual:
            bits = self.args.max_steps * self.args.directions
            found["eps0"] = measured_log_odds(self._measured, clip=found["clip"], rho=found["rho"], count=bits)
        return found

    @cached_property
    def _known(self) -> dict[str, npt.NDArray[Any]]:
        """Features, labels and pilot derivatives of all units, as `draw_subsets` takes them."""
        losses = self._losses
        pilot = losses.weights(self.args, "pilot")
        pilots = pilot_derivatives(self.args, losses.objective, pilot, lambda *_: None, base="", pool="")
        return {"features": losses.features(), "labels": losses.labels, "pilots": pilots}

    def candidates(self, in_pool: Bools) -> Bools | None:
        """The candidates (n, M) of the pool of the units in `in_pool` (N,), drawn as a run draws them."""
        chosen = self.args.mechanism
        if not spec_of(chosen.name).candidates:
            return None
        known = {} if chosen.family == "random" else {name: values[in_pool] for name, values in self._known.items()}
        return draw_subsets(int(in_pool.sum()), chosen.subsets, seed=self.args.seed, family=chosen.family, **known)

    def run(self, path: Path, *, in_pool: Bools | None = None, membership: Bools | None = None) -> Trial:
        """Trains once, from the start, in a new directory.

        Args:
            path: a new directory, which keeps secret, journal and transcript.
            in_pool: (N,) which units are in the pool; all by default.
            membership: (n, M) candidates of that pool; by default drawn for it.
        """
        if membership is None:
            membership = self.membership if in_pool is None else self.candidates(in_pool)
        in_pool = np.ones(self.units, dtype=bool) if in_pool is None else in_pool
        count = int(in_pool.sum())
        path.mkdir(mode=0o700, parents=True)
        secret = path / "secret.json"
        self._draw_secret(secret, subsets=self.args.mechanism.subsets)
        self._weights.load(self._start)
        objective = _Pool(self._losses.objective, in_pool)
        header = {
            "format": FORMAT,
            "mechanism": self.stated(count),
            "directions": self.args.directions,
            "steps": self.args.max_steps,
        }
        journal = Journal.create(path / "journal.jsonl", {})
        transcript = Transcript.create(path / "transcript.jsonl", header)
        stated = self.stated(count)
        state = RunState(self._build(self.args, stated, membership, secret, units=count), journal, transcript)
        Loop(objective, self._weights, state, schedule=Schedule.of(self.args)).run()  # type: ignore[arg-type]
        return self._trial(journal.entries, transcript.y, objective, membership, in_pool, secret)

    def _trial(self, entries: Any, y: Any, objective: "_Pool", members: Any, in_pool: Bools, secret: Path) -> Trial:
        signs = inside = number = None
        if members is not None:
            packed = [[np.frombuffer(bytes.fromhex(text), np.uint8) for text in entry["signs"]] for entry in entries]
            bits = np.unpackbits(np.array(packed), axis=-1, count=members.shape[1])
            signs = np.where(bits > 0, 1, -1).astype(np.int8)
            number = _number(secret, members.shape[1])
            inside = np.zeros(self.units, dtype=bool)
            inside[in_pool] = members[:, number]
        return Trial(
            y=np.array(y, dtype=np.float64),
            signs=signs,
            noise=np.array([[float(value) for value in entry["noise"]] for entry in entries]),
            output=np.array([entry["output"] or entry["y"] for entry in entries], dtype=np.float64),
            beta=np.array([entry["beta"] for entry in entries], dtype=np.float64),
            **self._sums(objective),
            sampled=np.stack(objective.sampled),
            inside=inside,
            secret=number,
            derivatives=np.stack(objective.measured),
            weights=self._losses.flat(),
            losses=self._losses.values(),
        )

    def _sums(self, objective: "_Pool") -> dict[str, Floats]:
        """`sums` and `stopped` of a trial."""
        none = np.empty((0, 0))
        if not spec_of(self.args.mechanism.name).is_dp:
            return {"sums": none, "stopped": none}
        shares = clipped_shares(self.args, np.stack(objective.measured))  # (T, K, N)
        shares = shares * np.stack(objective.sampled)[:, None, :]
        if not self.args.mechanism.individual:
            return {"sums": shares.sum(axis=2), "stopped": none}
        stated = self.stated(self.units)
        spent = np.cumsum(np.square(shares).reshape(-1, self.units), axis=0) * stated["eps0"] ** 2 / 8
        goes_on = spent.reshape(shares.shape) <= stated["rho"]  # a unit contributes until it has spent its share
        return {"sums": (shares * goes_on).sum(axis=2), "stopped": (shares * ~goes_on).sum(axis=2)}


class _Pool:
    """The objective of the units in the pool; keeps the derivatives of all units, and each step's units."""

    def __init__(self, objective: Any, in_pool: Bools) -> None:
        self._objective, self._in_pool = objective, in_pool
        self.scorer, self.units = objective.scorer, int(in_pool.sum())
        self.measured: list[Floats] = []
        self.sampled: list[Bools] = []

    def derivatives(self, weights: Any, step: int, directions: int, unit_indices: Any = None) -> Derivatives:
        every_unit = self._objective.derivatives(weights, step, directions)
        self.measured.append(every_unit.values.T.copy())
        drawn = np.zeros_like(self._in_pool)
        pool = np.flatnonzero(self._in_pool)
        drawn[pool if unit_indices is None else pool[unit_indices]] = True
        self.sampled.append(drawn)
        values = every_unit.values[self._in_pool]
        values = values if unit_indices is None else values[unit_indices]
        return replace(every_unit, values=values, unit_indices=unit_indices)


def _number(path: Path, subsets: int) -> int:
    """The index of the candidate that a secret of this simulation selects."""
    secret = open_secret(path)
    return next(m for m in range(subsets) if secret.signs_of(np.where(np.arange(subsets) == m, 1, -1)) == 1)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory for runs, in memory if the system has /dev/shm."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="paczero-audit-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)
