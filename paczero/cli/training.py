"""One run from settings to report; `paczero train` and `paczero demo` call the same function.

    with Live() as live:
        job = make_job(settings, live=live)
        train_run(settings, live=live, job=job)
        train_run(other_settings, live=live, job=job.with_args(other_settings.args))    # another mechanism

All processes of a run call these functions. Work of rank 0 alone is inside `group.on_main` or
`group.broadcast_from_main`.
"""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.console import Live, ProgressCallback, keep_quiet, shown, warn
from paczero.cli.preflight import preflight
from paczero.config import PACZeroConfig
from paczero.config_io import RunSettings
from paczero.data.loading import is_file_name
from paczero.distributed import join
from paczero.distributed.base import ProcessGroup, RankLostError, WeightsDivergedError, terminable
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.journal import Journal
from paczero.mechanism.registry import spec_of
from paczero.report.summary import Summary, summary_path, write_decisions, write_summary
from paczero.run_directory import RunDirectory

if TYPE_CHECKING:
    from paczero.data.dataset import Dataset
    from paczero.data.encoding import EncodedDataset
    from paczero.data.tasks.base import Predictions
    from paczero.training.trainer import PACZeroTrainer


@dataclass(frozen=True)
class Job:
    """What a run is made of, once everything was read and checked.

    Attributes:
        trainer: with its weights at the start.
        test: records that are scored before and after; None without a test set.
        notes: remarks on the draw of the records and on the test set, a sentence each.
    """

    trainer: "PACZeroTrainer"
    test: "Dataset | None" = None
    notes: tuple[str, ...] = ()

    def shared(self) -> list[str]:
        """How many records of dev and test set share a unit or a text with the pool, a sentence a set that has some.

        Raises:
            PACZeroError: some do, and the mechanism is a differentially private one.
        """
        trainer = self.trainer
        sets = {"dev set": None if trainer.dev is None else trainer.dev.dataset, "test set": self.test}
        pairs = ((what, records) for what, records in sets.items() if records is not None)
        found = (trainer.shared(what, records) for what, records in pairs)
        return [sentence for sentence in found if sentence is not None]

    def with_args(self, args: PACZeroConfig) -> "Job":
        """The same records and model under other settings; see `PACZeroTrainer.with_args`."""
        made = replace(self, trainer=self.trainer.with_args(args))
        made.shared()
        return made


def make_job(
    settings: RunSettings,
    *,
    live: Live,
    resume: bool = False,
    secret: str | Path | None = None,
    model: str | None = None,
) -> Job:
    """Reads the records and the model of a run, for a free output directory or a run that can be resumed.

    Args:
        settings, live, resume, secret, model: as in `train_run`.

    Raises:
        PACZeroError: anything that cannot be used, in one line.
    """
    run, group = RunDirectory(Path(settings.args.output_dir)), join()
    if not resume:
        group.on_main(lambda: check_place(run))
        return build_job(settings, live=live, secret=secret)
    group.on_main(lambda: _require_resumable(run))
    try:
        return build_job(settings, live=live, secret=secret, model=model)
    except PACZeroError as error:
        lost = _lost_paths(settings, model)
        if isinstance(error, IntegrityError) or not lost:
            raise
        named = ", ".join(f"{key} {value!r}" for key, value in lost.items())
        raise PACZeroError(
            f"{error}. The run's config.yaml names {named}, which {'is' if len(lost) == 1 else 'are'} not in "
            f"{str(Path.cwd())!r}; go to the directory where the run was begun, or add "
            f"{' '.join(f'--{key} PATH' for key in lost)}"
        ) from error


def _require_resumable(run: RunDirectory) -> None:
    """Refuses a run that another process holds, or whose journal this version cannot continue, before any long work."""
    with run.locked():
        if run.journal.exists() and not run.finished:
            Journal.open(run.journal)


def _lost_paths(settings: RunSettings, model: str | None) -> dict[str, str]:
    """The relative paths in a run's config.yaml that lead nowhere from here; names of the hub are not among them."""
    from huggingface_hub import constants

    named = {f"data.{name}": getattr(settings.data, name) for name in ("train", "dev", "test")}
    lost = {key: value for key, value in named.items() if value is not None and is_file_name(value)}
    base = model or settings.model
    if not Path(constants.HF_HUB_CACHE, f"models--{base.replace('/', '--')}").is_dir():
        lost = {"model": base, **lost}
    return {key: value for key, value in lost.items() if not Path(value).is_absolute() and not Path(value).exists()}


def build_job(settings: RunSettings, *, live: Live, secret: str | Path | None = None, model: str | None = None) -> Job:
    """Reads the records and the model of a run; writes nothing.

    Raises:
        PACZeroError: anything that cannot be used, in one line.
    """
    live.show("reading the records")
    from paczero.data.encoding import read_dataset
    from paczero.data.overlap import require_apart
    from paczero.data.splits import read_splits

    task = settings.args.task
    splits = read_splits(settings.data, settings.args)
    pool = read_dataset(splits.train, task, training=True)
    dev, test = (None if rows is None else read_dataset(rows, task) for rows in (splits.dev, splits.test))
    shared = None if test is None else require_apart(settings.args, "test set", pool, test)
    keep_quiet()
    from paczero.models.adapters import peft_config_from
    from paczero.models.loading import pick_device
    from paczero.training.callbacks import check_trackers
    from paczero.training.trainer import PACZeroTrainer

    check_trackers(settings.args.report_to)
    peft_config = None if settings.peft is None else peft_config_from(settings.peft)
    pick_device(join().device(settings.args.device))
    live.show(f"loading {model or settings.model}")
    trainer = PACZeroTrainer(
        model or settings.model,
        settings.args,
        pool,
        dev,
        peft_config=peft_config,
        secret=secret,
        progress=shown(live),
        names={"model": settings.model, "data": asdict(settings.data), "peft": settings.peft},
    )
    return Job(trainer, test, (*splits.notes, *([] if shared is None else [f"{shared}."])))


