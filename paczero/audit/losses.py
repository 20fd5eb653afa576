"""What a re-run trains on: a small language model with made-up records, or losses that cost next to nothing.

    ModelLosses(args, made_up(units=64, good=0.95))
    QuadraticLosses(units=64, good=0.95)

Both go through the same loop, mechanisms, files and attacks. The second leaves out forward passes, so that hundreds of
audits take minutes: a unit's loss is the squared distance of the weights to a point of its own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from paczero.audit.arrays import Floats
from paczero.config import PACZeroConfig, TaskConfig
from paczero.data.encoding import context_length, prepare
from paczero.distributed.base import SINGLE_PROCESS
from paczero.models.adapters import attach, peft_config_from
from paczero.models.layers import first_trained_layer
from paczero.optim.derivatives import Derivatives
from paczero.optim.parameters import PerturbedParameters
from paczero.training.factory import make_objective, make_scorer, make_weights

TASK = TaskConfig(template="{text} so {label}", labels={"0": "bad", "1": "good"})

_WORDS, _LENGTH = 240, 5  # words of the made-up language, and words of a record
_LORA = {"r": 2, "target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}
_PURPOSES = {"direction": 0, "pilot": 1}
_DIMENSIONS, _NEAR = 8, 0.2  # of the quadratic losses: number of weights, and how little a step moves them


class Losses(Protocol):
    """Losses of N units under trained weights.

    Attributes:
        objective: derivatives of all units.
        labels: (N,) of each unit, for the families.
    """

    objective: Any
    labels: npt.NDArray[np.int64]

    def weights(self, args: PACZeroConfig, purpose: str = "direction") -> Any:
        """The trained weights under the settings' seed, as `make_weights` gives them."""

    def features(self) -> Floats:
        """(N, D) of each unit, for the families."""

    def values(self) -> Floats:
        """(N,) losses under the weights as they stand, nats, 0 or more."""

    def flat(self) -> npt.NDArray[np.float32]:
        """The weights as they stand, (D,), sorted by name."""


