"""Who watches a run: the diagnostics file, transformers' callbacks, and trackers such as tensorboard.

Each hears of every step and evaluation through the same two methods (`paczero.training.loop.Observer`). The
diagnostics are the owner's and stay in `private/`; callbacks run in the owner's process; trackers may be elsewhere and
are sent public figures only.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState

from paczero.config import PACZeroConfig
from paczero.config_io import dotted
from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory
from paczero.training.loop import DevResult, Observer, Step
from paczero.utils.io import about


class Diagnostics:
    """Appends a line a step and a line an evaluation to `private/diagnostics.jsonl`.

    Figures for the owner, of no use to the privacy accounting: unlike the journal they are not on disk before a step
    goes on, so a line may be missing after a crash.

    Attributes:
        dev: the evaluations of earlier starts of this run, by the number of steps done.
        seconds: what the steps of earlier starts took.
    """

    def __init__(self, path: Path):
        self.path = path
        rows, size = _readable(path)
        self.dev = {
            row["t"]: DevResult(
                row["t"], **{name: row[name] for name in (*DevResult.FIGURES, "threshold") if name in row}
            )
            for row in rows
            if row["kind"] == "dev"
        }
        steps = {row["t"]: row.get("seconds", 0.0) for row in rows if row["kind"] == "step"}
        self._steps, self.seconds = set(steps), float(sum(steps.values()))
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        with about(path):
            os.ftruncate(descriptor, size)  # a half line of a killed process
        os.lseek(descriptor, 0, os.SEEK_END)
        self._stream = open(descriptor, "w", encoding="utf-8")  # noqa: SIM115

    def on_step(self, step: Step) -> None:
        if step.index in self._steps or step.loss is None:
            return
        release = step.release
        self._write(
            kind="step",
            t=step.index,
            seconds=round(step.seconds, 4),
            unanimous=list(release.unanimous),
            spent=step.spent,
            nonfinite=release.nonfinite,
            loss=step.loss,
            **({"zero_derivatives": step.zero_derivatives} if step.zero_derivatives else {}),
            **({"margins": [asdict(margin) for margin in step.margins]} if step.margins else {}),
        )

    def on_dev(self, result: DevResult) -> None:
        if result.done not in self.dev:
            self._write(kind="dev", t=result.done, **result.figures, threshold=result.threshold)

    def _write(self, **row: Any) -> None:
        with about(self.path):
            self._stream.write(json.dumps(row) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Closes the file; nothing more is written."""
        self._stream.close()