def train_run(
    settings: RunSettings,
    *,
    live: Live,
    resume: bool = False,
    secret: str | Path | None = None,
    model: str | None = None,
    job: Job | None = None,
) -> None:
    """Trains to the end, writes `summary.json` and the report; leaves a finished run unchanged.

    Args:
        settings: of the run; with `resume` those in its `config.yaml`.
        live: where progress is shown.
        resume: go on with the run that is there.
        secret: the secret file of an earlier run to use again.
        model: path of the base model of a resumed run, where it has moved.
        job: made by `make_job`, its weights at the start; made here where left out.

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
    line = ProgressCallback(live, settings.args.mechanism)
    with terminable(), _resumable(run, line, group), within_memory(settings.args, run), group.detect_lost_ranks():
        if job is None:
            job = make_job(settings, live=live, resume=resume, secret=secret, model=model)
        job.trainer.observers, job.trainer.progress = [line], shown(live)
        _train_and_report(job, settings, run, live=live, resume=resume)


def _train_and_report(job: Job, settings: RunSettings, run: RunDirectory, *, live: Live, resume: bool) -> None:
    trainer, group = job.trainer, job.trainer.group
    live.close()
    group.on_main(lambda: preflight(trainer, settings, job.notes))
    from paczero.inference.evaluation import find_with_trainer, untuned_metrics

    test = None if job.test is None else trainer.prepare(job.test)
    for note in test.cut_notes if test is not None and group.is_main else ():
        warn(f"test set: {note}")
    before = untuned_metrics(trainer, test)
    seconds = _train(trainer, run, resume=resume)
    live.close()  # the last step's line stands
    after = None if test is None else find_with_trainer(trainer, test, "trained model on the test set")

    def finish() -> None:
        from paczero.report.html import write_report

        write_summary(run, _summarise(job, run, test, before, after, seconds))
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


def _train(trainer: "PACZeroTrainer", run: RunDirectory, *, resume: bool) -> float:
    """Trains and returns the seconds; a run that was killed after its release only gets its weights back."""
    if not resume or not trainer.group.broadcast_from_main(lambda: run.finished):
        return trainer.train(resume_from_checkpoint=resume).seconds
    from paczero.training.callbacks import Diagnostics

    trainer.group.on_main(lambda: shutil.rmtree(run.cache, ignore_errors=True))
    trainer.load_released()
    with closing(Diagnostics(run.diagnostics)) as earlier:
        return earlier.seconds


def _summarise(
    job: Job,
    run: RunDirectory,
    test: "EncodedDataset | None",
    before: dict[str, Any],
    found: "Predictions | None",
    seconds: float,
) -> Summary:
    """The metrics of the finished run; `found` are the served weights' predictions on the test set."""
    import numpy as np

    from paczero.data.metrics import METRIC_OF_KIND
    from paczero.report.run_record import RunRecord

    trainer, facts = job.trainer, RunRecord.load(run)
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
        shared=job.shared(),
    )


@contextmanager
def _resumable(run: RunDirectory, line: ProgressCallback, group: ProcessGroup) -> Iterator[None]:
    """Adds the command that resumes the run to the error of a Ctrl-C or a lost process."""
    launched = "" if group.size == 1 else " (by a launcher, with any number of processes)"
    resume = f"paczero train --resume {shlex.quote(str(run.root))}{launched}"
    try:
        yield
    except KeyboardInterrupt as error:
        if not run.private.is_dir():
            raise KeyboardInterrupt("interrupted before the run began; nothing was written") from error
        at = f"stopped after {line.done:,} steps" if line.done else "stopped before the first step"
        raise KeyboardInterrupt(f"{at}; go on with: {resume}") from error
    except (RankLostError, WeightsDivergedError) as error:
        raise type(error)(f"{error}; go on with: {resume}") from error


@contextmanager
def within_memory(args: PACZeroConfig, run: RunDirectory | None = None) -> Iterator[None]:
    """Turns an out-of-memory error of the host or the GPU into one line; nothing is made smaller silently.

    Args:
        args: settings of the run.
        run: the run, which can be resumed once it was begun.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from paczero.models.loading import out_of_memory

        if not out_of_memory(error):
            raise
        smaller, more = max(1, args.batch_tokens // 2), ""
        half = "" if spec_of(args.mechanism.name).is_dp else ", --dtype bfloat16"
        if run is not None and run.private.is_dir():
            more = f"go on where there is more: paczero train --resume {shlex.quote(str(run.root))}; or "
        raise PACZeroError(
            f"out of memory with batch_tokens {args.batch_tokens}; {more}begin again with --batch_tokens {smaller} "
            f"(micro-batches are fixed for a run), or keep less in memory: --cache_bytes{half}"
        ) from error
