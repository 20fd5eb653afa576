"""One run from settings to report; `paczero train` and `paczero demo` call the same function.

>>> with Live() as live:
...     trainer = make_trainer(settings, live=live)
...     train_run(settings, live=live, trainer=trainer)
...     other = trainer.with_args(other_settings.args)          # the same model and records, another mechanism
...     train_run(other_settings, live=live, trainer=other)

All processes of a run come through here. What rank 0 alone does stands in `group.on_main` or
`group.broadcast_from_main`.
"""

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.console import Live, Watcher, keep_quiet, shown, warn
from paczero.cli.data import read_data
from paczero.cli.preflight import preflight
from paczero.cli.testset import found_in, read_test, untuned
from paczero.config import PACZeroConfig
from paczero.config_io import RunSettings
from paczero.distributed import join
from paczero.distributed.base import ProcessGroup, RankLostError, WeightsDivergedError, terminable
from paczero.errors import IntegrityError, PACZeroError
from paczero.report.summary import Summary, summary_path, write_decisions, write_summary
from paczero.run_directory import RunDirectory

if TYPE_CHECKING:
    from paczero.data.encoding import EncodedDataset
    from paczero.data.tasks.base import Predictions
    from paczero.training.trainer import PACZeroTrainer


def make_trainer(
    settings: RunSettings,
    *,
    live: Live,
    resume: bool = False,
    secret: str | Path | None = None,
    model: str | None = None,
) -> "PACZeroTrainer":
    """The trainer of these settings, for a place that is free or a run that can go on.

    Args:
        settings, live, resume, secret, model: as in `train_run`.

    Raises:
        PACZeroError: anything that cannot be used, in one line.
    """
    run = RunDirectory(Path(settings.args.output_dir))
    dev = settings.data.dev or settings.data.dev_records
    if dev is None and (settings.args.metric_for_best_model or settings.args.threshold != "none"):
        raise PACZeroError(
            f"data.dev: none was given, but metric_for_best_model is "
            f"{settings.args.metric_for_best_model!r} and threshold is "
            f"{settings.args.threshold!r}; name records that are not in the pool (or data.dev_records), or leave "
            "them out"
        )
    group = join()
    if not resume:
        group.on_main(lambda: check_place(run))
        return build_trainer(settings, live=live, secret=secret)
    group.on_main(lambda: _require_idle(run))
    with _paths_explained(settings, model):
        return build_trainer(settings, live=live, secret=secret, model=model)


def _require_idle(run: RunDirectory) -> None:
    """Refuses a run that another process holds now, not after the model is loaded."""
    with run.locked():
        if join().size == 1:
            _as_many_threads(run)


def build_trainer(
    settings: RunSettings, *, live: Live, secret: str | Path | None = None, model: str | None = None
) -> "PACZeroTrainer":
    """The trainer of these settings, wherever its run will be; writes nothing.

    Whatever can be checked without the model is checked before it is loaded.

    Raises:
        PACZeroError: anything that cannot be used, in one line.
    """
    check_trackers(settings.args)
    if secret is not None:
        join().on_main(lambda: _require_secret(Path(secret)))
    live.show("reading the records")
    from paczero.data.dataset import make_dataset

    data = read_data(settings)
    for rows, training in ((data.train, True), (data.dev, False), (data.test, False)):
        if rows is not None:
            make_dataset(rows, settings.args.task, training=training)
    keep_quiet()
    from paczero.models.adapters import peft_config_from
    from paczero.training.trainer import PACZeroTrainer

    peft = None if settings.peft is None else peft_config_from(settings.peft)
    live.show(f"loading {model or settings.model}")
    return PACZeroTrainer(
        model or settings.model,
        settings.args,
        data.train,
        data.dev,
        peft_config=peft,
        secret=secret,
        progress=shown(live),
        names={"model": settings.model, "data": asdict(settings.data), "peft": settings.peft},
    )


