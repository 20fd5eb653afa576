"""Every setting of a run, as frozen dataclasses that refuse values that cannot work.

The fields are the keys of a recipe and, with dots, the flags of `paczero train`:

>>> PACZeroConfig(max_steps=100, mechanism=MechanismConfig(name="mi", budget=0.33)).mechanism.budget
0.33

Paper: arXiv 2605.06505. The defaults are those of its SST-2 recipes where it states one.
"""

import functools
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of

MINIMUM_UNITS = 32
# Settings that say where a run lies, how it is computed and who watches, but not what it computes: they may change.
FREE_SETTINGS = frozenset(
    {"output_dir", "report_to", "cache_bytes", "cache_dir", "force", "device", "engine", "license"}
)
# Those of them that a run which goes on takes anew.
RESUMABLE_SETTINGS = FREE_SETTINGS - {"output_dir", "force"}
LICENSE = r"[A-Za-z0-9][\w.:-]{0,95}"
MAXIMUM_SUBSETS = 2**16  # more would need gigabytes, and agree on next to nothing
TRACKERS = ("tensorboard", "trackio", "wandb")


class Renamed(str):
    """The name that a setting has now."""

    __slots__ = ()


# Names that are no settings here: our own former names, which this version still understands, and settings of
# transformers and TRL without a counterpart, each with the reason.
OTHER_NAMES: dict[str, str] = {
    "steps": Renamed("max_steps"),
    "schedule": Renamed("lr_scheduler_type"),
    "select": Renamed("metric_for_best_model"),
    "average": Renamed("ema_decay"),
    "mechanism.sampling": Renamed("mechanism.sampling_prob"),
    "lr": "set learning_rate",
    **dict.fromkeys(
        ("lora", "lora.r", "lora.rank", "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
        "keys of the adapter stand under peft, such as peft.r and peft.target_modules",
    ),
    "num_train_epochs": "each step already passes over the whole pool; set max_steps",
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_gpu_train_batch_size", "auto_find_batch_size"),
        "each step uses the whole pool, and its privacy rests on that; batch_tokens sets the size of a micro-batch",
    ),
    "per_device_eval_batch_size": "batch_tokens sets the size of a micro-batch, in training and evaluation",
    "gradient_accumulation_steps": "each step adds up all micro-batches of the pool; batch_tokens sets their size",
    "gradient_checkpointing": "there is no backward pass, so no activations are kept",
    "weight_decay": "an update is the released value times a public direction, and nothing else moves the weights",
    **dict.fromkeys(
        ("warmup_steps", "warmup_ratio", "lr_scheduler_kwargs"),
        "the learning rate falls linearly or stays constant; set lr_scheduler_type",
    ),
    "max_grad_norm": "there is no gradient to clip; mechanism.clip bounds the derivative of each unit",
    **dict.fromkeys(
        ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"),
        "there is one optimizer, which follows random directions by forward passes; leave it out",
    ),
    "fp16": "set dtype to float16, or float32 with a differentially private mechanism",
    "bf16": "set dtype to bfloat16, or float32 with a differentially private mechanism",
    **dict.fromkeys(
        ("logging_steps", "logging_strategy", "logging_first_step"), "every step is recorded; leave it out"
    ),
    "logging_dir": "logs lie in output_dir; leave it out",
    **dict.fromkeys(
        ("save_steps", "save_strategy", "save_total_limit", "save_only_model"),
        "every step is kept in the journal, and a run resumes at any of them; leave it out",
    ),
    **dict.fromkeys(
        ("eval_strategy", "evaluation_strategy", "do_train", "do_eval"),
        "a run trains, and evaluates every eval_steps where it has a dev set; leave it out",
    ),
    **dict.fromkeys(
        ("load_best_model_at_end", "greater_is_better"),
        "metric_for_best_model alone decides which step is served; null serves the last one",
    ),
    "overwrite_output_dir": "a run never writes over another one; name a new output_dir",
    "resume_from_checkpoint": "it is an argument of PACZeroTrainer.train; on the command line use --resume RUN",
    "data_seed": "seed also draws the records",
    **dict.fromkeys(("use_cpu", "no_cuda"), "set device to cpu"),
    "run_name": "a run is named by its output_dir",
}


class FormerNameWarning(FutureWarning):
    """A setting was given by a former name, which the next version will not understand."""


