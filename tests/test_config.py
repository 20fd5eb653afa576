"""Settings refuse what cannot work, in one line that names the key."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.config import EngineConfig, FormerNameWarning, MechanismConfig, PACZeroConfig, TaskConfig, learning_rate_at
from paczero.errors import PACZeroError
from paczero.mechanism.registry import SPECS

BAD: list[tuple[type, dict[str, Any], str]] = [
    *[(MechanismConfig, {"subsets": value}, "mechanism.subsets") for value in (7, 1, 0, -2, 2**16 + 2)],
    (MechanismConfig, {"pilots": 0}, "mechanism.pilots"),
    *[(MechanismConfig, {name: "zlp"}, f"mechanism.{name}") for name in ("name", "family", "channel", "allocation")],
    *[(EngineConfig, {name: "gpu"}, f"engine.{name}") for name in ("kernel", "devices", "offload")],
    *[(EngineConfig, {"check_steps": value}, "engine.check_steps") for value in (0, -1)],
    *[(EngineConfig, {"offload": "disk", "max_memory": value}, "engine.max_memory") for value in (0, -3)],
    (EngineConfig, {"max_memory": 10**9}, "engine.max_memory"),
    (TaskConfig, {"too_long": "cut"}, "task.too_long"),
    *[
        (PACZeroConfig, {name: "other"}, name)
        for name in (
            "lr_scheduler_type",
            "direction_law",
            "restore",
            "threshold",
            "metric_for_best_model",
            "dtype",
            "task",
            "mechanism",
        )
    ],
    *[(MechanismConfig, {"clip": value}, "mechanism.clip") for value in (0.0, -1.0, math.nan, math.inf, None)],
    (MechanismConfig, {"name": "mi"}, "mechanism.budget"),
    *[
        (MechanismConfig, {"name": "mi", "budget": value}, "mechanism.budget")
        for value in (-0.1, math.nan, math.inf, -math.inf)
    ],
    (MechanismConfig, {"name": "zpl", "budget": 0.1}, "mechanism.budget"),
    *[(MechanismConfig, {"name": "dp-sign", "epsilon": value}, "mechanism.epsilon") for value in (None, 0.0, math.inf)],
    *[
        (MechanismConfig, {"name": "dpzero", "epsilon": 2.0, name: value}, f"mechanism.{name}")
        for name, value in (
            ("delta", 0.0),
            ("delta", 1.0),
            ("sampling_prob", 0.0),
            ("sampling_prob", 1.1),
            ("clip", None),
        )
    ],
    (MechanismConfig, {"name": "dpzero", "epsilon": 2.0, "budget": 0.1}, "mechanism.budget"),
    *[
        (MechanismConfig, {"name": spec.name, "individual": True} | more, "mechanism.individual")
        for spec in SPECS.values()
        if spec.name != "dp-sign"
        for more in [{"epsilon": 2.0} if spec.is_dp else {}]
    ],
    (
        MechanismConfig,
        {"name": "dp-sign", "epsilon": 2.0, "individual": True, "sampling_prob": 0.5},
        "mechanism.individual",
    ),
    *[
        (MechanismConfig, {"name": name, key: 0.1}, f"mechanism.{key}")
        for name in ("zpl", "none", "coin")
        for key in ("epsilon", "delta", "sampling_prob")
    ],
    *[(MechanismConfig, {"name": name, "clip": None}, "mechanism.clip") for name in ("skip", "full-sign")],
    (PACZeroConfig, {"mechanism": MechanismConfig(name="dpzero", epsilon=2.0), "directions": 2}, "directions"),
    (
        PACZeroConfig,
        {"mechanism": MechanismConfig(name="dp-sign", epsilon=2.0), "units_per_step": 32},
        "units_per_step",
    ),
    *[
        (PACZeroConfig, {"mechanism": MechanismConfig(name=name, epsilon=2.0), "dtype": dtype}, "dtype")
        for name in (spec.name for spec in SPECS.values() if spec.is_dp)
        for dtype in ("float16", "bfloat16")
    ],
    *[
        (TaskConfig, {"template": value}, "task.template")
        for value in ("{text}", "{label} {text}", "{text} {label} {label}", "")
    ],
    (TaskConfig, {"labels": {"0": "bad"}}, "task.labels"),
    (TaskConfig, {"labels": {"0": "bad", "1": "bad"}}, "task.labels"),
    (TaskConfig, {"max_length": 1}, "task.max_length"),
    *[
        (PACZeroConfig, {name: value}, name)
        for name in ("max_steps", "directions", "eval_steps", "batch_tokens")
        for value in (0, -1)
    ],
    *[
        (PACZeroConfig, {name: value}, name)
        for name in ("learning_rate", "mu")
        for value in (0.0, -1e-3, math.nan, math.inf)
    ],
    *[(PACZeroConfig, {"ema_decay": value}, "ema_decay") for value in (1.0, -0.1, math.nan)],
    *[(PACZeroConfig, {"seed": value}, "seed") for value in (-1, 2**63)],
    (PACZeroConfig, {"cache_bytes": -1}, "cache_bytes"),
    (PACZeroConfig, {"units_per_step": 31}, "units_per_step"),
    (PACZeroConfig, {"report_to": ["mlflow"]}, "report_to"),
    *[
        (PACZeroConfig, {"mechanism": MechanismConfig(name="mi", budget=value)}, "mechanism.budget")
        for value in (math.log(2), 1.0)
    ],
]


@pytest.mark.parametrize(("kind", "settings", "name"), BAD)
def test_what_is_refused(kind: type, settings: dict[str, Any], name: str) -> None:
    with pytest.raises(PACZeroError) as error:
        kind(**settings)
    assert str(error.value).startswith(f"{name}: ") and "\n" not in str(error.value)


def test_what_is_taken() -> None:
    assert PACZeroConfig().mechanism.name == "zpl"
    assert MechanismConfig(name="none", clip=None).clip is MechanismConfig(name="coin", clip=None).clip is None
    private = MechanismConfig(name="dp-aggzo", epsilon=2.0, sampling_prob=1.0)
    assert PACZeroConfig(mechanism=private, directions=64).mechanism.delta is None
    signs = MechanismConfig(name="dp-sign", epsilon=2.0, sampling_prob=0.1)
    assert PACZeroConfig(mechanism=signs).directions == 1
    assert MechanismConfig(name="dp-sign", epsilon=2.0, individual=True, sampling_prob=1.0).individual
    with pytest.raises(PACZeroError, match="directions: 2 was given; expected 1 with dp-sign and"):
        PACZeroConfig(mechanism=signs, directions=2)
    for name in (spec.name for spec in SPECS.values() if not spec.is_dp):
        mechanism = MechanismConfig(name=name, budget=0.1 if name == "mi" else None)
        assert PACZeroConfig(mechanism=mechanism, dtype="float16").dtype == "float16"
    assert MechanismConfig(name="mi", budget=0.0).budget == 0.0
    assert PACZeroConfig(mechanism=MechanismConfig(name="mi", budget=5.0), force=True).force
    assert PACZeroConfig(mechanism=MechanismConfig(name="mi", budget=0.69)).mechanism.budget == 0.69


@given(st.floats(1e-9, 1e3), st.integers(1, 1000), st.data())
def test_schedules(rate: float, steps: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, steps - 1))
    assert learning_rate_at("constant", rate, steps, step) == rate
    linear = learning_rate_at("linear", rate, steps, step)
    assert 0 < linear <= rate and linear == pytest.approx(rate * (steps - step) / steps)
    assert PACZeroConfig(learning_rate=rate, max_steps=steps).learning_rate_at(step) == linear
    with pytest.raises(PACZeroError, match="schedule: 'cosine'"):
        learning_rate_at("cosine", rate, steps, step)


def test_former_names_in_python() -> None:
    with pytest.warns(FormerNameWarning) as caught:
        old: Any = {"steps": 7, "select": "last", "average": 0.5, "schedule": "constant"}
        args = PACZeroConfig(**old)
    assert str(caught[0].message).startswith("steps is now called max_steps") and len(caught) == 4
    assert args == PACZeroConfig(max_steps=7, metric_for_best_model=None, ema_decay=0.5, lr_scheduler_type="constant")
    with pytest.warns(FormerNameWarning, match=r"mechanism\.sampling_prob"):
        sampled: Any = {"name": "dpzero", "epsilon": 1.0, "sampling": 0.5}
        assert MechanismConfig(**sampled).sampling_prob == 0.5
    with pytest.warns(FormerNameWarning), pytest.raises(PACZeroError, match="together with max_steps"):
        PACZeroConfig(max_steps=3, **{"steps": 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["num_train_epochs", "weight_decay", "warmup_ratio", "fp16", "save_steps", "optim"])
def test_settings_of_transformers_without_a_counterpart(name: str) -> None:
    with pytest.raises(PACZeroError, match=f"{name}: it was given, and is no setting of PACZero: "):
        PACZeroConfig(**{name: 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="other"):
        PACZeroConfig(**{"other": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "trackers"), [("none", []), ("tensorboard", ["tensorboard"]), (["none"], []), ((), []), (None, [])]
)
def test_trackers_as_transformers_users_write_them(given: Any, trackers: list[str]) -> None:
    assert PACZeroConfig(report_to=given).report_to == trackers


def test_all_trackers_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "trackio" else None)
    assert PACZeroConfig(report_to="all").report_to == ["trackio"]
