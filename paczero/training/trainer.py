"""The trainer that users call: `PACZeroTrainer`, in the manner of transformers and TRL.

>>> from paczero import PACZeroConfig, PACZeroTrainer
>>> trainer = PACZeroTrainer(
...     model="models/SmolLM2-135M-Instruct", args=PACZeroConfig(output_dir="runs/mine", max_steps=300),
...     train_dataset="pool.csv", eval_dataset="dev.csv", peft_config=LoraConfig(target_modules=["q_proj"]),
... )                       # doctest: +SKIP
>>> trainer.train()         # doctest: +SKIP
>>> trainer.evaluate()      # doctest: +SKIP
{'eval_accuracy': 0.79, 'eval_loss': 0.51, 'eval_threshold': 0.0}

The façade knows everything and does nothing itself: `assembly` makes the parts, `zeroth.trainer` runs the loop,
`publish` writes the release. Several processes that a launcher started share the work; rank 0 alone has the run's
directory. Paper: arXiv 2605.06505.

What training ends with, for whoever called `PACZeroTrainer.train`.
"""

import contextlib
import copy
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from paczero.config import PACZeroConfig
from paczero.data.encoding import EncodedDataset, encode_records, notes_on, read_dataset, read_records
from paczero.data.metrics import METRIC_OF_KIND
from paczero.distributed import join
from paczero.engine.cost import Cost, estimate
from paczero.engine.generation import Generator
from paczero.engine.scorer import Scorer
from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.models.adapters import attach, peft_settings
from paczero.models.layers import first_trained_layer, plain
from paczero.models.loading import base_fingerprint, load
from paczero.optim.derivatives import Objective
from paczero.optim.parameters import WeightEMA
from paczero.optim.precision import check_update_precision
from paczero.release.plots import Development
from paczero.release.publish import publish_release, save_weights
from paczero.run_directory import RunDirectory
from paczero.training.callbacks import Watchers, check_callbacks, check_trackers
from paczero.training.candidates import BuildProgress, keep_candidates, measured_candidates, read_candidates
from paczero.training.evaluation import Evaluator, make_generator
from paczero.training.factory import check_fit, make_batches, make_objective, make_schedule, make_scorer, make_weights
from paczero.training.loop import Books, DevResult, Observer, Outcome, Trainer
from paczero.training.state import check_books, facts, open_books, populate, transcript_header
from paczero.utils.io import owners_directory

