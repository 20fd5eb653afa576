"""What is said of a run before it starts: its mechanism and its promise, for every mechanism there is."""

from typing import Any

import pytest

from paczero.cli.preflight import promise_line, run_lines
from paczero.mechanism.registry import spec_of


def header_of(name: str, **changes: Any) -> dict[str, Any]:
    mechanism: dict[str, Any] = {"name": name, "clip": 25.0, "channel": "bit", "allocation": "adaptive"}
    if spec_of(name).is_dp:
        mechanism |= {"epsilon": 2.0, "delta": 1e-6, "sampling": 1.0 if name == "dp-sign" else 0.064}
        mechanism |= {"posterior_success": 0.589, str(spec_of(name).noise): 4.5}
    header = {"mechanism": mechanism, "units": 1000, "subsets": 128, "family": "random", "test_seed": None}
    return header | {"budget": spec_of(name).budget(0.33)} | changes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zpl", "with probability 0.5 at most"),
        ("mi", "0.8819 at most (a coin: 0.5), on average over releases"),
        ("skip", "it does not hide who is in the pool"),
        ("coin", "nothing is learned from any record"),
        ("none", "none: this run trains on the pool as it is"),
        ("full-sign", "none: this run trains on the pool as it is"),
        ("half-sign", "none: this run trains on the pool as it is"),
        (
            "dp-sign",
            "ε = 2, δ = 1e-06 (1/N² for N = 1,000): an attacker who sees the release is right about a unit being",
        ),
        ("dpzero", "with probability 0.589 at most"),
        ("dp-aggzo", "(ε, δ)-differential privacy over the pool"),
    ],
)
def test_the_promise_in_a_sentence(name: str, said: str) -> None:
    assert said in promise_line(header_of(name))
    assert promise_line(header_of(name, test_seed=3)).startswith("none: this run is for testing only")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zpl", "zpl, M = 128 candidates (random), budget 0 nats"),
        ("mi", "mi, M = 128 candidates (random), budget 0.33 nats, channel bit, adaptive allocation"),
        ("skip", "skip, M = 128 candidates (random), budget 0 nats"),
        ("none", "none (MeZO): the real mean derivative"),
        ("coin", "coin (ablation): every step releases a fair coin"),
        ("dpzero", "under Gaussian noise, σ = 4.5 clips, secret samples at rate 0.064"),
        ("dp-sign", "more often that of the pool's sum, ε₀ = 4.5 a clip"),
    ],
)
def test_the_mechanism_in_a_line(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from paczero.cli import preflight

    for part in ("model_line", "_pool"):
        monkeypatch.setattr(preflight, part, lambda *_: "")
    trainer: Any = SimpleNamespace(header=header_of(name))
    assert dict(run_lines(trainer, None, None))["Mechanism"].endswith(said)  # type: ignore[arg-type]
