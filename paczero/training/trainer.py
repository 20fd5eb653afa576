"""The trainer that users call: `PACZeroTrainer`, in the manner of transformers and TRL.

    from paczero import PACZeroConfig, PACZeroTrainer
    trainer = PACZeroTrainer(
        model="models/SmolLM2-135M-Instruct",
        args=PACZeroConfig(output_dir="runs/mine", max_steps=300),
        train_dataset="pool.csv",
        eval_dataset="dev.csv",
        peft_config=LoraConfig(target_modules=["q_proj"]),
    )
    trainer.train()
    trainer.evaluate()     # {"eval_accuracy": 0.79, "eval_loss": 0.51, "eval_threshold": 0.0}

The path is prepare, measure, release, update, publish: `paczero.data` encodes the records, `training.loop` trains with
what `training.factory` makes, `release.publish` writes the release. Several processes that a launcher started share the
work; rank 0 alone has the run's directory. Paper: arXiv 2605.06505.
"""

import contextlib
import copy
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from paczero.config import PACZeroConfig, require_float32
from paczero.data.dataset import Dataset
from paczero.data.encoding import EncodedDataset, context_length, prepare, read_dataset
from paczero.data.metrics import METRIC_OF_KIND
from paczero.data.overlap import require_apart
from paczero.distributed import join
from paczero.engine.cost import Cost, estimate
from paczero.engine.generation import Generator
from paczero.engine.scorer import Scorer
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.mechanism.secret import EarlierRuns, read_record
from paczero.mechanism.transcript import Transcript
from paczero.models.adapters import attach, peft_settings
from paczero.models.layers import first_trained_layer, has_experts
from paczero.models.loading import base_fingerprint, load
from paczero.optim.parameters import WeightEMA
from paczero.optim.precision import check_update_precision
from paczero.release import statement
from paczero.release.publish import publish_release, save_weights
from paczero.release.replay import take_steps
from paczero.release.statement import Development
from paczero.run_directory import RunDirectory
from paczero.training.callbacks import RunCallbacks, check_callbacks, check_trackers
from paczero.training.candidates import BuildProgress, find_candidates
from paczero.training.clip import dev_derivatives, measured_log_odds, measured_of_run, median_clip, sign_note
from paczero.training.evaluation import Evaluator, evaluate_once, make_generator
from paczero.training.factory import check_fit, make_batches, make_objective, make_scorer, make_weights
from paczero.training.loop import DevResult, Loop, Observer, Outcome, Schedule
from paczero.training.reuse import earlier_runs, run_of
from paczero.training.state import (
    RunState,
    journal_header,
    open_journal,
    run_identity,
    secret_facts,
    transcript_header,
    write_initial_files,
)
from paczero.utils.io import owners_directory

if TYPE_CHECKING:
    from peft import PeftConfig


_LOG = logging.getLogger(__name__)
_KEPT_INITIAL = 2**26  # trained weights up to this many are kept as they began, so that `with_args` can go back


@dataclass(frozen=True)
class TrainResult:
    """What `train` ended with.

    Attributes:
        output_dir: the run directory; `release/` in it may be published.
        steps: updates taken.
        chosen_step: the step whose weights are served.
        unanimity: share of releases on which all candidates agreed (the owner's to know), 0 to 1; None where none are
            asked, and on all ranks but the first.
        seconds: of all steps and evaluations, those of earlier starts of the run included.
        statement: the content of `release/privacy.json`.
        dev: every evaluation on the dev set.
    """

    output_dir: Path
    steps: int
    chosen_step: int
    unanimity: float | None
    seconds: float
    statement: dict[str, Any]
    dev: list[DevResult]