def current_name(key: str) -> str:
    """The name that a setting has now.

    >>> current_name("learning_rate")
    'learning_rate'

    Args:
        key: as it was given, dotted.

    Raises:
        PACZeroError: the name belongs to a setting of transformers or TRL that has no counterpart here.
    """
    meaning = OTHER_NAMES.get(key)
    if meaning is None:
        return key
    if not isinstance(meaning, Renamed):
        raise PACZeroError(f"{key}: it was given, and is no setting of PACZero: {meaning}")
    text = f"{key} is now called {meaning}; the next version knows that name alone"
    warnings.warn(text, FormerNameWarning, stacklevel=3)
    return str(meaning)


def current_value(key: str, value: Any) -> Any:
    """The value that a setting has now where it was given by its former name `key`."""
    return None if key == "select" and value == "last" else value


Settings = TypeVar("Settings", bound=type)


def _with_other_names(prefix: str = "") -> Callable[[Settings], Settings]:
    """A class decorator: keyword arguments of `OTHER_NAMES` are renamed, with a warning, or refused with the reason."""

    def decorate(cls: Settings) -> Settings:
        init = cls.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def understanding(self: Any, *args: Any, **settings: Any) -> None:
            for name in [name for name in settings if prefix + name in OTHER_NAMES]:
                value = settings.pop(name)
                now = current_name(prefix + name).removeprefix(prefix)
                if now in settings:
                    raise PACZeroError(f"{prefix}{name}: it was given together with {prefix}{now}; leave it out")
                settings[now] = current_value(prefix + name, value)
            init(self, *args, **settings)

        cls.__init__ = understanding  # type: ignore[misc]
        return cls

    return decorate


def _require(settings: Any, key: str, fine: bool, expected: str) -> None:
    if not fine:
        value = getattr(settings, key.rpartition(".")[2])
        raise PACZeroError(
            f"{key}: {dict(value) if isinstance(value, Mapping) else value!r} was given; expected {expected}"
        )


def _require_positive(settings: Any, key: str) -> None:
    value = getattr(settings, key.rpartition(".")[2])
    _require(settings, key, math.isfinite(value) and value > 0, "a finite number above 0")


def _chosen(settings: Any, prefix: str = "") -> None:
    """Refuses a word that is none of those a setting has: a misspelt mechanism must never pass for another one."""
    for name, kind in get_type_hints(type(settings)).items():
        for part in (kind, *get_args(kind)):
            if get_origin(part) is Literal:
                value, words = getattr(settings, name), get_args(part)
                fine = value in words or (part is not kind and not isinstance(value, str))
                _require(settings, prefix + name, fine, f"one of {', '.join(words)}")


def require_float32(what: str, dtype: str, mechanism: str) -> None:
    """Refuses half precision with a differentially private mechanism.

    Args:
        what: has this type, for the message.
        dtype: without `torch.`.
        mechanism: its name.

    Raises:
        PACZeroError: half precision was given, in which what one unit adds to a sum is not bounded by the clip.
    """
    if spec_of(mechanism).is_dp and dtype in ("float16", "bfloat16"):
        raise PACZeroError(
            f"{what}: {dtype!r} was given with mechanism.name {mechanism!r}; expected 'float32', as in half precision "
            "a unit's derivative depends on which units share its batch, and (ε, δ) would not hold"
        )


def learning_rate_at(schedule: str, learning_rate: float, steps: int, step: int) -> float:
    """η_t of `step` (from 0) of `steps`: what training and replay both follow, so to the last bit the same."""
    if schedule == "linear":
        return learning_rate * (1 - step / steps)
    if schedule == "constant":
        return learning_rate
    raise PACZeroError(f"schedule: {schedule!r} was given; expected 'linear' or 'constant'")


