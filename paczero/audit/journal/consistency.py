"""Checks a run's other files against its journal: candidates, transcripts, settings, statement, noise.

Each check passes its findings to `note`. `notes` lists the figures that cannot be checked.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from reprlib import repr as shown  # short, whatever a file holds
from typing import Any

from paczero.audit.arrays import Bools
from paczero.audit.journal.information import epsilon_bound, gaussian_delta, mp, sign_delta, success_bound
from paczero.audit.journal.reader import (
    PRIVATE,
    Setting,
    candidates_digest,
    read_document,
    read_setting,
    transcript_steps,
)
from paczero.run_directory import RunDirectory

Note = Callable[[int | None, int | None, str, object, object], None]

_LONGEST_SETTINGS = 2**20  # bytes

_MOST_SIGNS = 10**7  # more take minutes

_NEARLY = 1e-9  # relative: how far a stated p or ε may lie above the exact one

NOTHING = ("none", "full-sign", "half-sign")  # mechanisms that promise nothing

_SETTINGS = ("name", "clip", "channel", "allocation", "epsilon", "sampling")


def check_candidates(membership: Bools, stated: Any, note: Note) -> None:
    """Checks that the candidates are the journal's, with each unit in exactly half of them.

    Args:
        membership: (N, M).
        stated: SHA-256 in the journal's header.
        note: receives the findings.
    """
    digest = candidates_digest(membership)
    if digest != stated:
        note(None, None, "candidates", f"the journal has another SHA-256, {shown(stated)}", digest)
    counts, half = membership.sum(axis=1), membership.shape[1] // 2
    if membership.shape[1] % 2 or (counts != half).any():
        wrong = int((counts != half).argmax())
        note(None, None, "candidates", f"unit {wrong} is in {int(counts[wrong])} of them", f"{half}, half of them")


def check_transcripts(run: RunDirectory, setting: Setting, released: Sequence[tuple[Any, ...]], note: Note) -> None:
    """Checks that the published and the staged transcript hold the journal's releases.

    Args:
        run: the run's directory.
        setting: the run's header.
        released: y of each step of the journal.
        note: receives the findings.
    """
    for path in (run.release / "transcript.jsonl", run.staged_transcript):
        if not path.is_file():
            continue
        name = path.relative_to(run.root).as_posix()
        if read_setting(path).digest != setting.digest:
            note(None, None, "transcript", f"{name} has another header", "the header of the journal's run")
        count = 0
        for step, (t, y) in enumerate(transcript_steps(path, setting)):
            count += 1
            if step >= len(released):
                continue
            expected = list(released[step])
            if t != step or y != expected or list(map(type, y)) != list(map(type, expected)):
                text = f"{name} has step {shown(t)}, y {shown(y)}"
                note(step, None, "transcript", text, f"y {shown(expected)}")
        # The journal is written first, so the transcript of a stopped run may lack the last step.
        fewest = len(released) - (0 if run.finished else 1)
        if not fewest <= count <= len(released):
            note(None, None, "transcript", f"{name} has {count} steps", f"the journal's {len(released)}")


def check_settings(path: Path, setting: Setting, note: Note) -> None:
    """Checks that config.yaml names the journal's mechanism."""
    import yaml

    try:
        with open(path, "rb") as stream:
            content = yaml.safe_load(stream.read(_LONGEST_SETTINGS))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("mechanism"), dict):
        note(None, None, "settings", "config.yaml holds no settings of a run", "the settings of this run")
        return
    chosen = {"sampling": content["mechanism"].get("sampling_prob"), **content["mechanism"]}
    written = {
        "max_steps": content.get("max_steps", content.get("steps")),  # "steps" in runs of the first version
        **{key: content.get(key) for key in ("directions", "test_seed")},
        **{f"mechanism.{key}": value for key, value in chosen.items()},
    }
    expected = {
        "max_steps": setting.steps,
        "directions": setting.directions,
        "test_seed": setting.header.get("test_seed"),
        **{f"mechanism.{key}": setting.header.get(key) for key in ("subsets", "family")},
        **{f"mechanism.{key}": setting.mechanism[key] for key in _SETTINGS if key in setting.mechanism},
        "mechanism.individual": setting.mechanism.get("individual", False),
        **({"mechanism.budget": setting.budget} if setting.name == "mi" else {}),
    }
    for key, value in expected.items():
        found = written.get(key)
        left_out = found is None and key in ("directions", "mechanism.sampling", "mechanism.individual")
        measured = key == "mechanism.clip" and found == "auto" and setting.name in PRIVATE  # on the dev set
        if found != value and not left_out and not measured:
            text = f"config.yaml has {key}: {shown(found)}"
            note(None, None, "settings", text, f"{value!r}, as in the transcript's header")


def promised(setting: Setting) -> Any:
    """p as a number of 50 digits, from the header alone: 1 if nothing is promised."""
    if setting.void or setting.name in NOTHING:
        return mp.mpf(1)
    if setting.name in PRIVATE:
        if "posterior_success" in setting.mechanism:  # compared with the noise by `check_noise`
            return mp.mpf(setting.mechanism["posterior_success"])
        epsilon, delta = mp.mpf(setting.mechanism["epsilon"]), mp.mpf(setting.mechanism["delta"])
        return min((mp.exp(epsilon) + delta) / (1 + mp.exp(epsilon)), mp.mpf(1))
    return success_bound(total(setting))