class PACZeroTrainer:
    """Fine-tunes a causal language model so that what is released hides which half of the pool was the secret one.

    In a script that `torchrun` or `accelerate launch` starts as several processes, each makes a trainer and calls the
    same methods in the same order; all get the same results, and rank 0 writes the files.

    Args:
        model: a hub id, a local directory, or a loaded transformers model.
        args: every setting; see `PACZeroConfig`.
        train_dataset: the pool, whose records are protected: a csv, tsv, jsonl or parquet file, a hub name, a
            `datasets.Dataset`, or a sequence of mappings.
        eval_dataset: the dev set, of the same kinds, disjoint from the pool; its records are not protected.
        processing_class: the tokenizer; the model's own where left out.
        peft_config: a `peft.LoraConfig` without dropout; full tuning where left out.
        callbacks: `transformers.TrainerCallback` objects or classes.
        secret: RUN/private/secret.json of a finished run, to use its secret again; budgets then add up.
        observers: told of each step and evaluation; they see what must stay with the owner.
        progress: called with (what, done, of) during long work before the first step.
        names: what RUN/config.yaml says of model, data and peft, where those were named on a command line; the base
            model is released under the name given here, wherever it lies now.

    Raises:
        PACZeroError: anything that cannot be used, in one line, before any long work.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: PACZeroConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: "PeftConfig | None" = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        *,
        secret: str | Path | None = None,
        observers: Sequence[Observer] = (),
        progress: BuildProgress = lambda what, done, total: None,
        names: Mapping[str, Any] | None = None,
    ):
        if not isinstance(args, PACZeroConfig | None):
            raise PACZeroError(f"args: a {type(args).__name__} was given; expected a paczero.PACZeroConfig")
        self.args = args or PACZeroConfig()
        self.group = join()
        self._callbacks, self._secret = list(callbacks or ()), secret
        self._earlier: EarlierRuns | None = None  # on rank 0 alone
        self.observers, self.progress = list(observers), progress
        self._check_arguments(train_dataset, eval_dataset, peft_config)
        pool = read_dataset(train_dataset, self.args.task, training=True)
        dev = None if eval_dataset is None else read_dataset(eval_dataset, self.args.task)
        if dev is not None:
            require_apart(self.args, "dev set", pool, dev)
        base, self.processing_class = load(
            model,
            dtype=self.args.dtype,
            device=self.group.device(self.args.device),
            tokenizer=processing_class,
            engine=self.args.engine,
            keep=self.args.train_layers or (),
        )
        for dtype in {str(p.dtype).removeprefix("torch.") for p in base.parameters()}:
            require_float32("model", dtype, self.args.mechanism.name)
        if spec_of(self.args.mechanism.name).isolates_units and has_experts(base):
            raise PACZeroError(
                f"model: one with experts was given with mechanism.name {self.args.mechanism.name!r}; expected a dense "
                "model, as an expert's results for a record depend on the records that share its batch"
            )
        given = {"train": train_dataset, "dev": eval_dataset, "test": None}
        paths = {key: str(value) if isinstance(value, str | Path) else None for key, value in given.items()}
        self._names = {"data": paths, **(names or {})}
        loaded = model if isinstance(model, str) else str(base.config._name_or_path or type(base).__name__)
        self._base = {
            "id": self._names.get("model", loaded),
            "sha256": base_fingerprint(base),
            "dtype": str(base.dtype).removeprefix("torch."),
        }
        self._context = context_length(base)
        self.pool = self.prepare(pool)
        self.dev = None if dev is None else self.prepare(dev)
        self._peft = None if peft_config is None else peft_settings(peft_config)
        self.model, self._trained = attach(
            base, peft_config=peft_config, train_layers=self.args.train_layers, seed=self.args.seed
        )
        self._first_layer = first_trained_layer(self.model, list(self._trained))
        self._scorers: dict[tuple[str, bool], Scorer] = {}
        self._begin()
        self._initial = self.weights.snapshot() if self.weights.elements <= _KEPT_INITIAL else None
        self._moved = False

    def _check_arguments(self, train_dataset: Any, eval_dataset: Any, peft_config: Any) -> None:
        """Refuses what cannot work before anything is read or loaded."""
        args = self.args
        if train_dataset is None:
            raise PACZeroError("train_dataset: none was given; expected a file, a hub name or a dataset with the pool")
        if eval_dataset is None and (args.metric_for_best_model or args.threshold != "none"):
            raise PACZeroError(
                f"eval_dataset: none was given, but metric_for_best_model is {args.metric_for_best_model!r} and "
                f"threshold is {args.threshold!r}; give a dev set (data.dev or data.dev_records), or leave them out"
            )
        if dropout := getattr(peft_config, "lora_dropout", 0):
            raise PACZeroError(
                f"peft.lora_dropout: {dropout} was given; expected 0, since forward passes are deterministic"
            )
        if eval_dataset is None and args.mechanism.clip == "auto":
            raise PACZeroError(
                "mechanism.clip: auto was given without a dev set, whose records are not protected; give a dev set "
                "(data.dev or data.dev_records), or the clip as a number"
            )
        if eval_dataset is None and args.mechanism.individual:
            raise PACZeroError(
                "mechanism.individual: true was given without a dev set, whose records are not protected and say what "
                "a unit spends; give a dev set (data.dev or data.dev_records), or leave it out"
            )
        if self._secret is not None:
            self.group.on_main(partial(run_of, self._secret))
        if args.cache_dir is not None:
            owners_directory("cache_dir", args.cache_dir)
        check_callbacks(self._callbacks)
        check_trackers(args.report_to)

    def _begin(self) -> None:
        """What depends on settings that `with_args` may change."""
        self.run = RunDirectory(Path(self.args.output_dir))
        self.weights = make_weights(self._trained, self.args)
        self.threshold = 0.0
        check_fit(self.args, self.pool)
        self._batches = make_batches(self.pool, self.args, self.model, isolated=self._isolated(self.pool))
        self._rounding = check_update_precision(self.weights, self.args)
        self.header = transcript_header(
            self.args, base=self._base, peft=self._peft, weights=self.weights, units=self.pool.dataset.units
        )
        dev = None if self.dev is None else self.dev.dataset
        if (facts := self.group.broadcast_from_main(self._find_earlier)) is not None:
            self.header |= facts
        if self.group.size > 1:
            self.group.assert_equal(run_identity(self.args, self.header, self.pool.dataset, dev, self._batches))
        self._journal_header = journal_header(self.args, self.header, self.pool.dataset, dev)

    def _find_earlier(self) -> dict[str, Any] | None:
        """Reads what earlier runs told about the secret, on rank 0; returns what the header says of it, if anything."""
        if self._secret is not None:
            self._earlier = earlier_runs(self._secret, self.args)
            return {"secret_id": read_record(self._secret).secret_id, "prior_budgets": list(self._earlier.budgets)}
        return secret_facts(self.run) if self.run.journal.is_file() and not self.run.finished else None

    # -- what users call -----------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> TrainResult:
        """Runs to the end and publishes RUN/release; an interrupted run goes on where it was.

        Args:
            resume_from_checkpoint: True, or the path of the run in `output_dir`, goes on with it; None or False begins
                a new run there.

        Raises:
            PACZeroError: the directory is in use, not empty, or holds no run to resume; or another path was given.
            IntegrityError: what is in it does not belong to this pool, model and settings, or was changed.
        """
        resume = bool(resume_from_checkpoint)
        if resume and resume_from_checkpoint is not True:
            given = Path(str(resume_from_checkpoint))
            if given.resolve() != self.run.root.resolve():
                raise PACZeroError(
                    f"resume_from_checkpoint: {str(given)!r} was given, but output_dir is {str(self.run.root)!r}; a "
                    "run goes on in its own directory, so set output_dir to it"
                )
        with contextlib.ExitStack() as held, self.group.detect_lost_ranks():
            self.group.on_main(lambda: self._open_directory(held, resume=resume))
            return self._train()

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Metrics of the weights as they stand: loss, and accuracy at the run's threshold, or F1 and exact match.

        Args:
            eval_dataset: records with labels or answers, of any kind that `train_dataset` takes; the dev set where
                left out.
            metric_key_prefix: of the keys that are returned.
        """
        records = self.dev if eval_dataset is None else self.prepare(eval_dataset)
        if records is None:
            raise PACZeroError("eval_dataset: none was given here or to the trainer; expected labelled records")
        figures = self.evaluator(records).figures(threshold=self.threshold)
        if self.args.task.kind == "classification":
            figures["threshold"] = self.threshold
        return {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}

    def predict(self, dataset: Any) -> np.ndarray | list[str]:
        """Scores of every label word (R, C): mean token log-probability up to a constant per record; float64.

        For a task with answers the R generated texts; for conversations the completions' scores (R, 1).
        """
        found = self.evaluator(self.prepare(dataset)).find()
        return found.scores if found.texts is None else found.texts

    def save_model(self, output_dir: str | Path | None = None) -> Path:
        """Saves the weights as they stand: a PEFT adapter, or the whole model with its tokenizer.

        `train` has already put them into RUN/release; this is for another place. Returns the directory.
        """
        folder = Path(output_dir) if output_dir is not None else self.run.root / "saved"
        save = partial(save_weights, self.model, self.processing_class, folder, base=self._base["id"])
        self.group.on_main(save)
        return folder

    def estimate(self) -> Cost:
        """Tokens, time and memory of the run, from one timed micro-batch; memory is that of each process."""
        cost = estimate(
            self.model,
            self._batches,
            self.pool.continuations,
            first_layer=self._first_layer,
            elements=self.weights.elements,
            args=self.args,
            generator=self._generator(self.pool) if self._trains_on_f1 else None,
        )
        return cost.shared(self.group.size, len(self._batches))

    def with_args(self, args: PACZeroConfig) -> "PACZeroTrainer":
        """The same model, records and cached states under other settings; the weights go back to where they began.

        The two trainers share one model: use one at a time.

        Raises:
            PACZeroError: a setting differs that model, records or caches depend on.
        """
        for name in ("task", "dtype", "device", "train_layers", "batch_tokens", "seed"):
            if getattr(args, name) != getattr(self.args, name):
                raise PACZeroError(f"{name}: differs from the trainer's; expected the same. Make a new trainer")
        if self.dev is not None:
            require_apart(args, "dev set", self.pool.dataset, self.dev.dataset)
        if self._initial is None:
            raise PACZeroError("with_args: too many weights train to keep their beginning; make a new trainer")
        self.weights.load(self._initial)
        other = copy.copy(self)
        other.args = args
        other._begin()
        return other

    def load_released(self) -> None:
        """Puts the weights that the finished run in `output_dir` serves in place.

        Raises:
            IntegrityError: the release was changed.
        """
        document, transcript = self.group.broadcast_from_main(self._read_release)
        take_steps(self.weights, transcript, until=document["chosen_step"])
        if self.weights.fingerprint() != document["weights_sha256"]:
            raise IntegrityError(f"{self.run.release}: its transcript gives other weights than it states; restore it")
        self.threshold = float(document["threshold"])

    @property
    def notes(self) -> list[str]:
        """What should be known about the records before hours are spent, a sentence each."""
        notes = self.pool.notes
        if self.dev is not None:
            notes = [*notes, *(f"Dev set: {note}" for note in self.dev.notes)]
            if (shared := self.shared("dev set", self.dev.dataset)) is not None:
                notes.append(f"{shared}; it must be disjoint to mean anything.")
        return [*notes, *self._rounding]

    def shared(self, what: str, records: Dataset) -> str | None:
        """How many of the records share a unit or a text with the pool, as a sentence; None for none.

        Raises:
            PACZeroError: some do, and the mechanism is a differentially private one.
        """
        return require_apart(self.args, what, self.pool.dataset, records)

    def dev_derivatives(self, dev: EncodedDataset) -> np.ndarray:
        """Derivatives of the dev set's units along 8 public directions, float64 (n, 8)."""
        source = self._generator(dev) if self._trains_on_f1 else self.scorer(dev, "dev set")
        return dev_derivatives(self.args, make_objective(source, dev), self._trained, self.progress)

    def measured_settings(self, measured: np.ndarray) -> dict[str, float]:
        """What the dev set's derivatives decide of the mechanism: the clip, ε₀, or nothing."""
        chosen, found = self.args.mechanism, dict[str, float]()
        if chosen.clip == "auto":
            found["clip"] = median_clip(self.args, measured)
        if chosen.individual:
            stated, count = self.header["mechanism"] | found, self.args.max_steps * self.args.directions
            found["eps0"] = measured_log_odds(measured, clip=stated["clip"], rho=stated["rho"], count=count)
        return found

    def sign_note(self, measured: np.ndarray) -> str | None:
        """A remark on how much of the sum's signal a bit of `dp-sign` carries, where it is less than half."""
        stated, units = self.header["mechanism"] | self.measured_settings(measured), self.pool.dataset.units
        if "eps0" not in stated:
            return None
        return sign_note(measured, stated["clip"], stated["eps0"], units, self.args.max_steps)

    def evaluator(self, records: EncodedDataset, what: str = "records") -> Evaluator:
        """What judges these records with the weights as they stand."""
        generator = self._generator(records, what) if records.task.generates else None
        return Evaluator(records, self.scorer(records, what), generator, self.processing_class)

    def scorer(self, records: EncodedDataset, what: str = "records") -> Scorer:
        """The scorer of these records; what lies below the trained layers is computed once and kept."""
        key = (records.dataset.hash(), self._isolated(records))
        if key not in self._scorers:
            self.group.assert_equal({what: key[0]})
            self._scorers[key] = make_scorer(
                self.model,
                records,
                self.args,
                batches=self._batches if records is self.pool else None,
                first_layer=self._first_layer,
                cache=self._cache(),
                progress=partial(self.progress, f"hidden states, {what}"),
                group=self.group,
                base=self._base["sha256"],
            )
        return self._scorers[key]

    # -- one run -------------------------------------------------------------------------------------------------------

    def _open_directory(self, held: contextlib.ExitStack, *, resume: bool) -> None:
        """Makes or finds the run's directory and holds it."""
        if resume:
            self.run.require_run()
        else:
            named = {"model": self._base["id"], "peft": self._peft, **self._names}
            reused = None if self._secret is None or self._earlier is None else (self._secret, self._earlier)
            self.run.create(lambda staged: write_initial_files(staged, self.args, named, reused))
        held.enter_context(self.run.locked())
        if self.run.reused.exists():
            raise PACZeroError(
                f"{str(self.run.root)!r}: a later run uses its secret again, so it releases no more; begin a new run"
            )
        if self.run.finished:
            raise PACZeroError(f"{str(self.run.root)!r} holds a finished run; choose another output_dir")

    def _train(self) -> TrainResult:
        started = time.perf_counter()
        with contextlib.ExitStack() as until:
            begin = partial(RunCallbacks.begin, until, self.run, self.args, self._callbacks, self.observers)
            callbacks = self.group.on_main(lambda: begin(self.model, self.processing_class))
            outcome, state = self._loop(callbacks)
            published = self._publish(outcome)
        # The pool's text in another form; a mapping in use stays.
        self.group.on_main(lambda: shutil.rmtree(self.run.cache, ignore_errors=True))
        flags = [] if state is None else [flag for entry in state.journal.entries for flag in entry["unanimous"]]
        earlier = 0.0 if callbacks is None else callbacks.diagnostics.seconds
        return TrainResult(
            output_dir=self.run.root,
            steps=outcome.done,
            chosen_step=outcome.chosen,
            unanimity=float(np.mean(flags)) if flags and spec_of(self.args.mechanism.name).candidates else None,
            seconds=earlier + time.perf_counter() - started,
            statement=published,
            dev=outcome.dev,
        )

    def _loop(self, callbacks: RunCallbacks | None) -> tuple[Outcome, RunState | None]:
        args = self.args
        self._restart()
        self.header = self.header | self.group.broadcast_from_main(partial(secret_facts, self.run))
        self._settle_clip()
        dev = None if self.dev is None else self.dev.dataset
        self._journal_header = journal_header(self.args, self.header, self.pool.dataset, dev)
        open_first = partial(open_journal, self.run, self._journal_header, alone=self.group.size == 1)
        journal = self.group.on_main(open_first)
        source = self._generator(self.pool) if self._trains_on_f1 else self.scorer(self.pool, "pool")
        objective = make_objective(source, self.pool)
        objective.scorer.check()
        base = self._base["sha256"]
        candidates = find_candidates(
            self.run.candidates, args, objective, self._trained, self.pool, self.progress, base
        )

        def open_state() -> RunState:
            membership = None if candidates is None else candidates()
            return RunState.open(self.run, args, self.header, self._journal_header, journal, membership)

        state = self.group.on_main(open_state)
        evaluate = None
        if self.dev is not None:
            known = {} if callbacks is None else callbacks.diagnostics.dev
            evaluator = self.evaluator(self.dev, "dev set")
            evaluate = partial(evaluate_once, evaluator, known, median=args.threshold == "median")
        loop = Loop(
            objective,
            self.weights,
            state,
            schedule=Schedule.of(args),
            average=WeightEMA(self.weights, args.ema_decay) if args.ema_decay else None,
            evaluate=evaluate,
            observers=[] if callbacks is None else callbacks.all,
            stop=lambda: callbacks is not None and callbacks.transformers.stop,
            group=self.group,
            check_steps=args.engine.check_steps,
        )
        return loop.run(), state

    def _settle_clip(self) -> None:
        """Puts what the dev set decides in the header: as the run that goes on has it, or measured now."""
        chosen = self.args.mechanism
        names = [name for name, on in (("clip", chosen.clip == "auto"), ("eps0", chosen.individual)) if on]
        if self.dev is None or not (names or "eps0" in self.header["mechanism"]):
            return
        found = self.group.broadcast_from_main(partial(measured_of_run, self.run.staged_transcript, names))
        if found is None:
            measured = self.dev_derivatives(self.dev)
            found = self.measured_settings(measured)
            if note := self.sign_note(measured):
                self.group.on_main(lambda: _LOG.warning("dp-sign: %s", note))
        self.header = {**self.header, "mechanism": {**self.header["mechanism"], **found}}

    def _restart(self) -> None:
        """Puts the weights where every run begins, which an earlier one on this model has left."""
        if self._initial is not None:
            self.weights.load(self._initial)
        elif self._moved:
            raise PACZeroError(
                "train: an earlier call moved the weights and they are too many to be kept; make a new trainer"
            )
        self._moved = True

    def _publish(self, outcome: Outcome) -> dict[str, Any]:
        if outcome.diverged is not None:
            text = (
                f"training: {outcome.diverged}, so the run has diverged and ends after {outcome.done:,} of "
                f"{self.args.max_steps:,} steps; the weights of step {outcome.chosen:,} serve; a smaller learning_rate "
                "or dtype float32 may train to the end"
            )
            self.group.on_main(lambda: _LOG.warning("%s", text))
        chosen = [result for result in outcome.dev if result.done == outcome.chosen]
        self.threshold = chosen[0].threshold if chosen else 0.0
        publish = partial(
            publish_release,
            self.run,
            self.model,
            self.processing_class,
            self.header,
            chosen_step=outcome.chosen,
            weights_sha256=self.weights.fingerprint(),
            threshold=self.threshold,
            development=None if self.dev is None else _development(outcome, len(self.dev.dataset), self.args),
            task=self.args.task,
            license=self.args.license,
        )
        return self.group.broadcast_from_main(publish)

    def _read_release(self) -> tuple[dict[str, Any], Transcript]:
        release = self.run.release
        return statement.read(release / statement.NAME), Transcript.read(release / "transcript.jsonl")

    def prepare(self, source: Any) -> EncodedDataset:
        """Reads, checks and encodes records as this trainer's model takes them."""
        return prepare(source, self.args.task, self.processing_class, context=self._context)

    def _cache(self) -> Path | None:
        """Where hidden states are kept: the place that runs share, the run's own, or memory alone."""
        if self.args.cache_dir is not None:
            return Path(self.args.cache_dir).expanduser()
        return self.run.cache if self.run.private.is_dir() else None

    def _isolated(self, records: EncodedDataset) -> bool:
        """Whether a unit's derivative must be a function of that unit alone."""
        return records is self.pool and spec_of(self.args.mechanism.name).isolates_units

    @property
    def _trains_on_f1(self) -> bool:
        return self.args.task.objective == "f1"

    def _generator(self, records: EncodedDataset, what: str | None = None) -> Generator:
        progress = None if what is None else partial(self.progress, f"answers, {what}")
        return make_generator(
            self.model,
            records,
            self.args,
            self.processing_class,
            group=self.group,
            progress=progress,
            isolated=self._isolated(records),
        )


def _development(outcome: Outcome, records: int, args: PACZeroConfig) -> Development:
    """What the release says of the dev set, whose records are not protected."""
    metric = METRIC_OF_KIND[args.task.kind]
    uses = {"the served step": args.metric_for_best_model is not None, "the threshold": args.threshold != "none"}
    return Development(
        steps=tuple(result.done for result in outcome.dev),
        values=tuple(result.figures[metric.name] for result in outcome.dev),
        metric=metric.name,
        records=records,
        used_for=tuple(use for use, on in uses.items() if on),
    )