def train_run(
    settings: RunSettings,
    *,
    live: Live,
    resume: bool = False,
    secret: str | Path | None = None,
    model: str | None = None,
    trainer: "PACZeroTrainer | None" = None,
) -> None:
    """Trains to the end, writes `summary.json` and the report; leaves what is finished already as it is.

    Args:
        settings: of the run; with `resume` those in its `config.yaml`.
        live: where progress is shown.
        resume: go on with the run that is there.
        secret: the secret file of an earlier run to use again.
        model: where the base model of a resumed run lies now, where that is not where it was begun.
        trainer: made by `make_trainer` or `with_args`, its weights at the start; made here where left out.

    Raises:
        PACZeroError: anything that cannot be used, in one line.
        IntegrityError: the run does not belong to these settings, records or model, or was changed.
        KeyboardInterrupt: Ctrl-C or SIGTERM, with a message that says how to go on.
    """
    run, group = RunDirectory(Path(settings.args.output_dir)), join()
    if resume and group.broadcast_from_main(lambda: run.finished and summary_path(run).exists()):
        return
    if not resume:
        group.on_main(lambda: check_place(run))
    watcher = Watcher(live, settings.args.mechanism)
    with terminable(), _resumable(run, watcher, group), within_memory(settings.args, run), group.detect_lost_ranks():
        if trainer is None:
            trainer = make_trainer(settings, live=live, resume=resume, secret=secret, model=model)
        trainer.observers, trainer.progress = [watcher], shown(live)
        _train_and_report(trainer, settings, run, live=live, resume=resume, secret=secret)


def _train_and_report(
    trainer: "PACZeroTrainer",
    settings: RunSettings,
    run: RunDirectory,
    *,
    live: Live,
    resume: bool,
    secret: str | Path | None,
) -> None:
    group = trainer.group
    live.close()
    data = read_data(settings)
    group.on_main(lambda: preflight(trainer, settings, data.notes))
    if secret is not None and group.is_main:
        warn(f"the secret of {str(secret)!r} is used again: what this run leaks adds to what that one leaked")
    test = None if data.test is None else read_test(trainer, data.test)
    before = untuned(trainer, test)
    earlier = group.on_main(lambda: _seconds(run) if resume else 0.0) or 0.0
    seconds = earlier + _train(trainer, run, resume=resume)
    live.close()  # the last step's line stands
    after = None if test is None else found_in(trainer, test, "trained model on the test set")

    def finish() -> None:
        from paczero.report.html import write_report

        write_summary(run, _summarise(trainer, run, test, before, after, seconds))
        if test is not None and after is not None:
            write_decisions(run, test.task.table(test.dataset, test.encoded, after, trainer.threshold))
        live.show("writing the report")
        write_report(run)

    group.on_main(finish)


def check_place(run: RunDirectory) -> None:
    """Refuses a run directory that is not free or cannot be made, before any long work."""
    run.require_free()
    above = run.root.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise PACZeroError(f"output_dir: {str(run.root)!r} cannot be made: {str(above)!r} takes no new directory")


def check_trackers(args: PACZeroConfig) -> None:
    """Refuses trackers that are not installed, before any long work."""
    for name in args.report_to:
        if importlib.util.find_spec(name) is None:
            raise PACZeroError(f"report_to: {name!r} is not installed; `pip install 'paczero[{name}]'` or leave it out")


def _require_secret(path: Path) -> None:
    if not path.is_file():
        raise PACZeroError(f"--secret: {str(path)!r} is no file; expected private/secret.json of an earlier run")


def served_threshold(release: Path) -> float:
    """Where the served binary decision lies, as a difference of scores; a release folder by itself says it.

    Raises:
        IntegrityError: its statement is missing, unreadable or was changed.
    """
    from paczero.release import statement

    return float(statement.read(release / statement.NAME)["threshold"])


def _train(trainer: "PACZeroTrainer", run: RunDirectory, *, resume: bool) -> float:
    """Trains and returns the seconds; a run that was killed after its release only gets its weights back."""
    group = trainer.group
    if not resume or not group.broadcast_from_main(lambda: run.finished):
        return trainer.train(resume_from_checkpoint=resume).seconds
    from paczero.mechanism.transcript import Transcript
    from paczero.release import statement
    from paczero.release.replay import take_steps

    group.on_main(lambda: shutil.rmtree(run.cache, ignore_errors=True))
    chosen, trainer.threshold, transcript = group.broadcast_from_main(
        lambda: (
            statement.read(run.release / statement.NAME)["chosen_step"],
            served_threshold(run.release),
            Transcript.read(run.release / "transcript.jsonl"),
        )
    )
    take_steps(trainer.weights, transcript, until=chosen)
    return 0.0