def _readable(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The file's whole lines, and how many bytes they are; what follows an unreadable line is dropped."""
    rows: list[dict[str, Any]] = []
    size = 0
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            rows.append(row)
            size += len(line)
    return rows, size


CallbackOrClass = TrainerCallback | type[TrainerCallback]


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raises PACZeroError for what is no `TrainerCallback`, neither object nor class."""
    for callback in callbacks:
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, TrainerCallback):
            raise PACZeroError(
                f"callbacks: a {kind.__name__} was given; expected transformers.TrainerCallback objects or classes"
            )


class Callbacks:
    """Hands the run to transformers' `TrainerCallback` objects.

    They may stop it (`control.should_training_stop`). A callback that stops by what it sees of the pool breaks the
    promise: stopping must depend on public things, such as the dev set, only. So logs hold public figures only.
    """

    def __init__(self, callbacks: Sequence[CallbackOrClass], args: PACZeroConfig, model: Any, processing_class: Any):
        check_callbacks(callbacks)
        self.args = _arguments(args)
        self.state = TrainerState(max_steps=args.max_steps, num_train_epochs=args.max_steps, train_batch_size=None)
        self.control = TrainerControl()
        self._callbacks = [callback() if isinstance(callback, type) else callback for callback in callbacks]
        self._context = {"model": model, "processing_class": processing_class}

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Around the whole run: `on_train_begin`, `on_train_end`."""
        self._call("on_train_begin")
        yield
        self._call("on_train_end")

    def on_step(self, step: Step) -> None:
        self._call("on_step_begin")
        self.state.global_step = step.index + 1
        self.state.epoch = float(step.index + 1)
        self._call("on_step_end")
        self._log({"learning_rate": step.rate})

    def on_dev(self, result: DevResult) -> None:
        metrics = {f"eval_{name}": value for name, value in result.figures.items()}
        self.state.global_step = result.done
        self._call("on_evaluate", metrics=metrics)
        self._log(metrics)
        figure, best = metrics[self.args.metric_for_best_model], self.state.best_metric
        if best is None or (figure > best if self.args.greater_is_better else figure < best):
            self.state.best_metric = figure

    def _log(self, logs: dict[str, float]) -> None:
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._call("on_log", logs=logs)

    def _call(self, event: str, **more: Any) -> None:
        for callback in self._callbacks:
            answer = getattr(callback, event)(self.args, self.state, self.control, **self._context, **more)
            self.control = self.control if answer is None else answer

    @property
    def stop(self) -> bool:
        """Whether a callback asked for the end."""
        return bool(self.control.should_training_stop)


def check_trackers(names: Sequence[str]) -> None:
    """Raises PACZeroError for a tracker that is not installed."""
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    here = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in here:
            raise PACZeroError(f"report_to: {name!r} is not installed; `pip install 'paczero[{name}]'` or leave it out")


def _arguments(args: PACZeroConfig) -> SimpleNamespace:
    """The settings, with those names of `TrainingArguments` beside them that ready-made callbacks ask for."""
    by = args.metric_for_best_model or "loss"
    own = {field.name: getattr(args, field.name) for field in fields(args)}
    return SimpleNamespace(
        **own | {"metric_for_best_model": f"eval_{by}"},
        load_best_model_at_end=args.metric_for_best_model is not None,
        greater_is_better=by != "loss",
        eval_strategy="steps",
        logging_strategy="steps",
        save_strategy="no",
    )


class Trackers:
    """Sends public figures to experiment trackers, through accelerate's classes for them.

    Args:
        names: any of `tensorboard`, `trackio`, `wandb`.
        run: name of the run.
        directory: where trackers that write files put them.
        settings: shown as the run's configuration.

    Raises:
        PACZeroError: a tracker is not installed.
    """

    def __init__(self, names: Sequence[str], *, run: str, directory: Path, settings: dict[str, Any]):
        self._trackers: list[Any] = []
        if not names:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        check_trackers(names)
        PartialState()
        simple = (bool, int, float, str)  # what every tracker takes
        shown = {name: value if isinstance(value, simple) else str(value) for name, value in dotted(settings).items()}
        for name in names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            tracker = kind(run, str(directory)) if kind.requires_logging_directory else kind(run)
            tracker.start()
            self._trackers.append(tracker)
            tracker.store_init_configuration(shown)

    def on_step(self, step: Step) -> None:
        self._log({"learning_rate": step.rate}, step.index + 1)

    def on_dev(self, result: DevResult) -> None:
        self._log({f"dev/{name}": value for name, value in result.figures.items()}, result.done)

    def _log(self, figures: dict[str, float], step: int) -> None:
        for tracker in self._trackers:
            tracker.log(figures, step=step)

    def close(self) -> None:
        """Ends the tracked runs."""
        for tracker in self._trackers:
            tracker.finish()


@dataclass(frozen=True)
class RunCallbacks:
    """Who watches a run.

    Attributes:
        diagnostics: the owner's file of figures; knows the dev evaluations of earlier starts.
        transformers: transformers' callbacks, which may stop the run.
        all: these and all others.
    """

    diagnostics: Diagnostics
    transformers: Callbacks
    all: list[Observer]

    @classmethod
    def begin(
        cls,
        until: contextlib.ExitStack,
        run: RunDirectory,
        args: PACZeroConfig,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]],
        observers: Sequence[Observer],
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
    ) -> "RunCallbacks":
        """Files and trackers are open, and callbacks told of the training, until `until` is closed."""
        diagnostics = until.enter_context(contextlib.closing(Diagnostics(run.diagnostics)))
        called = Callbacks(callbacks, args, model, tokenizer)
        trackers = Trackers(args.report_to, run=run.root.name, directory=run.trackers, settings=asdict(args))
        until.enter_context(contextlib.closing(trackers))
        until.enter_context(called.training())
        return cls(diagnostics, called, [*observers, diagnostics, called, trackers])