@_with_other_names("mechanism.")
@dataclass(frozen=True)
class MechanismConfig:
    """How one bit a direction is released.

    Attributes:
        name: `zpl`, `mi`, `dpzero`, `dp-aggzo`, `dp-sign`, `none`, or an ablation. In a contested step `zpl` releases a
            fair coin (I = 0), and `mi` the sign of the secret subset through a noisy channel. `dpzero` and `dp-aggzo`
            release noisy means, `dp-sign` random signs, with (ε, δ)-differential privacy over the pool. `none` is MeZO:
            the real mean derivative, no privacy. Ablations: `full-sign` and `half-sign` (no privacy), `coin` (learns
            nothing), `skip` (a contested step releases 0).
        subsets: M, how many candidate subsets; even.
        family: how the candidates are drawn: `random` (the paper's), `paired` or `balanced`.
        pilots: directions measured at the base model for the `balanced` family; each costs two passes over the pool.
        budget: B, the mutual information of the whole run in nats, for `mi`.
        channel: the noisy channel of `mi`: `bit` or the paper's `gaussian`.
        allocation: how the budget is spread over the steps: `adaptive` or `uniform`.
        clip: c, each unit's derivative is clipped to ±c (nats of loss per unit of direction; `dp-aggzo`: the length of
            its K derivatives). `auto` is the median size on the dev set for the differentially private mechanisms, and
            25 for the others. Null, for `none` and `coin` alone, clips nothing.
        epsilon: ε of the whole run, for `dpzero`, `dp-aggzo` and `dp-sign`.
        delta: δ of the whole run; 1e-6 where left out, or 1/N² where that is less.
        sampling_prob: `dp-sign`, `dpzero`, `dp-aggzo`: each step uses a secret sample of the pool, each unit with this
            probability; the whole pool where left out. `dp-sign` has one direction a step then.
        individual: `dp-sign`: each unit spends what its own derivatives cost, and contributes nothing once its share of
            ε is spent; ε₀ is then as large as derivatives on the dev set allow. Not with `sampling_prob`.
    """

    name: Literal["zpl", "mi", "none", "dpzero", "dp-aggzo", "dp-sign", "full-sign", "half-sign", "coin", "skip"] = (
        "zpl"
    )
    subsets: int = 128
    family: Literal["random", "paired", "balanced"] = "random"
    pilots: int = 64
    budget: float | None = None
    channel: Literal["bit", "gaussian"] = "bit"
    allocation: Literal["adaptive", "uniform"] = "adaptive"
    clip: float | Literal["auto"] | None = "auto"
    epsilon: float | None = None
    delta: float | None = None
    sampling_prob: float | None = None
    individual: bool = False

    def __post_init__(self) -> None:
        _chosen(self, "mechanism.")
        spec = spec_of(self.name)
        self._check_privacy()
        _require(
            self,
            "mechanism.subsets",
            2 <= self.subsets <= MAXIMUM_SUBSETS and self.subsets % 2 == 0,
            f"an even number of candidates from 2 to {MAXIMUM_SUBSETS:,} (each record is in exactly half of them)",
        )
        _require(self, "mechanism.pilots", self.pilots >= 1, "1 or more")
        if self.clip == "auto":
            if not spec.is_dp:
                object.__setattr__(self, "clip", 25.0)
        elif self.clip is not None:
            _require_positive(self, "mechanism.clip")
        else:
            _require(
                self,
                "mechanism.clip",
                not spec.needs_clip,
                "a number above 0, or auto (only `none` and `coin` run without)",
            )
        if self.budget is not None:
            _require(
                self,
                "mechanism.budget",
                math.isfinite(self.budget) and self.budget >= 0,
                "nats, a finite number of 0 or more",
            )
        if spec.has_budget:
            _require(self, "mechanism.budget", self.budget is not None, "a number of nats, which `mi` needs (say 0.33)")
        elif self.budget:
            raise PACZeroError(
                f"mechanism.budget: {self.budget!r} was given with mechanism.name {self.name!r}, which spends none; "
                "leave the budget out or choose `mi`"
            )

    @property
    def number_of_clip(self) -> float | None:
        """The clip as a number, or None. A run with `auto` has measured it and states it in its header.

        Raises:
            PACZeroError: the clip is `auto`.
        """
        if isinstance(self.clip, str):
            raise PACZeroError(f"mechanism.clip: {self.clip!r} was given; expected a number here")
        return self.clip

    def _check_privacy(self) -> None:
        """ε, δ and the sampling rate: in range, and where they mean something."""
        spec = spec_of(self.name)
        for name, value, meant in (
            ("epsilon", self.epsilon, spec.is_dp),
            ("delta", self.delta, spec.is_dp),
            ("sampling_prob", self.sampling_prob, spec.sampled),
            ("individual", self.individual or None, spec.individual),
        ):
            if value is not None and not meant:
                raise PACZeroError(
                    f"mechanism.{name}: {value!r} was given with mechanism.name {self.name!r}, which has none; leave "
                    f"it out or choose a differentially private mechanism, such as `dp-sign`"
                )
        if spec.is_dp:
            expected = "a finite number above 0, which a differentially private mechanism needs (say 2)"
            fine = self.epsilon is not None and math.isfinite(self.epsilon) and self.epsilon > 0
            _require(self, "mechanism.epsilon", fine, expected)
        if self.delta is not None:
            _require(self, "mechanism.delta", 0 < self.delta < 1, "a probability above 0 and below 1")
        if self.sampling_prob is not None:
            fine = 0 < self.sampling_prob <= 1
            _require(self, "mechanism.sampling_prob", fine, "a probability above 0, 1 at most")
            fine, rate = not self.individual or self.sampling_prob == 1, self.sampling_prob
            expected = f"false with mechanism.sampling_prob {rate:g}: accounts of units take the whole pool each step"
            _require(self, "mechanism.individual", fine, expected)


