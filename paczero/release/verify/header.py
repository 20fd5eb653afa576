"""Checks that a run can have written a transcript's header: every key, its type, its range, and their combination.

Its settings pass the same checks as those of `paczero train`.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from paczero.config import MINIMUM_UNITS, MechanismConfig, PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.accounting import epsilon_of, success_of
from paczero.mechanism.gaussian_accounting import Gaussians, MissingLibrary
from paczero.mechanism.individual import Share
from paczero.mechanism.registry import FOLLOWING, spec_of
from paczero.mechanism.transcript import FORMAT
from paczero.models.adapters import ADAPTER_LAW

_FLOATS = ("float32", "float16", "bfloat16")

_DEVICES = ("cpu", "cuda", "mps", "xpu", "npu", "hpu", "mlu", "musa", "sdaa", "neuron")

_KINDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("name", "channel", "allocation"), (str, "a word")),
    "individual": (bool, "true, or no such key"),
}

_ROUNDING = 1e-12
_ACCOUNTANTS = 1 + 1e-3  # versions of the library round to different grids


def _is_hash(value: Any) -> bool:
    return type(value) is str and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_id(value: Any) -> bool:
    return type(value) is str and re.fullmatch("[0-9a-f]{32}", value) is not None


def _is_budget(value: Any) -> bool:
    return _fits(value, float) and value >= 0


def _up_to(highest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 1 <= value <= highest


def _are_parameters(value: Any) -> bool:
    """Whether a value is [name, type, shape] of every trained parameter, in the order of names."""
    rows_fit = type(value) is list and all(type(row) is list and len(row) == 3 for row in value)
    if not rows_fit or not all(_fits(name, str) and _fits(kind, _FLOATS) for name, kind, _ in value):
        return False
    names = [name for name, _, _ in value]
    sizes_fit = all(_fits(shape, [int]) and len(shape) <= 8 and min(shape, default=0) >= 0 for _, _, shape in value)
    return bool(names) and names == sorted(set(names)) and sizes_fit


# The form of each key; see `_fits`. `_settings` checks further limits of the settings.
_FORMS: dict[str, Any] = {
    "adapter": (None, {"law": ADAPTER_LAW, "seed": int, "sha256": _is_hash}),
    "average": float,
    "base": {"dtype": _FLOATS, "id": str, "sha256": _is_hash},
    "budget": (None, float),
    "device_kind": _DEVICES,
    "direction_law": str,
    "directions": _up_to(10**5),
    "family": str,
    "format": FORMAT,
    "mechanism": dict,
    "mu": float,
    "parameters": _are_parameters,
    "peft": (None, dict),
    "pilots": (None, _up_to(10**7)),
    "prior_budgets": [_is_budget],
    "restore": str,
    "schedule": {"learning_rate": float, "name": str},
    "secret_id": _is_id,
    "seed": int,
    "steps": _up_to(10**8),
    "subsets": int,
    "test_seed": (None, int),
    "threshold": ("none", "median"),
    "train_layers": (None, [int]),
    "units": _up_to(2**22),
    "units_per_step": (None, _up_to(2**22)),
}


def _fits(value: Any, form: Any) -> bool:
    """Whether a JSON value has a form.

    The form is a type (no bool is an int), a test, [form] for a list, {key: form} for an object with these keys, a
    tuple of forms for any of them, or the value itself.
    """
    if isinstance(form, tuple):
        return any(_fits(value, one) for one in form)
    if isinstance(form, list):
        return type(value) is list and all(_fits(item, form[0]) for item in value)
    if isinstance(form, dict):
        return type(value) is dict and value.keys() == form.keys() and all(_fits(value[key], form[key]) for key in form)
    if form is float:
        return type(value) is float and math.isfinite(value)
    if isinstance(form, type):
        return type(value) is form
    return bool(form(value)) if callable(form) else type(value) is type(form) and value == form


def check_header(header: Mapping[str, Any], where: str) -> None:
    """Checks one header.

    Raises:
        IntegrityError: a key or a combination is not valid; the message names it.
    """
    forms = _FORMS
    if "secret_id" not in header:  # of version 0.1
        forms = {key: form for key, form in _FORMS.items() if key not in ("secret_id", "prior_budgets")}
    _check_keys(header, forms, where)
    for key, form in forms.items():
        if not _fits(header[key], form):
            raise IntegrityError(f"{where}: {key} {shown(header[key])} is none that a run has")
    _check_together(header, where)


def _check_keys(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    for problem, keys in (("is missing", expected.keys() - found.keys()), ("is unknown", found.keys() - expected)):
        if keys:
            raise IntegrityError(f"{where}: key {min(keys)!r} {problem}")


def _check_together(header: Mapping[str, Any], where: str) -> None:
    """Checks the keys against each other."""
    if (header["adapter"] is None) != (header["peft"] is None):
        raise IntegrityError(f"{where}: it speaks of an adapter or of peft, but not of both")
    if header["adapter"] is not None and header["adapter"]["seed"] != header["seed"]:
        raise IntegrityError(f"{where}: adapter.seed {header['adapter']['seed']}; expected seed {header['seed']}")
    if not MINIMUM_UNITS <= (header["units_per_step"] or MINIMUM_UNITS) <= header["units"]:
        units = f"units {header['units']} with units_per_step {header['units_per_step']}"
        raise IntegrityError(f"{where}: {units}; a pool has {MINIMUM_UNITS} or more, and a step none beyond them")
    if (header["pilots"] is None) != (header["family"] != "balanced"):
        raise IntegrityError(f"{where}: pilots {header['pilots']} with family {header['family']!r}")
    try:
        args = _settings(header)
        kind = spec_of(args.mechanism.name)
        keys = {"name", "clip"}
        keys |= {"channel", "allocation"} if kind.has_budget else set()
        if kind.noise is not None:
            keys |= {"epsilon", "delta", "sampling"}
            keys |= {"sigma"} if _is_of_version_01(header) else {kind.noise, "posterior_success"}
            keys |= {"individual", "rho"} if args.mechanism.individual else set()
        _check_keys(header["mechanism"], dict.fromkeys(keys), f"{where}: mechanism")
        expected = kind.budget(args.mechanism.budget)
    except PACZeroError as error:
        raise IntegrityError(f"{where}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise IntegrityError(f"{where}: its settings are none of a run: {' '.join(str(error).split())}") from error
    if kind.is_dp and not _is_of_version_01(header) and any(dtype != "float32" for _, dtype, _ in header["parameters"]):
        raise IntegrityError(f"{where}: mechanism {kind.name} trained weights in half precision; expected float32")
    _check_budgets(header, expected, where)
    for name in FOLLOWING:
        value = header["mechanism"].get(name, 1.0)
        least = 0.5 if name == "posterior_success" else 0.0
        if type(value) is not float or not (math.isfinite(value) and value > 0 and value >= least):
            raise IntegrityError(f"{where}: mechanism.{name} {shown(value)}; expected a finite number above 0")


def _check_budgets(header: Mapping[str, Any], expected: float | None, where: str) -> None:
    """Checks the run's budget, and that only a mechanism that hides the half uses a secret again."""
    spec = spec_of(header["mechanism"]["name"])
    if header["budget"] != expected:
        raise IntegrityError(f"{where}: budget {header['budget']}; mechanism {spec.name} has {expected}")
    if header.get("prior_budgets") and spec.hides != "half":
        prior = shown(header["prior_budgets"])
        raise IntegrityError(f"{where}: prior_budgets {prior}; mechanism {spec.name} uses no secret again")


