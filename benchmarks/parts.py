"""Where the time of a real step goes: the loop as it is, watched.

>>> spent = where_time_goes(bench, directory)       # every second step watched, every other one left alone
>>> spent.watched / spent.plain                     # what watching cost
1.01

Each moment belongs to one part, the innermost that is under way. Parts are the modules' forward passes (hooks on every
module, by what the module is and where it hangs) and the calls between them (wrappers around directions, moves, scores,
losses, mechanism, journal). Nothing is estimated; what no part claims is `the rest`. Where directions are made within a
move, element by element as it goes, they are part of it and their own row is 0.
"""

import contextlib
import functools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from cases import Bench, train
from torch import nn
from torch.nn.modules import module as hooks

from paczero.engine.scorer import Scorer
from paczero.mechanism.journal import Journal
from paczero.mechanism.pac import ZPL
from paczero.mechanism.transcript import Transcript
from paczero.models.layers import find_layers, plain
from paczero.optim.derivatives import Objective
from paczero.optim.parameters import PerturbedParameters
from paczero.training.loop import Step

ATTENTION = ("self_attn", "attn", "attention")
ORDER = (
    "directions",
    "perturbation",
    "update",
    "adapters",
    "embedding",
    "attention: projections",
    "attention: the rest",
    "MLP: projections",
    "MLP: the rest",
    "norms, residuals",
    "head",
    "losses",
    "mechanism",
    "journal",
    "the rest",
)


def now() -> float:
    """The wall clock, once the device has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """Seconds of each part, without those of the parts within it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._under_way = ["the rest"]
        self._mark = now()
        self._thread = threading.get_ident()

    @property
    def part(self) -> str:
        """The innermost part under way."""
        return self._under_way[-1]

    def enter(self, part: str) -> None:
        self._stop()
        self._under_way.append(part)

    def leave(self) -> None:
        self._stop()
        self._under_way.pop()

    def become(self, part: str) -> None:
        """The part under way is another one from here on."""
        self._stop()
        self._under_way[-1] = part

    def _stop(self) -> None:
        moment = now()
        self.seconds[self.part] += moment - self._mark
        self._mark = moment

    def around(self, part: str, function: Callable) -> Callable:
        """Times the function as a part; the time of other threads counts for the thread that waits for them."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*args, **kwargs)
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timed

    def along(self, part: str, function: Callable) -> Callable:
        """A function that makes a generator; the time spent within it is given to a part."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Iterator:
            inner = function(*args, **kwargs)
            try:
                while True:
                    self.enter(part)
                    try:
                        value = next(inner)
                    except StopIteration:
                        return
                    finally:
                        self.leave()
                    yield value
            finally:
                self.around(part, inner.close)()

        return timed


@dataclass
class Spent:
    """Medians over the steps.

    Attributes:
        plain: seconds of a step that was not watched.
        watched: of one that was.
        parts: seconds of each part of a watched step; together `watched`.
    """

    plain: float
    watched: float
    parts: dict[str, float]


@dataclass
class Alternation:
    """An observer that has every second step watched; the first is there to warm up."""

    bench: Bench
    between: Callable[[], Any]
    plain: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    parts: list[Mapping[str, float]] = field(default_factory=list)
    _watch: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _clock: Clock | None = None

    def on_step(self, step: Step) -> None:
        self._watch.close()
        if self._clock is not None:
            seconds = dict(self._clock.seconds)
            seconds["the rest"] = step.seconds - sum(s for part, s in seconds.items() if part != "the rest")
            self.watched.append(step.seconds)
            self.parts.append(seconds)
            self._clock = None
        elif step.index > 0:
            self.plain.append(step.seconds)
            self.between()
            self._clock = self._watch.enter_context(watching(self.bench))

    def on_dev(self, result: object) -> None:
        """There is no dev set."""