def _summarise(
    trainer: "PACZeroTrainer",
    run: RunDirectory,
    test: "EncodedDataset | None",
    before: dict[str, Any],
    found: "Predictions | None",
    seconds: float,
) -> Summary:
    """The figures of the finished run, of whose served weights this was found on the test set."""
    import numpy as np

    from paczero.data.metrics import METRIC_OF_KIND
    from paczero.report.run_record import load_run_record

    facts = load_run_record(run)
    if facts.sealed is None:
        raise IntegrityError(facts.problem or f"{run.release}: its statement is missing")
    chosen = facts.sealed["chosen_step"]
    dev = dict(zip(facts.development.steps, facts.development.values, strict=True)) if facts.development else {}
    metric = METRIC_OF_KIND[trainer.args.task.kind]
    shares = dev if metric.name == "accuracy" else {}
    after = majority = None
    if test is not None and found is not None:
        after = test.task.figures(test.dataset, test.encoded, found, trainer.threshold)
        if metric.name == "accuracy":
            majority = float(np.bincount(test.encoded.targets).max() / len(test.dataset))
    return Summary(
        accuracy_before=before.get("accuracy_before"),
        accuracy_before_median=before.get("accuracy_before_median"),
        median_of=before.get("median_of"),
        accuracy_after=None if after is None else after.get("accuracy"),
        test_records=None if test is None else len(test.dataset),
        test_sha256=None if test is None else test.dataset.hash(),
        majority=majority,
        dev_accuracy_before=shares.get(0),
        dev_accuracy_after=shares.get(chosen),
        metric=metric.name,
        test_before=before.get("test_before"),
        test_after=after,
        dev_before=dev.get(0),
        dev_after=dev.get(chosen),
        unanimity=float(np.mean(list(facts.unanimous.values()))) if facts.unanimous else None,
        spent=facts.spent[max(facts.spent)] if facts.spent else 0.0,
        steps=len(facts.y),
        chosen_step=chosen,
        threshold=trainer.threshold,
        seconds=round(seconds, 3),
    )


def _seconds(run: RunDirectory) -> float:
    """What the steps of earlier starts took."""
    from paczero.report.run_record import load_run_record

    return sum(load_run_record(run).seconds.values())


@contextmanager
def _resumable(run: RunDirectory, watcher: Watcher, group: ProcessGroup) -> Iterator[None]:
    """Says on Ctrl-C, or where a process was lost, how to go on, if there is something to go on with."""
    resume = f"paczero train --resume {shlex.quote(str(run.root))}"
    try:
        yield
    except KeyboardInterrupt as error:
        if not run.private.is_dir():
            raise KeyboardInterrupt("interrupted before the run began; nothing was written") from error
        at = f"stopped after {watcher.done:,} steps" if watcher.done else "stopped before the first step"
        raise KeyboardInterrupt(f"{at}; go on with: {resume}{_launched(group)}") from error
    except (RankLostError, WeightsDivergedError) as error:
        raise type(error)(f"{error}; go on with: {resume}{_launched(group)}") from error


def _launched(group: ProcessGroup) -> str:
    return "" if group.size == 1 else " (by a launcher, with any number of processes)"


def _as_many_threads(run: RunDirectory) -> None:
    """Takes as many threads as the run began with, since they decide how sums are rounded."""
    from paczero.mechanism.journal import Journal

    if not run.journal.exists():
        return
    begun = Journal.open(run.journal).header.get("torch_threads")
    import torch

    if isinstance(begun, int) and begun != torch.get_num_threads():
        print(f"{begun} thread{'s' if begun > 1 else ''}, as this run began with", file=sys.stderr)
        torch.set_num_threads(begun)


@contextmanager
def _paths_explained(settings: RunSettings, model: str | None) -> Iterator[None]:
    """Says where a relative path in config.yaml leads to, where a run that goes on does not find what it needs."""
    try:
        yield
    except PACZeroError as error:
        named = {"model": model or settings.model}
        named |= {f"data.{key}": value for key, value in asdict(settings.data).items() if value is not None}
        lost = [key for key, value in named.items() if not Path(value).is_absolute() and not Path(value).exists()]
        if isinstance(error, IntegrityError) or not lost:
            raise
        raise PACZeroError(
            f"{error}. The run's config.yaml names {', '.join(f'{key} {named[key]!r}' for key in lost)}; a relative "
            f"path leads from where the run was begun, which it does not know: cd there, or add --{lost[0]} PATH"
        ) from error


@contextmanager
def within_memory(args: PACZeroConfig, run: RunDirectory | None = None) -> Iterator[None]:
    """Turns what the host's or the GPU's allocator says into one line; nothing is made smaller silently.

    Args:
        args: of the run.
        run: what can go on, once it was begun.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from paczero.models.loading import out_of_memory

        if not out_of_memory(error):
            raise
        smaller, more = max(1, args.batch_tokens // 2), ""
        if run is not None and run.private.is_dir():
            more = f"go on where there is more: paczero train --resume {shlex.quote(str(run.root))}; or "
        raise PACZeroError(
            f"out of memory with batch_tokens {args.batch_tokens}; {more}begin again with --batch_tokens {smaller} "
            "(micro-batches are fixed for a run), or keep less in memory: --cache_bytes, --dtype bfloat16"
        ) from error