def _is_of_version_01(header: Mapping[str, Any]) -> bool:
    """Whether a differentially private run is of version 0.1: it states no p, and its `dp-sign` has Gaussian noise."""
    return "sigma" in header["mechanism"] and "posterior_success" not in header["mechanism"]


def _settings(header: Mapping[str, Any]) -> PACZeroConfig:
    """The header's settings, checked as those of any run.

    Raises:
        PACZeroError: no run can have them.
    """
    stated = {name: v for name, v in header["mechanism"].items() if name not in FOLLOWING}
    spec = spec_of(stated.get("name", ""))
    for name, value in stated.items():
        wanted, words = _KINDS.get(name, (float, "a number"))
        fine = type(value) is wanted or (name == "clip" and value is None)
        if not fine or value is False:
            raise PACZeroError(f"mechanism.{name} {shown(value)}; expected {words}")
    if "sampling" in stated:
        stated["sampling_prob"] = stated.pop("sampling")
    mechanism = MechanismConfig(
        **stated,
        subsets=header["subsets"],
        family=header["family"],
        **({} if header["pilots"] is None else {"pilots": header["pilots"]}),
        budget=header["budget"] if spec.has_budget else None,
    )
    return PACZeroConfig(
        mechanism=mechanism,
        force=True,  # a budget that promises nothing may be released; the statement says so
        max_steps=header["steps"],
        directions=header["directions"],
        learning_rate=header["schedule"]["learning_rate"],
        lr_scheduler_type=header["schedule"]["name"],
        mu=header["mu"],
        ema_decay=header["average"],
        seed=header["seed"],
        direction_law=header["direction_law"],
        restore=header["restore"],
        units_per_step=header["units_per_step"],
        test_seed=header["test_seed"],
        # Version 0.1 trained the differentially private mechanisms in half precision, too.
        dtype="float32" if _is_of_version_01(header) else header["base"]["dtype"],
        train_layers=header["train_layers"],
    )