def where_time_goes(bench: Bench, directory: Path, between: Callable[[], Any] = lambda: None) -> Spent:
    """Takes the run's steps, after the first every second one watched.

    Args:
        bench: a run of an odd number of steps.
        directory: for its journal.
        between: called between a step left alone and one that is watched.
    """
    seen = Alternation(bench, between)
    with contextlib.closing(seen._watch):
        train(bench, directory, [seen])
    names = set(ORDER) | {name for one in seen.parts for name in one}
    parts = {name: statistics.median(one.get(name, 0.0) for one in seen.parts) for name in names}
    ordered = {name: parts[name] for name in (*ORDER, *sorted(names - set(ORDER)))}
    return Spent(statistics.median(seen.plain), statistics.median(seen.watched), ordered)


@contextlib.contextmanager
def watching(bench: Bench) -> Iterator[Clock]:
    """A clock that runs for as long as the context lasts."""
    clock, law = Clock(), type(bench.weights.law)
    draws = [name for name in dir(law) if name.startswith("draw")]
    calls = [
        *((law, name, "directions") for name in draws),
        (PerturbedParameters, "update", "update"),
        (Scorer, "scores", "adapters"),  # until the first micro-batch begins
        (Objective, "derivatives", "losses"),
        (ZPL, "release", "mechanism"),
        (Journal, "append", "journal"),
        (Transcript, "append", "journal"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            _replaced(PerturbedParameters, "perturb", clock.along("perturbation", PerturbedParameters.perturb))
        )
        for owner, name, part in calls:
            stack.enter_context(_replaced(owner, name, clock.around(part, getattr(owner, name))))
        stack.enter_context(_watched_modules(bench.model, clock))
        yield clock


@contextlib.contextmanager
def _replaced(owner: type, name: str, by: Callable) -> Iterator[None]:
    """Another method for as long as the context lasts."""
    before = vars(owner).get(name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextlib.contextmanager
def _watched_modules(model: nn.Module, clock: Clock) -> Iterator[None]:
    """Hooks on every module, also those that the engine puts in place of others."""
    parts = _parts_of(model)
    decoder = plain(model).base_model

    def before(module: nn.Module, _: Any) -> None:
        inner = parts.get(id(module))
        if inner is None:
            kind, _, which = clock.part.partition(": ")
            inner = f"{kind}: projections" if which == "the rest" and isinstance(module, nn.Linear) else clock.part
        clock.enter(inner)

    def after(module: nn.Module, _: Any, __: Any) -> None:
        clock.leave()
        if module is decoder:
            clock.become("head")  # until the next micro-batch begins

    handles = [hooks.register_module_forward_pre_hook(before), hooks.register_module_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parts_of(model: nn.Module) -> dict[int, str]:
    """Which part each module of the model is, by its identity."""
    base = plain(model)
    parts = {id(base.base_model): "norms, residuals", id(base.get_input_embeddings()): "embedding"}
    for layer in find_layers(model).layers:
        for path, module in layer.named_modules():
            names = path.split(".")
            kind = "attention" if set(names) & set(ATTENTION) else "MLP"
            if ".lora_" in path or hasattr(module, "base_layer"):
                parts[id(module)] = "adapters"
            elif isinstance(module, nn.Linear):
                parts[id(module)] = f"{kind}: projections"
            elif names[-1] in (*ATTENTION, "mlp") or (kind == "MLP" and "mlp" in names):
                parts[id(module)] = f"{kind}: the rest"
            elif kind == "MLP":
                parts[id(module)] = "norms, residuals"
    return parts


def table(spent: Spent, floor: Mapping[str, float]) -> str:
    """Markdown: seconds and share of each part, and of the floor's products beside them."""
    least = sum(floor.values())
    rows = ["| part | seconds | share | floor, s | over it |", "|---|--:|--:|--:|--:|"]
    for part, seconds in spent.parts.items():
        below = floor.get(part)
        beside = "| |" if not below else f"{below:.4f} | {seconds / below:.2f} |"
        rows.append(f"| {part} | {seconds:.4f} | {seconds / spent.watched:.1%} | {beside}")
    rows.append(f"| a step, watched | {spent.watched:.4f} | 100 % | {least:.4f} | {spent.watched / least:.2f} |")
    rows.append(f"| a step, left alone | {spent.plain:.4f} | | {least:.4f} | {spent.plain / least:.2f} |")
    return "\n".join(rows)