@dataclass(frozen=True)
class TaskConfig:
    """What a record says, what should follow it, and what is trained on.

    Attributes:
        kind: `classification` (one of a few label words follows), `answer` (each record has its own text) or `chat`
            (instruction data, through the tokenizer's chat template).
        template: the prompt: `{label}` comes last, every other placeholder is a column of the data.
        label_column: the column that holds the label; of `answer` a text, a list of texts any of which is right (the
            first is trained on), or {"text": such a list}.
        labels: for each value of the label column the word that stands for it at `{label}`; two or more.
        unit_column: the column that names whose record it is; without one each record is a unit of its own.
        too_long: what happens to a record beyond the model's context: `error` or `truncate` (its columns are cut
            at their end, the longest first, the rest of the template stays; of `chat` the completion is).
        max_length: tokens of a record at most; the model's context where left out.
        objective: what `answer` trains on: `likelihood` (the token-mean log-likelihood of the answer and the stop text)
            or `f1` (of greedy generation, which has no derivative; its differences train all the same).
        max_new_tokens: `answer`: tokens that are generated for a record at most.
        stop: `answer`: generation ends where this text comes; what stands before it is the answer.
        messages_column: `chat`: the column with a list of {"role", "content"}, whose last is the assistant's; where
            left out, the two columns below are used.
        prompt_column: `chat`: what the user says.
        completion_column: `chat`: what should be answered.
    """

    kind: Literal["classification", "answer", "chat"] = "classification"
    template: str = "{text} It was {label}"
    label_column: str = "label"
    labels: Mapping[str, str] = field(default_factory=lambda: {"0": "terrible", "1": "great"})
    unit_column: str | None = None
    too_long: Literal["error", "truncate"] = "error"
    max_length: int | None = None
    objective: Literal["likelihood", "f1"] = "likelihood"
    max_new_tokens: int = 50
    stop: str = "\n"
    messages_column: str | None = None
    prompt_column: str = "prompt"
    completion_column: str = "completion"

    def __post_init__(self) -> None:
        _chosen(self, "task.")
        _require(
            self,
            "task.template",
            self.template.endswith("{label}") and self.template.count("{label}") == 1,
            "a text that ends with {label}, once",
        )
        _require(self, "task.labels", len(self.labels) >= 2, "two or more label values with their words")
        words = list(self.labels.values())
        _require(self, "task.labels", len(set(words)) == len(words), "a different word for each label")
        if self.max_length is not None:
            _require(self, "task.max_length", self.max_length >= 2, "2 tokens or more")
        _require(self, "task.max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        _require(self, "task.stop", self.stop != "", "a text, such as a newline")
        for name, kinds in _USED_BY.items():
            value = getattr(self, name)
            if self.kind not in kinds and value != _default(type(self), name):
                raise PACZeroError(
                    f"task.{name}: {value!r} was given with task.kind {self.kind!r}, which does not use it; leave it "
                    f"out, or set task.kind to {' or '.join(kinds)}"
                )


# What only some kinds of task use; given with another kind, it would pass unseen.
_USED_BY = {
    "template": ("classification", "answer"),
    "labels": ("classification",),
    **dict.fromkeys(("objective", "max_new_tokens", "stop"), ("answer",)),
    **dict.fromkeys(("messages_column", "prompt_column", "completion_column"), ("chat",)),
}
# What a step may be chosen by, for each kind of task; `loss` always.
_METRICS = {"classification": ("accuracy",), "answer": ("f1",), "chat": ()}


def _default(settings: type, name: str) -> Any:
    [found] = [f for f in fields(settings) if f.name == name]
    return found.default if found.default_factory is MISSING else found.default_factory()


def _trackers(given: Sequence[str]) -> list[str]:
    """The trackers by name; of `all` those that are installed."""
    names = [given] if isinstance(given, str) else list(given or ())
    if names == ["none"]:
        return []
    if names == ["all"]:
        return [name for name in TRACKERS if importlib.util.find_spec(name) is not None]
    unknown = sorted(set(names) - set(TRACKERS))
    if unknown:
        raise PACZeroError(f"report_to: {unknown} was given; expected any of {', '.join(TRACKERS)}, or all, or none")
    return names


@dataclass(frozen=True)
class EngineConfig:
    """How the same derivatives are computed: fast paths, each of which can be switched off, and where the work is done.

    Nothing here changes what a run means; derivatives agree to float tolerance, and a run may be resumed under other
    values.

    Attributes:
        packing: records lie end to end without padding, each seeing itself only; false pads rows to a common length.
        prefix: tokens with which all prompts begin are computed once a micro-batch instead of once a record.
        narrowing: the last layer is computed only where its output is read.
        cache: layers below the first trained one are computed once and kept.
        merge: an adapter is added to the weights beside it before each pass, instead of running beside them.
        kernel: `auto` makes directions by a compiled kernel where numba is installed, `off` by torch; the same bits.
        devices: `one`, or `all` GPUs of the machine, over which one process lays the layers.
        offload: where frozen layers that do not fit wait for their turn: `cpu`, `disk`, or `none` if all must fit.
        max_memory: bytes of each device that weights may take; four fifths of what is free where left out.
        check_steps: with several processes, they compare their weights every so many steps.
    """

    packing: bool = True
    prefix: bool = True
    narrowing: bool = True
    cache: bool = True
    merge: bool = True
    kernel: Literal["auto", "off"] = "auto"
    devices: Literal["one", "all"] = "one"
    offload: Literal["none", "cpu", "disk"] = "none"
    max_memory: int | None = None
    check_steps: int = 100

    def __post_init__(self) -> None:
        _chosen(self, "engine.")
        _require(self, "engine.check_steps", self.check_steps >= 1, "1 or more")
        if self.max_memory is not None:
            _require(self, "engine.max_memory", self.max_memory >= 1, "bytes, 1 or more")
            if self.offload == "none" and self.devices == "one":
                raise PACZeroError(
                    f"engine.max_memory: {self.max_memory} was given with engine.offload 'none', so that nothing could "
                    "wait elsewhere; add --engine.offload cpu or disk, or leave it out"
                )


@_with_other_names()
@dataclass(frozen=True)
class PACZeroConfig:
    """A run: where it goes, what is released, how far each step moves.

    Attributes:
        output_dir: the directory of the run; its `release/` may be published, its `private/` never.
        task: prompt, labels and units.
        mechanism: what is released and at what cost.
        max_steps: T, the number of updates.
        learning_rate: η at the first step; in weight per bit, for `none` per unit of mean derivative.
        lr_scheduler_type: `linear` falls to 0 over the run, `constant` stays.
        mu: μ, half the distance between the two points at which losses are measured.
        directions: K, directions (and releases) a step.
        direction_law: `rademacher` (the same bits on any device) or `gaussian` (the paper's).
        train_layers: full tuning only: indices of the decoder layers to train; all parameters where left out.
        restore: `copy` (exact, twice the trained weights) or `arithmetic` (no copy; drift by rounding, replayed alike).
        units_per_step: a public random part of the pool a step; the whole pool where left out.
        ema_decay: e in [0, 1): serve the exponential average of the released iterates; 0 serves the last one.
        threshold: `none`, or `median`: a binary decision moved to the median of the dev scores.
        metric_for_best_model: the step with the best `loss`, `accuracy` (of a classification) or `f1` (of generated
            answers) on the dev set is served; the last step where left out.
        eval_steps: dev evaluation every so many steps (and after the last).
        seed: the public seed of directions, candidates, drawn records and the initial adapter.
        test_seed: makes secret, coins and noise reproducible for tests; the report is marked VOID.
        dtype: the type of the model's weights; adapters are always float32. Differentially private mechanisms need
            `float32`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_tokens: token positions of a micro-batch at most; a CPU gains nothing beyond some hundreds.
        cache_bytes: hidden states below the first trained layer stay in memory up to this size, in a memory-mapped
            file in `private/` beyond.
        cache_dir: a directory (mode 0700) where hidden states and pilot derivatives are kept for other runs on the same
            records; they are the records' text in another form. Where left out they lie in `private/` until the run is
            finished.
        engine: fast paths and where the work is done; they change how long a run takes, not what it computes.
        report_to: one or more of `tensorboard`, `trackio`, `wandb`, `all` that are installed, or `none`; they receive
            public metrics only.
        license: the license that the model card of the release states, such as `apache-2.0`; it must agree with the
            base model's. `paczero seal` adds one later.
        force: go on where the run would be refused (a budget of ln 2 or more, updates that round away).
    """

    output_dir: str = "runs/paczero"
    task: TaskConfig = field(default_factory=TaskConfig)
    mechanism: MechanismConfig = field(default_factory=MechanismConfig)
    max_steps: int = 1000
    learning_rate: float = 1e-3
    lr_scheduler_type: Literal["linear", "constant"] = "linear"
    mu: float = 1e-3
    directions: int = 1
    direction_law: Literal["rademacher", "gaussian"] = "rademacher"
    train_layers: list[int] | None = None
    restore: Literal["copy", "arithmetic"] = "copy"
    units_per_step: int | None = None
    ema_decay: float = 0.0
    threshold: Literal["none", "median"] = "none"
    metric_for_best_model: Literal["loss", "accuracy", "f1"] | None = None
    eval_steps: int = 100
    seed: int = 0
    test_seed: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    batch_tokens: int = 512
    cache_bytes: int = 2 * 1024**3
    cache_dir: str | None = None
    engine: EngineConfig = field(default_factory=EngineConfig)
    report_to: Sequence[str] = ()
    license: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        _chosen(self)
        if self.license is not None:
            _require(self, "license", re.fullmatch(LICENSE, self.license) is not None, "a name such as apache-2.0")
        _require(self, "task", isinstance(self.task, TaskConfig), "a TaskConfig")
        _require(self, "mechanism", isinstance(self.mechanism, MechanismConfig), "a MechanismConfig")
        _require(self, "engine", isinstance(self.engine, EngineConfig), "an EngineConfig")
        for name in ("max_steps", "directions", "eval_steps", "batch_tokens"):
            _require(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "mu"):
            _require_positive(self, name)
        _require(self, "ema_decay", 0 <= self.ema_decay < 1, "a number in [0, 1)")
        _require(self, "seed", 0 <= self.seed < 2**63, "an integer from 0 to 2^63 - 1")
        _require(self, "cache_bytes", self.cache_bytes >= 0, "0 bytes or more")
        if self.units_per_step is not None:
            _require(self, "units_per_step", self.units_per_step >= MINIMUM_UNITS, f"{MINIMUM_UNITS} units or more")
        if spec_of(self.mechanism.name).is_dp:
            _require(
                self,
                "units_per_step",
                self.units_per_step is None,
                f"none with {self.mechanism.name}: a public part of the pool does not help its privacy; see "
                "mechanism.sampling_prob",
            )
        require_float32("dtype", self.dtype, self.mechanism.name)
        spec, name = spec_of(self.mechanism.name), self.mechanism.name
        if spec.one_direction:
            _require(self, "directions", self.directions == 1, f"1 with {name}; `dp-aggzo` takes more")
        if spec.per_direction and (self.mechanism.sampling_prob or 1.0) < 1:
            expected = f"1 with {name} and mechanism.sampling_prob, as each bit draws its own sample; take more steps"
            _require(self, "directions", self.directions == 1, expected)
        self._check_kind()
        object.__setattr__(self, "report_to", _trackers(self.report_to))
        budget = self.mechanism.budget
        if budget is not None and budget >= math.log(2) and not self.force:
            raise PACZeroError(
                f"mechanism.budget: {budget!r} nats was given; ln 2 = 0.693 or more promises nothing. "
                "Choose a smaller budget, or pass --force true to run without a promise"
            )

    def _check_kind(self) -> None:
        """What a kind of task has no figures for."""
        kind = self.task.kind
        metric, known = self.metric_for_best_model, ("loss", *_METRICS[kind])
        expected = f"{' or '.join(known)} with task.kind {kind}, or null for the last step"
        _require(self, "metric_for_best_model", metric is None or metric in known, expected)
        if kind != "classification":
            expected = f"'none' with task.kind {kind}, which decides between no labels"
            _require(self, "threshold", self.threshold == "none", expected)

    def learning_rate_at(self, step: int) -> float:
        """η_t: the learning rate of `step` (from 0), a function of public values only."""
        return learning_rate_at(self.lr_scheduler_type, self.learning_rate, self.max_steps, step)