def check_noise(header: Mapping[str, Any]) -> str | None:
    """Recomputes ε from the stated noise of a differentially private run.

    A release cannot show whether noise of that size was added.

    Returns:
        The result, in words; None for a run of another kind.

    Raises:
        IntegrityError: the noise is too small for the stated ε and δ, or is not valid.
    """
    stated, directions = header["mechanism"], header["directions"]
    spec = spec_of(stated["name"])
    if spec.noise is None:
        return None
    try:
        if _is_of_version_01(header):
            count = header["steps"] * (directions if spec.per_direction else 1)
            found, p = Gaussians(stated["sigma"], count, stated["sampling"]).epsilon(stated["delta"]), 0.0
        elif "rho" in stated:
            share = Share(stated["rho"])
            found, p = share.epsilon(stated["delta"]), share.success
        else:
            run = {"steps": header["steps"], "directions": directions, "sampling_prob": stated["sampling"]}
            found = epsilon_of(spec.name, stated[spec.noise], delta=stated["delta"], **run)
            p = success_of(spec.name, stated[spec.noise], **run)
    except MissingLibrary as error:
        return f"not accounted again ({error})"
    except PACZeroError as error:
        raise IntegrityError(f"transcript: its noise is none of a run: {error}") from error
    symbol, key = next((s, k) for s, k in (("ρ", "rho"), ("σ", "sigma"), ("ε₀", "eps0")) if k in stated)
    noise = f"{symbol} = {stated[key]:g}"
    for what, value, most, blind in (
        ("ε", found, stated["epsilon"], 0.0),
        ("p", p, stated.get("posterior_success", 1.0), 0.5),
    ):
        if value - blind > (most - blind) * _ACCOUNTANTS + _ROUNDING:
            raise IntegrityError(f"transcript: {noise} gives {what} = {value:.4g}, but {what} = {most:g} is stated")
    return f"{noise} gives ε = {found:.4g} of the stated {stated['epsilon']:g}, δ = {stated['delta']:.3g}"


def shown(value: Any) -> str:
    """A value from a release, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
