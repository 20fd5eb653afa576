"""A header that a run can have written passes; a value of another type or range does not."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paczero.errors import IntegrityError
from paczero.models.adapters import ADAPTER_LAW
from paczero.release import statement
from paczero.release.verify.header import check_header, check_noise
from paczero.release.verify.release import verify_release

from ...released_runs import VERSION_1, changed, edit_header, get, leaves, put, refused, reseal
from ...written_runs import header_of_version_01, make_header


def header(name: str = "release-mi-full") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((VERSION_1 / name / "transcript.jsonl").read_bytes().partition(b"\n")[0])
    return content


def test_a_budget_that_promises_nothing_is_a_runs_too() -> None:
    check_header(header() | {"budget": 0.8}, "transcript")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mu", 1),
        ("mu", -1.0),
        ("seed", True),
        ("steps", 10**9),
        ("units", 31),
        ("units_per_step", 10**6),
        ("parameters", []),
        ("parameters", [["a", "float32", [True]]]),
        ("train_layers", [0.5]),
        ("schedule", {"learning_rate": 0.1, "name": "cosine"}),
        ("base", {"dtype": "float32", "id": "x", "sha256": "g" * 64}),
        ("threshold", None),
    ],
)
def test_a_value_that_no_run_has(key: str, value: object) -> None:
    with pytest.raises(IntegrityError, match="transcript"):
        check_header(header() | {key: value}, "transcript")


@pytest.mark.parametrize("name", ["dpzero", "dp-aggzo", "dp-sign"])
def test_half_precision_of_a_run_that_hides_the_pool(name: str) -> None:
    """Version 0.1 allowed it, and such a release still verifies."""
    more = {"units_per_step": None, "train_layers": None, "pilots": 8}
    adapter = {"law": ADAPTER_LAW, "seed": 0, "sha256": "cd" * 32}
    whole = make_header(name, adapter=adapter, **more)
    base, trained = whole["base"] | {"dtype": "float16"}, [["a", "bfloat16", [2, 2]]]
    check_header(whole, "transcript")
    for part in ({"base": base}, {"parameters": trained}):
        with pytest.raises(IntegrityError, match=r"expected '?float32"):
            check_header(whole | part, "transcript")
    check_header(header_of_version_01(name, adapter=adapter, **more, base=base, parameters=trained), "transcript")


def test_individual_accounting_is_stated_with_its_share() -> None:
    more: dict[str, Any] = {"units_per_step": None, "train_layers": None, "pilots": 8}
    more["adapter"] = {"law": ADAPTER_LAW, "seed": 0, "sha256": "cd" * 32}
    whole, other = make_header("dp-sign", **more), make_header("dpzero", **more)
    stated = whole["mechanism"] | {"individual": True, "rho": 0.08}
    check_header(whole | {"mechanism": stated}, "transcript")
    for change in (
        {"individual": False},
        {"individual": 1},
        {"individual": None},
        {"rho": None},
        {"rho": 0.0},
        {"rho": math.inf},
        {"rho": True},
        {"sampling": 0.5},
    ):
        with pytest.raises(IntegrityError, match="transcript: "):
            check_header(whole | {"mechanism": stated | change}, "transcript")
    for key in ("individual", "rho", "eps0"):
        with pytest.raises(IntegrityError, match="key '"):
            check_header(whole | {"mechanism": {k: v for k, v in stated.items() if k != key}}, "transcript")
    with pytest.raises(IntegrityError, match="transcript: "):
        check_header(other | {"mechanism": other["mechanism"] | {"individual": True, "rho": 0.1}}, "transcript")


# Nothing else in a release depends on these keys; only a signature, or a replay with the base model, can tell.
SPOKEN_OF_ONCE = {("device_kind",)}


@pytest.mark.parametrize("name", ["zpl", "mi", "dp-sign", "full"])
def test_any_value_of_the_header(release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The header changed, all hashes and the statement made again from it: card, settings or weights still differ."""
    folder = release(name)
    whole, seal = (folder / "transcript.jsonl").read_bytes(), (folder / statement.NAME).read_bytes()
    header = json.loads(whole.partition(b"\n")[0])
    missed = []
    for path in leaves(header):
        if path[0] == "parameters" and len(path) > 1 and path[1] > 0:
            continue  # one parameter stands for all
        for value in changed(get(header, path)):
            edit_header(folder, lambda new, path=path, value=value: put(new, path, value))
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError):
                reseal(folder)  # where a statement can be made of it at all
            try:
                verify_release(folder)
                missed.append(path)
            except IntegrityError as error:
                assert "\n" not in str(error)
            (folder / "transcript.jsonl").write_bytes(whole)
            (folder / statement.NAME).write_bytes(seal)
    assert set(missed) <= SPOKEN_OF_ONCE
    for key in header:
        edit_header(folder, lambda new, key=key: new.pop(key))
        refused(folder)
        (folder / "transcript.jsonl").write_bytes(whole)


def test_too_little_noise_is_found() -> None:
    run = {"steps": 10, "directions": 1}
    common = {"epsilon": 1.0, "delta": 1e-5, "sampling": 1.0}
    for stated, said in (
        (common | {"name": "dp-sign", "sigma": 20.0}, "σ = 20 gives ε = 0.5613 of the stated 1,"),  # of version 0.1
        (common | {"name": "dpzero", "sigma": 20.0, "posterior_success": 0.54}, "σ = 20 gives ε = 0.5613 of"),
        (common | {"name": "dp-sign", "eps0": 0.1, "posterior_success": 0.54}, "ε₀ = 0.1 gives ε = 0.5584"),
        (
            common | {"name": "dp-sign", "eps0": 9.0, "rho": 0.01, "posterior_success": 0.54, "individual": True},
            "ρ = 0.01 gives ε = 0.5457 of the stated 1,",
        ),
    ):
        header = {"mechanism": stated} | run
        assert str(check_noise(header)).startswith(said)
        noise = next(name for name in ("rho", "eps0", "sigma") if name in stated)
        for change, problem in (
            ({noise: 5.0}, " = 5 gives ε = "),
            ({noise: 0.0}, "none of a run"),
            ({"delta": 2}, "delta|none of a run"),
            ({"posterior_success": 0.52}, "gives p = 0.5"),
            ({"delta": 1e-321}, "none of a run"),
            ({noise: 1e-200}, "none of a run"),
        ):
            if change.keys() <= stated.keys():
                with pytest.raises(IntegrityError, match=problem):
                    check_noise(header | {"mechanism": stated | change})