if TYPE_CHECKING:
    from peft import PeftConfig


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
        seconds: of this call.
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
        peft_config: a `peft.LoraConfig`; full tuning where left out.
        callbacks: `transformers.TrainerCallback` objects or classes.
        secret: the secret file of an earlier run to use again; the budgets of both then add up.
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
        progress: BuildProgress = lambda what, done, of: None,
        names: Mapping[str, Any] | None = None,
    ):
        self.args = args or PACZeroConfig()
        self.group = join()
        if train_dataset is None:
            raise PACZeroError("train_dataset: none was given; expected a file, a hub name or a dataset with the pool")
        if eval_dataset is None and (self.args.metric_for_best_model or self.args.threshold != "none"):
            raise PACZeroError(
                f"eval_dataset: none was given, but metric_for_best_model is "
                f"{self.args.metric_for_best_model!r} and threshold is "
                f"{self.args.threshold!r}; give a dev set (data.dev), or leave them out"
            )
        if self.args.cache_dir is not None:
            owners_directory("cache_dir", self.args.cache_dir)
        self._callbacks = list(callbacks or ())
        check_callbacks(self._callbacks)
        check_trackers(self.args.report_to)
        pool = read_dataset(train_dataset, self.args.task, training=True)
        dev = None if eval_dataset is None else read_dataset(eval_dataset, self.args.task)
        self.observers, self.progress = list(observers), progress
        self._secret = secret
        base, self.processing_class = load(
            model,
            dtype=self.args.dtype,
            device=self.group.device(self.args.device),
            tokenizer=processing_class,
            engine=self.args.engine,
            keep=self.args.train_layers or (),
        )
        sources = {"train": train_dataset, "dev": eval_dataset, "test": None}
        named = {key: str(value) if isinstance(value, str | Path) else None for key, value in sources.items()}
        self._names = {"data": named, **(names or {})}
        given = model if isinstance(model, str) else str(base.config._name_or_path or type(base).__name__)
        self._base = {
            "id": self._names.get("model", given),
            "sha256": base_fingerprint(base),
            "dtype": str(base.dtype).removeprefix("torch."),
        }
        encoded = partial(encode_records, task=self.args.task, tokenizer=self.processing_class, model=base)
        self.pool = encoded(pool)
        self.dev = None if dev is None else encoded(dev)
        self._peft = None if peft_config is None else peft_settings(peft_config)
        self.model, self._trained = attach(
            base, peft_config=peft_config, train_layers=self.args.train_layers, seed=self.args.seed
        )
        self._first_layer = first_trained_layer(self.model, list(self._trained))
        self._scorers: dict[str, Scorer] = {}
        self._begin()
        small = self.weights.elements <= _KEPT_INITIAL
        self._initial = self.weights.snapshot() if small else None
        self._moved = False

    def _begin(self) -> None:
        self.run = RunDirectory(Path(self.args.output_dir))
        self.weights = make_weights(self._trained, self.args)
        self.threshold = 0.0
        check_fit(self.args, self.pool)
        self._rounding = check_update_precision(self.weights, self.args)
        self.header = transcript_header(
            self.args, base=self._base, peft=self._peft, weights=self.weights, units=self.pool.dataset.units
        )
        self._check_ranks()

    def _check_ranks(self) -> None:
        """Refuses ranks that would not compute the same run."""
        if self.group.size == 1:
            return
        batches = make_batches(self.pool, self.args, self.model)
        dev = None if self.dev is None else self.dev.dataset
        self.group.assert_equal(facts(self.args, self.header, self.pool.dataset, dev, batches))

    # -- what users call -----------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: bool = False) -> TrainResult:
        """Runs to the end and publishes RUN/release; an interrupted run goes on where it was.

        Args:
            resume_from_checkpoint: True goes on with the run in `output_dir`, False begins a new one there.

        Raises:
            PACZeroError: the directory is in use, not empty, or holds no run to resume.
            IntegrityError: what is in it does not belong to this pool, model and settings, or was changed.
        """
        with contextlib.ExitStack() as held, self.group.detect_lost_ranks():
            self.group.on_main(lambda: self._open(held, resume=resume_from_checkpoint))
            return self._train()

    def _open(self, held: contextlib.ExitStack, *, resume: bool) -> None:
        """Makes or finds the run's directory and holds it."""
        if resume:
            self.run.require_run()
        else:
            self.run.create(self._populate)
        held.enter_context(self.run.locked())
        if self.run.finished:
            raise PACZeroError(f"{str(self.run.root)!r} holds a finished run; choose another output_dir")

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Figures of the weights as they stand: loss, and accuracy at the run's threshold, or F1 and exact match.

        Args:
            eval_dataset: records with labels or answers, of any kind that `train_dataset` takes; the dev set where
                left out.
            metric_key_prefix: of the keys that are returned.
        """
        records = self.dev if eval_dataset is None else self._read(eval_dataset)
        if records is None:
            raise PACZeroError("eval_dataset: none was given here or to the trainer; expected labelled records")
        figures = self.evaluator(records).figures(threshold=self.threshold)
        if self.args.task.kind == "classification":
            figures["threshold"] = self.threshold
        return {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}

    def predict(self, dataset: Any) -> np.ndarray | list[str]:
        """Scores of every label word (R, C): mean token log-probability up to a constant per record; float64.

        Of a task with answers the R texts that are generated; of conversations the completions' scores (R, 1).
        """
        found = self.evaluator(self._read(dataset)).find()
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
        batches = make_batches(self.pool, self.args, self.model)
        cost = estimate(
            self.model,
            batches,
            self.pool.continuations,
            first_layer=self._first_layer,
            elements=self.weights.elements,
            args=self.args,
            generator=self._generator(self.pool) if self._trains_on_f1 else None,
        )
        return cost.shared(self.group.size, len(batches))

    def with_args(self, args: PACZeroConfig) -> "PACZeroTrainer":
        """The same model, records and cached states under other settings; the weights go back to where they began.

        The two trainers share one model: use one at a time.

        Raises:
            PACZeroError: a setting differs that model, records or caches depend on.
        """
        for name in ("task", "dtype", "device", "train_layers", "batch_tokens", "seed"):
            if getattr(args, name) != getattr(self.args, name):
                raise PACZeroError(f"{name}: differs from the trainer's; expected the same. Make a new trainer")
        if self._initial is None:
            raise PACZeroError("with_args: too many weights train to keep their beginning; make a new trainer")
        self.weights.load(self._initial)
        other = copy.copy(self)
        other.args = args
        other._begin()
        return other

    @property
    def notes(self) -> list[str]:
        """What should be known about the records before hours are spent, a sentence each."""
        return [*notes_on(self.pool, self.dev), *self._rounding]

    # -- one run -------------------------------------------------------------------------------------------------------

    def _train(self) -> TrainResult:
        started = time.perf_counter()
        with contextlib.ExitStack() as until:
            begin = partial(Watchers.begin, until, self.run, self.args, self._callbacks, self.observers)
            watchers = self.group.on_main(lambda: begin(self.model, self.processing_class))
            outcome, books = self._loop(watchers)
            statement = self._publish(outcome)
        # The pool's text in another form; a mapping in use stays.
        self.group.on_main(lambda: shutil.rmtree(self.run.cache, ignore_errors=True))
        entries = [] if books is None else books.journal.entries
        flags = [flag for entry in entries for flag in entry["unanimous"]]
        return TrainResult(
            output_dir=self.run.root,
            steps=outcome.done,
            chosen_step=outcome.chosen,
            unanimity=float(np.mean(flags)) if flags and spec_of(self.args.mechanism.name).candidates else None,
            seconds=time.perf_counter() - started,
            statement=statement,
            dev=outcome.dev,
        )

    def _loop(self, watchers: Watchers | None) -> tuple[Outcome, Books | None]:
        args, dev = self.args, None if self.dev is None else self.dev.dataset
        self._restart()
        self.group.on_main(lambda: check_books(args, self.run, self.header, self.pool.dataset, dev))
        source = self._generator(self.pool) if self._trains_on_f1 else self.scorer(self.pool, "pool")
        objective = make_objective(source, self.pool)
        objective.scorer.check()
        candidates = self._candidates(objective)
        books = self.group.on_main(lambda: open_books(args, self.run, self.header, self.pool.dataset, dev, candidates))
        trainer = Trainer(
            objective,
            self.weights,
            None if books is None else books.mechanism,
            journal=None if books is None else books.journal,
            transcript=None if books is None else books.transcript,
            schedule=make_schedule(args),
            average=WeightEMA(self.weights, args.ema_decay) if args.ema_decay else None,
            evaluate=None
            if self.dev is None
            else partial(self._evaluate_dev, self.evaluator(self.dev, "dev set"), watchers),
            observers=[] if watchers is None else watchers.all,
            stop=lambda: watchers is not None and watchers.callbacks.stop,
            group=self.group,
            check_steps=args.engine.check_steps,
        )
        return trainer.run(), books

    def _restart(self) -> None:
        """Puts the weights where every run begins, which an earlier one on this model has left."""
        if self._initial is not None:
            self.weights.load(self._initial)
        elif self._moved:
            raise PACZeroError(
                "train: an earlier call moved the weights and they are too many to be kept; make a new trainer"
            )
        self._moved = True

    def _candidates(self, objective: Objective) -> Callable[[], np.ndarray] | None:
        """What gives the first rank its candidates, once all have measured for it; None where none are used."""
        path = self.run.candidates
        if not spec_of(self.args.mechanism.name).candidates:
            return None
        if self.group.broadcast_from_main(path.exists):
            return partial(read_candidates, path)
        base = self._base["sha256"]
        draw = measured_candidates(self.args, objective, self._trained, self.pool, self.progress, base)
        return lambda: keep_candidates(path, draw())

    def _evaluate_dev(self, evaluator: Evaluator, watchers: Watchers | None, done: int) -> DevResult:
        """On the dev set, or what an earlier start of this run found there."""
        known = self.group.broadcast_from_main(lambda: None if watchers is None else watchers.diagnostics.dev.get(done))
        return known or evaluator.dev_result(done, median=self.args.threshold == "median")

    def _publish(self, outcome: Outcome) -> dict[str, Any]:
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
        )
        return self.group.broadcast_from_main(publish)

    def _populate(self, staged: RunDirectory) -> None:
        named = {"model": self._base["id"], "peft": self._peft, **self._names}
        populate(staged, self.args, named, self._secret)

    def _read(self, source: Any) -> EncodedDataset:
        return read_records(source, self.args.task, self.processing_class, plain(self.model))

    def _cache(self) -> Path | None:
        """Where hidden states are kept: the place that runs share, the run's own, or memory alone."""
        if self.args.cache_dir is not None:
            return Path(self.args.cache_dir).expanduser()
        return self.run.cache if self.run.private.is_dir() else None

    @property
    def _trains_on_f1(self) -> bool:
        return self.args.task.objective == "f1"

    def _generator(self, records: EncodedDataset, what: str | None = None) -> Generator:
        progress = None if what is None else partial(self.progress, f"answers, {what}")
        return make_generator(
            self.model, records, self.args, self.processing_class, group=self.group, progress=progress
        )

    def evaluator(self, records: EncodedDataset, what: str = "records") -> Evaluator:
        """What judges these records with the weights as they stand."""
        generator = self._generator(records, what) if records.task.generates else None
        return Evaluator(records, self.scorer(records, what), generator, self.processing_class)

    def scorer(self, records: EncodedDataset, what: str = "records") -> Scorer:
        """The scorer of these records; what lies below the trained layers is computed once and kept."""
        key = records.dataset.hash()
        if key not in self._scorers:
            self.group.assert_equal({what: key})
            self._scorers[key] = make_scorer(
                self.model,
                records,
                self.args,
                first_layer=self._first_layer,
                cache=self._cache(),
                progress=lambda done, of: self.progress(f"hidden states, {what}", done, of),
                group=self.group,
                base=self._base["sha256"],
            )
        return self._scorers[key]


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
