"""Repeats the procedure with fresh secrets and attacks it: compares the share of right guesses with its bound.

    result = rerun(settings_of(header), Path("runs/demo/private/audit"), runs=300)
    [attack.comparison.exceeded for attack in result.attacks]
    # [False, False, False, False, False]

Each re-run is a whole training of the small model (`simulation`) under the audited run's mechanism. Its secret and
coins come from the operating system. Its outcome is one file, so an interrupted audit can continue. The targets of the
attacks are fixed in advance: the half of unit 0, S* itself, all units' halves. Trials are independent, so the intervals
are exact. Attacks believe the journal's noise; `channel_tests` and `information` test the released values against it.
The bound on S* is kl(p ‖ 1/M) <= B; that on a unit's half, kl(p ‖ 1/2) <= B, is the case M = 2.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import paczero
from paczero.audit.arrays import Bools, Floats
from paczero.audit.attacks import bayes, features, half_guesses, trained
from paczero.audit.channel_tests import ChannelTest, channel_tests
from paczero.audit.information import InformationEstimate, estimate
from paczero.audit.intervals import Comparison, compare, compare_shares
from paczero.audit.simulation import UNITS, Progress, Simulation, Trial, scratch
from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.registry import spec_of
from paczero.utils.io import canonical, owners_directory, write_whole

GOOD, ALIKE = 0.95, 19  # the records agree so well that all candidates agree in half of the releases or more
_UNIT = 0  # the unit whose half is guessed; fixed in advance
CONFIDENCE = 0.999
_STORED = (
    "y",
    "signs",
    "noise",
    "output",
    "beta",
    "sums",
    "stopped",
    "sampled",
    "inside",
    "secret",
    "weights",
    "losses",
)  # of a `Trial`
_OF_CANDIDATES = ("signs", "inside", "secret")  # absent where there are none


@dataclass(frozen=True)
class Attack:
    """The success of one attack.

    Attributes:
        name: of the attack.
        title: the name as the page shows it.
        meaning: its method, in a sentence.
        prior: success of a blind guess.
        comparison: the success and its bound.
    """

    name: str
    title: str
    meaning: str
    prior: float
    comparison: Comparison


@dataclass(frozen=True)
class RerunsResult:
    """All attacks on the re-runs of one mechanism.

    Attributes:
        mechanism, family: of the re-runs.
        budget: B, nats; None if nothing is promised.
        subsets, units, steps, directions: M, N, T and K of each re-run.
        runs: number of re-runs.
        unanimity: share of releases on which all candidates agree.
        confidence: of the decision, before the correction for the number of attacks.
        look: how often re-runs of these settings were judged with another number of them, this time included. Look j
            may err with probability 1/(j(j + 1)) of the total, so re-runs may be added later.
        attacks: each attack's success; none without candidates.
        channel: tests of the released values' law.
        information: what the re-runs tell about S*; None without a budget.
    """

    mechanism: str
    family: str
    budget: float | None
    subsets: int
    units: int
    steps: int
    directions: int
    runs: int
    unanimity: float
    confidence: float
    look: int
    attacks: tuple[Attack, ...]
    channel: tuple[ChannelTest, ...]
    information: InformationEstimate | None


def rerun(
    args: PACZeroConfig,
    directory: Path,
    *,
    runs: int = 300,
    units: int = UNITS,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> RerunsResult:
    """Repeats the procedure `runs` times, and attacks the outcomes.

    Args:
        args: `simulation.settings_of` the audited run, or `simulation.settings`.
        directory: keeps the outcomes (created with 0700); outcomes of the same settings and version are reused.
        runs: number of re-runs, 40 or more.
        units: N of the small pool.
        seed: public, of model, records and candidates.
        progress: called with (name, done, total).

    Raises:
        PACZeroError: the mechanism has neither candidates nor differential privacy, there are too few runs,
            or the directory cannot be used.
    """
    spec = spec_of(args.mechanism.name)
    if not (spec.candidates or spec.is_dp):
        raise PACZeroError(f"mechanism: {spec.name!r} promises nothing that re-runs can test")
    if runs < 40:
        raise PACZeroError(f"reruns: {runs} was given; expected 40 or more, or the intervals are too wide")
    simulation = Simulation(args, units=units, good=GOOD, alike=ALIKE, seed=seed)
    owners_directory("audit", str(directory))
    outcomes = owners_directory("audit", str(directory / f"reruns-{_key(args, units, seed)}"))
    paths = [outcomes / f"{number}.npz" for number in range(runs)]
    with scratch() as root:
        for number, path in enumerate(paths):
            if not path.exists():
                progress("re-runs", number, runs)
                _write(path, simulation.run(root / str(number)))
    progress("attacks", 0, 1)
    look = _look(outcomes.with_suffix(".json"), runs)
    return attack([_read(path) for path in paths], simulation, seed=seed, look=look)


def attack(trials: Sequence[Trial], simulation: Simulation, *, seed: int = 0, look: int = 1) -> RerunsResult:
    """All attacks and tests on these runs of one simulation."""
    chosen, spec = simulation.args.mechanism, spec_of(simulation.args.mechanism.name)
    budget = spec.budget(chosen.budget)
    gaussian = spec.has_budget and chosen.channel == "gaussian"
    signs = np.array([trial.signs for trial in trials]) if spec.candidates else np.empty((0, 1))
    return RerunsResult(
        mechanism=chosen.name,
        family=chosen.family,
        budget=budget,
        subsets=chosen.subsets,
        units=simulation.units,
        steps=simulation.args.max_steps,
        directions=simulation.args.directions,
        runs=len(trials),
        unanimity=float(np.mean(np.abs(signs.mean(axis=-1)) == 1)) if len(signs) else 0.0,
        confidence=CONFIDENCE,
        look=look,
        attacks=_attacks(trials, simulation, budget, seed, look) if spec.candidates else (),
        channel=channel_tests(trials, simulation, look=look),
        information=estimate(trials, budget, gaussian=gaussian, look=look)
        if spec.candidates and budget is not None
        else None,
    )


def _attacks(
    trials: Sequence[Trial], simulation: Simulation, budget: float | None, seed: int, look: int
) -> tuple[Attack, ...]:
    chosen, members = simulation.args.mechanism, simulation.membership
    assert members is not None
    confidence = 1 - (1 - CONFIDENCE) / (look * (look + 1))
    gaussian = spec_of(chosen.name).has_budget and chosen.channel == "gaussian"
    coins = np.random.default_rng([seed, 0xC0]).random((len(trials), simulation.units + 1))
    beliefs = [bayes(trial, gaussian=gaussian) for trial in trials]
    inside = np.array([trial.inside for trial in trials])
    guesses = np.array([half_guesses(b, members, c[:-1] < 0.5) for b, c in zip(beliefs, coins, strict=True)])
    likeliest = [_likeliest(belief, coin[-1]) for belief, coin in zip(beliefs, coins, strict=True)]
    rights: list[tuple[str, float, Bools | None]] = [
        ("bayes-unit", 0.5, guesses[:, _UNIT] == inside[:, _UNIT]),
        ("bayes-secret", 1 / chosen.subsets, np.array([n == t.secret for n, t in zip(likeliest, trials, strict=True)])),
        ("bayes-units", 0.5, None),
        ("trained-model", 0.5, _learned(trials, inside[:, _UNIT], "model")),
        ("trained-transcript", 0.5, _learned(trials, inside[:, _UNIT], "transcript")),
    ]
    found = []
    for name, prior, right in rights:
        bound = 1.0 if budget is None else posterior_success(budget, prior)
        if right is None:
            result = compare_shares(bound, (guesses == inside).mean(axis=1), len(rights), confidence)
        else:
            result = compare(bound, int(np.count_nonzero(right)), len(right), len(rights), confidence)
        found.append(Attack(name, *_WORDS[name], prior, result))
    return tuple(found)


def _look(path: Path, runs: int) -> int:
    """Which look this is; the numbers of runs that were looked at are kept, and the same number is the same look."""
    try:
        seen = [int(number) for number in json.loads(path.read_text())] if path.exists() else []
    except (OSError, ValueError, TypeError) as error:
        raise PACZeroError(
            f"{str(path)!r}: not a list of numbers; delete it together with the folder beside it, of the same name"
        ) from error
    if runs not in seen:
        seen.append(runs)
        write_whole(path, canonical(seen) + b"\n", mode=0o600)
    return seen.index(runs) + 1


_WORDS = {
    "bayes-unit": (
        "Best attacker: one unit's half",
        "knows everything but the secret, and computes the likelier half of one unit",
    ),
    "bayes-secret": (
        "Best attacker: the secret candidate itself",
        "names the one candidate of all M that the release makes likeliest",
    ),
    "bayes-units": (
        "Best attacker: every unit's half",
        "guesses the half of each unit; the share of right ones, averaged over runs",
    ),
    "trained-model": (
        "Trained attacker: weights and losses",
        "learned on half of the re-runs to tell one unit's half from the final weights and every record's loss",
    ),
    "trained-transcript": (
        "Trained attacker: released values",
        "learned on half of the re-runs to tell one unit's half from the released values",
    ),
}


def _likeliest(belief: Floats, coin: float) -> int:
    """The likeliest candidate; the coin in [0, 1) breaks ties."""
    ties = np.flatnonzero(belief > belief.max() * (1 - 1e-12))
    return int(ties[int(coin * len(ties))])


def _learned(trials: Sequence[Trial], inside: Bools, source: str) -> Bools:
    """Whether each guess of the trained attacker about the second half of the runs is right."""
    half, seen = len(trials) // 2, [features(trial, source=source) for trial in trials]
    return np.asarray(trained(seen[:half], inside[:half], seen[half:]) == inside[half:])


def _key(args: PACZeroConfig, units: int, seed: int) -> str:
    """A hash of everything that the outcomes depend on."""
    chosen = {name: value for name, value in asdict(args).items() if name != "output_dir"}
    records = {"units": units, "good": GOOD, "alike": ALIKE}
    settings = {"args": chosen, **records, "seed": seed, "paczero": paczero.__version__, "stored": _STORED}
    return hashlib.sha256(canonical(json.loads(json.dumps(settings)))).hexdigest()[:16]


def _write(path: Path, trial: Trial) -> None:
    """Writes one outcome, with the secret of this re-run only."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: value for name in _STORED if (value := getattr(trial, name)) is not None})
    write_whole(path, stream.getvalue(), mode=0o600)


def _read(path: Path) -> Trial:
    """An outcome, without the derivatives.

    Raises:
        PACZeroError: the file is damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            values: dict[str, Any] = {
                name: stored[name] for name in _STORED if name in stored or name not in _OF_CANDIDATES
            }
            values = dict.fromkeys(_OF_CANDIDATES) | values
            values["secret"] = None if values["secret"] is None else int(values["secret"])
    except Exception as error:  # zipfile and numpy raise many kinds for damaged files
        raise PACZeroError(f"{str(path)!r}: no re-run can be read from it; delete it to repeat the re-run") from error
    return Trial(**values, derivatives=np.empty((0, 0, 0)))
