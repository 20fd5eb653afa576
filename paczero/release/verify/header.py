"""Checks that a run can have written a transcript's header: every key, its type, its range, and all together.

The settings in it go through the same checks as those of `paczero train`.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from paczero.config import MINIMUM_UNITS, MechanismConfig, PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.mechanism.transcript import FORMAT
from paczero.models.adapters import ADAPTER_LAW

_HASH = re.compile(r"[0-9a-f]{64}")

_TYPES = ("float32", "float16", "bfloat16")

_DEVICES = ("cpu", "cuda", "mps", "xpu", "npu", "hpu", "mlu", "musa", "sdaa", "neuron")

_LARGEST_SEED = 2**63 - 1

_ACCOUNTANTS = 1 + 1e-3  # another version of the library may round to another grid

Test = Callable[[Any], bool]


def _is(*kinds: type) -> Test:
    return lambda value: type(value) in kinds


def _whole(low: int, high: int) -> Test:
    return lambda value: type(value) is int and low <= value <= high


def _number(test: Callable[[float], bool]) -> Test:
    return lambda value: type(value) is float and math.isfinite(value) and test(value)


def _optional(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _one_of(*values: object) -> Test:
    return lambda value: type(value) is str and value in values


def _hash(value: Any) -> bool:
    return type(value) is str and _HASH.fullmatch(value) is not None


def _is_shape(value: Any) -> bool:
    return type(value) is list and len(value) <= 8 and all(map(_whole(0, 2**40), value))


def _parameters(value: Any) -> bool:
    if type(value) is not list or not value:
        return False
    if not all(type(row) is list and len(row) == 3 for row in value):
        return False
    names = [row[0] for row in value]
    fine = all(type(name) is str and type(kind) is str and kind in _TYPES for name, kind, _ in value)
    return fine and names == sorted(set(names)) and all(_is_shape(shape) for _, _, shape in value)


def _layers(value: Any) -> bool:
    return type(value) is list and all(map(_whole(-(10**6), 10**6), value))


_ADAPTER = {"law": _one_of(ADAPTER_LAW), "seed": _whole(0, _LARGEST_SEED), "sha256": _hash}

_BASE = {"dtype": _one_of(*_TYPES), "id": _is(str), "sha256": _hash}

_SCHEDULE = {"learning_rate": _number(lambda value: value > 0), "name": _one_of("linear", "constant")}

_KEYS: dict[str, tuple[Test | dict[str, Test], str]] = {
    "adapter": (_ADAPTER, "null, or law, seed and SHA-256 of the initial adapter"),
    "average": (_number(lambda value: 0 <= value < 1), "a number in [0, 1)"),
    "base": (_BASE, "type, id and SHA-256 of the base model"),
    "budget": (_optional(_number(lambda value: value >= 0)), "nats, or null"),
    "device_kind": (_one_of(*_DEVICES), "a kind of device"),
    "direction_law": (_one_of("rademacher", "gaussian"), "rademacher or gaussian"),
    "directions": (_whole(1, 10**5), "a whole number of 1 or more"),
    "family": (_one_of("random", "paired", "balanced"), "random, paired or balanced"),
    "format": (_one_of(FORMAT), FORMAT),
    "mechanism": (_is(dict), "the mechanism's settings"),
    "mu": (_number(lambda value: value > 0), "a number above 0"),
    "parameters": (_parameters, "[name, type, shape] of every trained parameter, in the order of names"),
    "peft": (_optional(_is(dict)), "PEFT's settings, or null"),
    "pilots": (_optional(_whole(1, 10**7)), "a whole number of 1 or more, or null"),
    "restore": (_one_of("copy", "arithmetic"), "copy or arithmetic"),
    "schedule": (_SCHEDULE, "name and learning rate"),
    "seed": (_whole(0, _LARGEST_SEED), "a whole number of 0 or more"),
    "steps": (_whole(1, 10**8), "a whole number of 1 or more"),
    "subsets": (_whole(2, 2**16), "an even number of candidates"),
    "test_seed": (_optional(_is(int)), "a whole number, or null"),
    "threshold": (_one_of("none", "median"), "none or median"),
    "train_layers": (_optional(_layers), "layers' numbers, or null"),
    "units": (_whole(MINIMUM_UNITS, 2**22), f"{MINIMUM_UNITS} units to 2^22"),
    "units_per_step": (_optional(_whole(1, 2**22)), "a whole number of 1 or more, or null"),
}


def check_header(header: Mapping[str, Any], where: str) -> None:
    """Checks one header.

    Raises:
        IntegrityError: names the key, what it says and what a run would say.
    """
    _check_keys(header, {key: test for key, (test, _) in _KEYS.items()}, where)
    for key, (test, expected) in _KEYS.items():
        value = header[key]
        if isinstance(test, dict):
            if key == "adapter" and value is None:
                continue
            if type(value) is not dict:
                raise IntegrityError(f"{where}: {key} {_shown(value)}; expected {expected}")
            _check_keys(value, test, f"{where}: {key}")
            for inner, inner_test in test.items():
                if not inner_test(value[inner]):
                    raise IntegrityError(f"{where}: {key}.{inner} {_shown(value[inner])} is none that a run has")
        elif not test(value):
            raise IntegrityError(f"{where}: {key} {_shown(value)}; expected {expected}")
    _check_together(header, where)


def _check_keys(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    for problem, keys in (("is missing", expected.keys() - found.keys()), ("is unknown", found.keys() - expected)):
        if keys:
            raise IntegrityError(f"{where}: key {min(keys)!r} {problem}")


def _check_together(header: Mapping[str, Any], where: str) -> None:
    """What follows from other keys."""
    if (header["adapter"] is None) != (header["peft"] is None):
        raise IntegrityError(f"{where}: it speaks of an adapter or of peft, but not of both")
    if header["adapter"] is not None and header["adapter"]["seed"] != header["seed"]:
        raise IntegrityError(f"{where}: adapter.seed {header['adapter']['seed']}; expected seed {header['seed']}")
    if (header["units_per_step"] or 1) > header["units"]:
        raise IntegrityError(f"{where}: units_per_step {header['units_per_step']}; there are {header['units']} units")
    if (header["pilots"] is None) != (header["family"] != "balanced"):
        raise IntegrityError(f"{where}: pilots {header['pilots']} with family {header['family']!r}")
    try:
        args = _settings(header)
        kind = spec_of(args.mechanism.name)
        keys = {"name", "clip"}
        keys |= {"channel", "allocation"} if kind.has_budget else set()
        keys |= {"epsilon", "delta", "sampling", "sigma"} if kind.is_dp else set()
        _check_keys(header["mechanism"], dict.fromkeys(keys), f"{where}: mechanism")
        expected = kind.budget(args.mechanism.budget)
        sigma = header["mechanism"].get("sigma", 1.0)
    except PACZeroError as error:
        raise IntegrityError(f"{where}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise IntegrityError(f"{where}: its settings are none of a run: {' '.join(str(error).split())}") from error
    if header["budget"] != expected:
        raise IntegrityError(f"{where}: budget {header['budget']}; mechanism {kind.name} has {expected}")
    if type(sigma) is not float or not (math.isfinite(sigma) and sigma > 0):
        raise IntegrityError(f"{where}: mechanism.sigma {_shown(sigma)}; expected a finite number above 0")


def _settings(header: Mapping[str, Any]) -> PACZeroConfig:
    """The settings that the header names, through the checks of every run.

    Raises:
        PACZeroError: they are none that a run can have.
    """
    stated = dict(header["mechanism"])
    stated.pop("sigma", None)
    spec = spec_of(stated.get("name", ""))
    if spec.is_dp and not spec.sampled and stated.pop("sampling", None) != 1.0:
        raise PACZeroError(f"mechanism.sampling: {spec.name} takes the whole pool; expected 1.0")
    for name, value in stated.items():
        wanted = str if name in ("name", "channel", "allocation") else float
        if type(value) is not wanted and not (name == "clip" and value is None):
            raise PACZeroError(
                f"mechanism.{name} {_shown(value)}; expected {'a word' if wanted is str else 'a number'}"
            )
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
        dtype=header["base"]["dtype"],
        train_layers=header["train_layers"],
    )


def check_noise(header: Mapping[str, Any]) -> str | None:
    """Computes ε of the stated noise of a differentially private run again; None for any other run.

    A release cannot show whether noise of that size was added.

    Returns:
        The result, in words.

    Raises:
        IntegrityError: the noise is too little for the stated ε and δ, or no noise of a run.
    """
    from paczero.mechanism.accounting import MissingLibrary, epsilon_of

    stated = header["mechanism"]
    if "sigma" not in stated:
        return None
    accounted = {"delta": stated["delta"], "steps": header["steps"], "directions": header["directions"]}
    try:
        found = epsilon_of(stated["name"], stated["sigma"], sampling_prob=stated["sampling"], **accounted)
    except MissingLibrary as error:
        return f"not accounted again ({error})"
    except PACZeroError as error:
        raise IntegrityError(f"transcript: its noise is none of a run: {error}") from error
    if found > stated["epsilon"] * _ACCOUNTANTS:
        raise IntegrityError(
            f"transcript: σ = {stated['sigma']:g} gives ε = {found:.4g}, but ε = {stated['epsilon']:g} is stated"
        )
    return (
        f"σ = {stated['sigma']:g} gives ε = {found:.4g} of the stated {stated['epsilon']:g}, δ = {stated['delta']:.3g}"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
