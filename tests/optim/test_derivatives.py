"""Derivatives along directions against a slow obvious version, and the weights as they were."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from paczero.data.batching import micro_batches
from paczero.data.completions import CandidateTree
from paczero.data.metrics import losses
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.scorer import Scorer
from paczero.models.adapters import attach
from paczero.models.layers import first_trained_layer
from paczero.optim.derivatives import Objective
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters

Decoder = Callable[..., PreTrainedModel]
GENERATOR = np.random.default_rng(3)
PROMPTS = [GENERATOR.integers(2, 40, size=length).tolist() for length in GENERATOR.integers(1, 12, size=24)]
TARGETS = GENERATOR.integers(0, 2, size=24)
OWNERS = np.array([0, 1, 2, 0, 1, 3, 4, 5, 6, 7, 0, 8, 9, 9, 10, 11, 12, 13, 14, 15, 15, 15, 16, 17])
WORDS = [[40, 41], [42]]


def objective(
    model: PreTrainedModel,
    layers: list[int] | None,
    *,
    mu: float = 1e-2,
    law: str = "rademacher",
    restore: str = "copy",
) -> tuple[Objective, PerturbedParameters]:
    _, trained = attach(model, train_layers=layers)
    tree = CandidateTree(WORDS)
    scorer = Scorer(
        model,
        micro_batches(PROMPTS, tree, batch_tokens=40),
        tree,
        first_layer=first_trained_layer(model, list(trained)),
        cache=HiddenCache(2**30, None),
    )
    weights = PerturbedParameters(trained, law=direction_law(law), seed=5, mu=mu, restore=restore)
    return Objective(scorer, TARGETS, OWNERS, losses), weights


def slow_losses(model: torch.nn.Module) -> np.ndarray:
    """Cross-entropy over mean log-probabilities, record by record, candidate by candidate."""
    out = []
    with torch.no_grad():
        for prompt, target in zip(PROMPTS, TARGETS, strict=True):
            scores = []
            for word in WORDS:
                logs = model(input_ids=torch.tensor([prompt + word])).logits[0].double().log_softmax(-1)
                scores.append(float(np.mean([logs[len(prompt) - 1 + i, token] for i, token in enumerate(word)])))
            out.append(np.logaddexp.reduce(scores) - scores[target])
    return np.array(out)


def slow_derivatives(decoder: Decoder, layers: list[int] | None, mu: float, law: str, k: int) -> np.ndarray:
    """The same direction on a model in float64: no rounding of weights, none of losses that matters."""
    model = decoder("llama").double()
    _, trained = attach(model, train_layers=layers)
    start = {name: p.detach().clone() for name, p in trained.items()}
    at = {}
    for side in (1, -1):
        for name, parameter in trained.items():
            z = direction_law(law).draw(seed=5, step=3, k=k, name=name, start=0, stop=parameter.numel())
            parameter.data = start[name] + side * mu * z.double().view(parameter.shape)
        at[side] = slow_losses(model)
    per_record = (at[1] - at[-1]) / (2 * mu)
    return np.array([per_record[unit == OWNERS].mean() for unit in range(18)])


@pytest.mark.parametrize("layers", [None, [2], [0, 1]])
@pytest.mark.parametrize("law", ["rademacher", "gaussian"])
def test_against_float64_one_record_at_a_time(decoder: Decoder, layers: list[int] | None, law: str) -> None:
    fast, weights = objective(decoder("llama"), layers, law=law)
    found = fast.derivatives(weights, 3, 2)
    assert (found.values.shape, found.nonfinite, found.unit_indices) == ((18, 2), 0, None)
    for k in (0, 1):
        slow = slow_derivatives(decoder, layers, 1e-2, law, k)
        # Losses carry about 1e-6 of float32 noise, which 2 μ divides.
        np.testing.assert_allclose(found.values[:, k], slow, atol=2e-3, rtol=2e-3)
        assert np.abs(slow).max() > 0.1
    assert np.abs(found.values[:, 0] - found.values[:, 1]).max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_without_a_rate_moves_no_bit(decoder: Decoder, dtype: torch.dtype) -> None:
    model = decoder("llama").to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast, weights = objective(model, None)
    for step in range(3):
        fast.derivatives(weights, step, 2)
        weights.update(step, 0.0, [1, -1])
    after = model.state_dict()
    assert all(torch.equal(after[name].view(torch.uint8), before[name].view(torch.uint8)) for name in before)


def test_arithmetic_restore_ends_where_passing_by_ends(decoder: Decoder) -> None:
    fast, weights = objective(decoder("llama"), [1], restore="arithmetic")
    _, other = objective(decoder("llama"), [1], restore="arithmetic")
    fast.derivatives(weights, 0, 2)
    for k in (0, 1):
        other.skip(0, k)
    assert weights.fingerprint() == other.fingerprint()


def test_weights_are_restored_where_a_pass_fails(decoder: Decoder) -> None:
    fast, weights = objective(decoder("llama"), [1])
    before = weights.fingerprint()

    def failing(*_: object) -> np.ndarray:
        raise KeyboardInterrupt

    fast.losses = failing
    with pytest.raises(KeyboardInterrupt):
        fast.derivatives(weights, 0, 1)
    assert weights.fingerprint() == before


@pytest.mark.parametrize("part", [np.array([0, 9, 15, 17]), np.array([4]), np.arange(18)])
def test_a_part_of_the_units(decoder: Decoder, part: np.ndarray) -> None:
    """The same numbers up to float32 noise of other batches, the rows of the others not there."""
    fast, weights = objective(decoder("llama"), [2])
    whole, some = fast.derivatives(weights, 3, 1), fast.derivatives(weights, 3, 1, part)
    np.testing.assert_allclose(some.values, whole.values[part], atol=2e-3)
    assert some.unit_indices is part and some.values.shape == (len(part), 1)


def test_directions_that_move_no_loss_are_counted(decoder: Decoder) -> None:
    """As F1 of generated answers does with a small mu: it changes in jumps."""
    fast, weights = objective(decoder("llama"), [2])
    assert fast.derivatives(weights, 3, 2).zero_derivatives == 0
    fast.losses = lambda scores, targets: np.round(losses(scores, targets), -2)
    assert fast.derivatives(weights, 3, 2).zero_derivatives == 2


def test_what_is_not_finite_counts_as_nothing(decoder: Decoder) -> None:
    """Of unit 0's three records one overflows on one side, one is lost on both, one is sound."""
    fast, weights = objective(decoder("llama"), [2])
    sound = fast.derivatives(weights, 3, 1)
    calls = 0

    def odd(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        values = losses(scores, targets)
        values[0] = np.inf if calls == 1 else 1.0
        values[3] = np.nan
        values[7] = np.inf
        return values

    fast.losses = odd
    found = fast.derivatives(weights, 3, 1)
    assert found.nonfinite == 3
    assert np.isfinite(found.values).all()
    kept = [unit for unit in range(18) if unit not in (0, OWNERS[7])]
    np.testing.assert_array_equal(found.values[kept], sound.values[kept])
    assert found.values[OWNERS[7], 0] == 0
    each = Objective(fast.scorer, TARGETS, np.arange(24), losses).derivatives(weights, 3, 1)
    assert found.values[0, 0] == pytest.approx(each.values[10, 0] / 3)  # its other two records are 0 and 3


def test_the_loss_is_the_mean_of_both_sides(decoder: Decoder) -> None:
    fast, weights = objective(decoder("llama"), [2], mu=1e-4)
    assert fast.derivatives(weights, 0, 1).loss == pytest.approx(slow_losses(decoder("llama")).mean(), abs=1e-2)


def test_two_passes_a_direction_and_no_more(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, weights = objective(decoder("llama"), [2])
    passes: list[object] = []
    whole = Scorer.scores
    monkeypatch.setattr(Scorer, "scores", lambda self, wanted=None: passes.append(wanted) or whole(self, wanted))
    fast.derivatives(weights, 0, 3)
    assert len(passes) == 6