@dataclass(frozen=True)
class Material:
    """A model and its records.

    Attributes:
        model: as transformers loads it; it is changed.
        tokenizer: its tokenizer.
        rows: the records, each a unit.
        lora: settings of PEFT.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: Sequence[Mapping[str, str]]
    lora: Mapping[str, Any]


class ModelLosses:
    """Losses of a language model; see `Losses`.

    Args:
        args: task, seed and batches.
        material: model and records.
    """

    def __init__(self, args: PACZeroConfig, material: Material) -> None:
        model = material.model
        records = prepare(material.rows, args.task, material.tokenizer, context=context_length(model))
        attached, self._trained = attach(model, peft_config=peft_config_from(material.lora), seed=args.seed)
        first = first_trained_layer(attached, list(self._trained))
        self._scorer = make_scorer(attached, records, args, first_layer=first, cache=None)
        self.objective = make_objective(self._scorer, records)
        self.labels = np.asarray(records.encoded.targets)

    def weights(self, args: PACZeroConfig, purpose: str = "direction") -> PerturbedParameters:
        return make_weights(self._trained, args, purpose=purpose)

    def features(self) -> Floats:
        return np.asarray(self._scorer.features(), dtype=np.float64)

    def values(self) -> Floats:
        found = self.objective.losses(self._scorer.scores(), self.objective.targets)
        return np.asarray(found, dtype=np.float64)

    def flat(self) -> npt.NDArray[np.float32]:
        return np.concatenate([p.detach().numpy().ravel() for _, p in sorted(self._trained.items())]).copy()


class QuadraticLosses:
    """|0.2·θ − o_i|²/0.4 of each unit's own point o_i; see `Losses`. The derivative along z is z·(0.2·θ − o_i).

    Args:
        units: N.
        odd: how many units, the last ones, have a point that has nothing in common with the others'.
        good: how far the points lie to one side, from 1/2 to 1, as the share of equal labels of made-up records.
        seed: public.
    """

    def __init__(self, units: int, *, odd: int = 0, good: float = 0.5, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, 0x90AD])
        self._points = rng.standard_normal((units, _DIMENSIONS)) / np.sqrt(_DIMENSIONS)
        shift = rng.standard_normal(_DIMENSIONS)
        self._points[: units - odd] += (2 * good - 1) * shift / np.linalg.norm(shift)
        self.labels = np.zeros(units, dtype=np.int64)
        self.objective, self.scorer, self.group, self.units = self, self, SINGLE_PROCESS, units
        self._weights = _QuadraticWeights(np.zeros(_DIMENSIONS), seed, 0)

    def weights(self, args: PACZeroConfig, purpose: str = "direction") -> "_QuadraticWeights":
        return _QuadraticWeights(self._weights.values, args.seed, _PURPOSES[purpose])

    def features(self) -> Floats:
        return self._points

    def values(self) -> Floats:
        return np.asarray(np.square(self._differences()).sum(axis=1) / (2 * _NEAR))

    def flat(self) -> npt.NDArray[np.float32]:
        return self._weights.values.astype(np.float32)

    def derivatives(
        self, weights: "_QuadraticWeights", step: int, directions: int, unit_indices: Any = None
    ) -> Derivatives:
        """As `PoolObjective.derivatives`, of all units."""
        drawn = np.stack([weights.direction(step, k) for k in range(directions)], axis=1)
        return Derivatives(self._differences() @ drawn, 0, unit_indices, float(self.values().mean()))

    def _differences(self) -> Floats:
        return np.asarray(_NEAR * self._weights.values - self._points)


@dataclass(frozen=True)
class _QuadraticWeights:
    """The weights of the quadratic losses, with what the loop asks of `PerturbedParameters`."""

    values: Floats
    seed: int
    purpose: int

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Name -> weights."""
        return {"weights": torch.from_numpy(self.values)}

    def direction(self, step: int, k: int) -> Floats:
        """Direction k of a step: signs ±1."""
        return np.random.default_rng([self.seed, self.purpose, step, k]).choice([-1.0, 1.0], _DIMENSIONS)

    def update(self, step: int, rate: float, y: Sequence[float]) -> None:
        """θ ← θ − η/K Σ_k y_k z_k."""
        for k, value in enumerate(y):
            self.values[:] -= rate / len(y) * value * self.direction(step, k)

    def snapshot(self) -> Floats:
        return self.values.copy()

    def load(self, values: Floats) -> None:
        self.values[:] = values

    def skip(self, step: int, k: int) -> None:
        """Nothing is perturbed."""

    def fingerprint(self) -> str:
        return hashlib.sha256(self.values.tobytes()).hexdigest()


def made_up(units: int, *, odd: int = 0, good: float = 0.5, alike: int = 0, seed: int = 0) -> Material:
    """A random Llama of two layers, and sentences of a made-up language.

    Half of its words are good ones; all words of a sentence match its label.

    Args:
        units: N.
        odd: how many records, the last ones, have random words and a random label.
        good: share of the others with the second label.
        alike: how many words all of the others end with.
        seed: public.
    """
    rng = np.random.default_rng([seed, 0x7E57])
    common = [f"w{2 * number + 1}" for number in range(alike)]
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(rows) < units:
        label = int(rng.random() < good)
        words, end = rng.integers(_WORDS // 2, size=_LENGTH) * 2 + label, common
        if len(rows) >= units - odd:
            words, end, label = rng.integers(_WORDS, size=_LENGTH), [], int(rng.random() < 0.5)
        text = " ".join([*(f"w{word}" for word in words), *end])
        if text not in seen:
            seen.add(text)
            rows.append({"text": text, "label": str(label)})
    return Material(*_tiny_model(seed), rows, _LORA)


def _tiny_model(seed: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random Llama of two layers that knows the made-up words."""
    words = ["<end>", "so", "bad", "good", *(f"w{number}" for number in range(_WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