def total(setting: Setting) -> Any:
    """The sum of the budgets of this run and of earlier ones with the same secret, nats."""
    return mp.fsum([*map(mp.mpf, setting.prior_budgets), mp.mpf(setting.budget or 0.0)])


def check_statement(path: Path, setting: Setting, steps_run: int, note: Note) -> float | None:
    """Checks that the statement's numbers are those of the run.

    Returns:
        The stated p of the mechanism's promise; None if it is no number.
    """
    stated = read_document(path)
    expected: dict[str, Any] = {
        "mechanism": setting.mechanism,
        "budget": setting.budget,
        "subsets": setting.header.get("subsets"),
        "family": setting.header.get("family"),
        "steps": setting.steps,
        "steps_run": steps_run,
        "directions": setting.directions,
        "units": setting.units,
    }
    if stated.get("format") == "paczero-privacy/1":
        expected["void"], bounds = setting.void, _bounds_of_version_1(setting)
    else:
        bounds = _bounds(setting)
        expected |= {key: setting.header.get(key) for key in ("test_seed", "secret_id")}
        expected["prior_budgets"] = list(setting.prior_budgets)
        for part in ("half", "pool"):
            values = stated.get(part)
            stated |= {f"{part}.{key}": value for key, value in values.items()} if isinstance(values, dict) else {}
    for key, value in expected.items():
        if stated.get(key) != value:
            note(None, None, "statement", f"{key} is {shown(stated.get(key))}", repr(value))
    for key, exact in bounds.items():
        _check_bound(key, stated.get(key), exact, note)
    if setting.name in NOTHING:
        return 1.0
    protected = "pool" if setting.name in PRIVATE else "half"
    found = stated.get("posterior_success" if "posterior_success" in bounds else f"{protected}.posterior_success")
    return float(found) if isinstance(found, int | float) and 0 <= found <= 1 else None


def _bounds(setting: Setting) -> dict[str, Any]:
    """The bounds of version 2, to 50 digits: about the secret half, and about membership in the pool."""
    nats = None if setting.void or setting.name == "half-sign" else total(setting)
    p = mp.mpf(1) if nats is None else success_bound(nats)
    pool: tuple[Any, Any, Any] = (None, None, mp.mpf(1))
    if setting.name == "coin" and not setting.void:
        pool = (mp.mpf(0), mp.mpf(0), mp.mpf(1) / 2)
    elif setting.name in PRIVATE and promised(setting) < 1:
        pool = (mp.mpf(setting.mechanism["epsilon"]), mp.mpf(setting.mechanism["delta"]), promised(setting))
    return {
        "half.nats": nats,
        "half.posterior_success": p,
        "half.equivalent_epsilon": None if nats is None or p == 1 else epsilon_bound(nats),
        **dict(zip(("pool.epsilon", "pool.delta", "pool.posterior_success"), pool, strict=True)),
    }


def _bounds_of_version_1(setting: Setting) -> dict[str, Any]:
    """The bounds of version 1: p and ε of the one promise of the mechanism."""
    p, epsilon = promised(setting), None
    if p < 1:
        private = setting.name in PRIVATE
        epsilon = mp.mpf(setting.mechanism["epsilon"]) if private else epsilon_bound(mp.mpf(setting.budget or 0.0))
    return {"posterior_success": p, "epsilon": epsilon}


def _check_bound(key: str, found: Any, exact: Any, note: Note) -> None:
    """Accepts a bound that rounding put above the exact one, none below it; None if nothing is promised."""
    if exact is None:
        fine = found is None
    else:
        fine = type(found) in (int, float) and exact <= mp.mpf(found) <= exact * (1 + _NEARLY)
    if not fine:
        note(None, None, "statement", f"{key} is {shown(found)}", "none" if exact is None else mp.nstr(exact, 17))


def check_noise(setting: Setting, note: Note, notes: list[str]) -> float | None:
    """Checks that the noise allows the stated (ε, δ) and p.

    Gaussian releases of the whole pool have a closed form: T of them (of a `dp-sign` of version 0.1: T·K), with noise σ
    for a sensitivity of 1, are one with a sensitivity of √T. Random signs have a lower bound, which is near.

    Returns:
        δ at the stated ε, at least.
    """
    stated = setting.mechanism
    rate, epsilon, delta = stated["sampling"], stated["epsilon"], stated["delta"]
    count = setting.steps * (setting.directions if setting.name == "dp-sign" else 1)
    if "eps0" in stated and count <= _MOST_SIGNS:
        # A unit with an account spends its share ρ at most; here evenly, on all bits.
        most = math.sqrt(8 * stated["rho"] / count) if "rho" in stated else math.inf
        found = [sign_delta(value, min(stated["eps0"], most), count, rate) for value in (epsilon, 0.0)]
    elif "sigma" in stated and rate == 1.0:
        mean = mp.sqrt(count) / mp.mpf(stated["sigma"])
        found = [gaussian_delta(mp.mpf(value), mean) for value in (epsilon, 0.0)]
    else:
        notes.append(
            "ε of this run needs a numerical composition, which is not recomputed; the noise is taken from the header."
        )
        return None
    if found[0] > delta:
        note(None, None, "epsilon", f"δ = {delta!r} at ε = {epsilon!r}", f"δ = {mp.nstr(mp.mpf(found[0]), 17)}")
    p = mp.mpf(1) / 2 + mp.mpf(found[1]) / 2
    if "posterior_success" in stated and p > stated["posterior_success"]:
        note(None, None, "p", repr(stated["posterior_success"]), f"{mp.nstr(p, 17)} or more")
    return float(found[0])
