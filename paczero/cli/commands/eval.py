"""`paczero eval TARGET --data FILE`: a run, a release, an adapter or a model on labelled records.

$ paczero eval runs/first --data test.csv --predictions decided.csv
$ paczero eval some-adapter --config recipes/tasks/sst2.yaml --data dev.tsv
$ paczero eval runs/first --text "A film to see twice." --text "I left early."
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from paczero.cli import judged
from paczero.cli.console import Live, keep_quiet, warn
from paczero.cli.predictions import probabilities, unlabelled
from paczero.cli.released import load_target, scores_of
from paczero.cli.target import Target, TargetParser, find_target, target_parser
from paczero.config import TaskConfig
from paczero.errors import PACZeroError
from paczero.utils.csv import csv_text
from paczero.utils.io import write_whole

if TYPE_CHECKING:
    import numpy as np

    from paczero.data.dataset import Dataset
    from paczero.data.loading import Rows


_ABOUT = """
Scores weights, loaded as anybody would load them: accuracy, loss, how often each label is taken for which. A run or a
release says its template, labels and decision threshold itself; of an adapter or a model by itself, say its task.

  paczero eval runs/first --data test.csv
  paczero eval runs/first --data test.csv --base             the untuned model, for comparison
  paczero eval runs/first --text "A film to see twice."      what it says of a text of yours
  paczero eval downloaded/release --model models/small --data test.csv
  paczero eval some-adapter --task.template "{text} It was {label}" --task.labels "{neg: terrible, pos: great}" \\
               --data test.csv
  paczero eval HuggingFaceTB/SmolLM2-135M-Instruct --config recipes/tasks/sst2.yaml --data dev.tsv
"""

_SURPRISE = 3  # standard deviations below one half from where two labels look swapped


def parser() -> TargetParser:
    made = target_parser("eval", _ABOUT, usage="TARGET [--data FILE | --text TEXT ...] [OPTIONS]")
    made.add_argument(
        "--data",
        type=str,
        metavar="FILE",
        help="labelled records, as in training; the test set of the run or of --config where left out",
    )
    made.add_argument("--text", type=str, action="append", metavar="TEXT", help="a text to decide on; may be repeated")
    made.add_argument("--base", action="store_true", help="score the untuned base model")
    made.add_argument("--predictions", type=str, metavar="OUT.csv", help="write each record's text, label and decision")
    made.add_argument("--json", action="store_true", help="print the figures as JSON")
    return made


def run(namespace: Namespace) -> int:
    out = None if namespace.predictions is None else Path(namespace.predictions)
    if out is not None and not out.absolute().parent.is_dir():
        raise PACZeroError(f"--predictions: {str(out)!r} lies in no directory that exists; make it first")
    target = find_target(namespace)
    pool = _records(namespace, target)
    if target.args.task.kind != "classification":
        return _judge(target, pool, out, base=namespace.base, as_json=namespace.json)
    threshold = _threshold(target, base=namespace.base)
    keep_quiet()
    scores = _scores(target, pool, base=namespace.base)
    from paczero.data.metrics import decisions

    decided = decisions(scores, threshold)
    if out is not None:
        write_whole(out, predictions_csv(pool, scores, decided))
    if namespace.text:
        results = text_results(pool, scores, decided)
        lines = [f"{row['prediction']}  {100 * row['probability']:.1f} %  {row['text']}" for row in results]
        print(json.dumps(results, indent=2, ensure_ascii=False) if namespace.json else "\n".join(lines))
        return 0
    result = figures(pool, scores, decided, threshold)
    print(json.dumps(result, indent=2, ensure_ascii=False) if namespace.json else described(result))
    if looks_swapped(result):
        warn("far fewer are right than by tossing a coin; do the label words stand the wrong way round?")
    return 0


def _judge(target: Target, pool: "Dataset", out: Path | None, *, base: bool, as_json: bool) -> int:
    """A task without label words: what is generated, or the loss of what should follow."""
    keep_quiet()
    with Live(every=60) as live:
        live.show(f"judging {len(pool):,} records")
        judge = judged.evaluator(
            target, pool, base=base, progress=lambda done, of: live.show(f"answered {done:,} of {of:,} records")
        )
        found = judge.find()
    if out is not None:
        table = judge.table(found)
        write_whole(out, csv_text(list(table), zip(*table.values(), strict=True)))
    result = judged.figures(judge, found)
    print(json.dumps(result, indent=2) if as_json else judged.described(result))
    return 0


def looks_swapped(result: dict[str, Any]) -> bool:
    """Whether of two labels the wrong one is chosen so often that chance does not explain it."""
    below = 0.5 - result["accuracy"]
    return len(result["labels"]) == 2 and below > _SURPRISE * 0.5 / math.sqrt(result["records"])


def figures(pool: "Dataset", scores: "np.ndarray", decided: "np.ndarray", threshold: float) -> dict[str, Any]:
    """What `--json` prints: accuracy, loss (nats), records, majority share, and counts [truth][decision]."""
    import numpy as np

    from paczero.data.metrics import losses

    count = len(pool.label_names)
    confusion = np.zeros((count, count), dtype=int)
    np.add.at(confusion, (pool.labels, decided), 1)
    return {
        "accuracy": float((decided == pool.labels).mean()),
        "loss": float(losses(scores, pool.labels).mean()),
        "records": len(pool),
        "majority": float(np.bincount(pool.labels, minlength=count).max() / len(pool)),
        "threshold": threshold,
        "labels": list(pool.label_names),
        "confusion": confusion.tolist(),
    }


def described(result: dict[str, Any]) -> str:
    """The figures as a person reads them, with the counts as a small table."""
    names = [str(name) for name in result["labels"]]
    cells = [["label", *(f"as {name}" for name in names)]]
    cells += [[name, *map(str, row)] for name, row in zip(names, result["confusion"], strict=True)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    moved = f", decided at {result['threshold']:+.4g}" if result["threshold"] else ""
    return "\n".join(
        [
            f"accuracy  {100 * result['accuracy']:.1f} % of {result['records']:,} records{moved}",
            f"majority  {100 * result['majority']:.1f} %, by always naming the most frequent label",
            f"loss      {result['loss']:.4f} nats",
            "",
            *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells),
        ]
    )


def predictions_csv(pool: "Dataset", scores: "np.ndarray", decided: "np.ndarray") -> str:
    """Each record's text, label, decision and each label's probability."""
    names = pool.label_names
    header = [*pool.columns, "label", "prediction", *(f"probability {name}" for name in names)]
    rows = (
        [
            *(row[column] for column in pool.columns),
            names[label],
            names[choice],
            *(f"{chance:.6f}" for chance in chances),
        ]
        for row, label, choice, chances in zip(pool.rows, pool.labels, decided, probabilities(scores), strict=True)
    )
    return csv_text(header, rows)


def text_results(pool: "Dataset", scores: "np.ndarray", decided: "np.ndarray") -> list[dict[str, Any]]:
    """Text, decision and its probability, for `--text`."""
    chances = probabilities(scores)
    return [
        {"text": row[pool.columns[0]], "prediction": pool.label_names[choice], "probability": float(chance[choice])}
        for row, choice, chance in zip(pool.rows, decided, chances, strict=True)
    ]


def _records(namespace: Namespace, target: Target) -> "Dataset":
    from paczero.data.dataset import make_dataset
    from paczero.data.loading import load_rows
    from paczero.data.template import Template

    task: TaskConfig = target.args.task
    if not namespace.text:
        return make_dataset(load_rows(namespace.data) if namespace.data else _test_set(target), task, training=False)
    if namespace.data:
        raise PACZeroError("--text: given together with --data; expected one of them")
    if task.kind != "classification":
        raise PACZeroError(f"--text: given for a task of kind {task.kind!r}; put the records into a file, see predict")
    columns: Sequence[str] = Template.parse(task.template).columns
    if len(columns) != 1:
        raise PACZeroError(f"--text: the template has the columns {', '.join(columns)}; put the texts into a file")
    return unlabelled(load_rows([{columns[0]: text} for text in namespace.text]), task)


def _test_set(target: Target) -> "Rows":
    """The test set of the run or of `--config`, drawn as training draws it where it is to be drawn."""
    from paczero.data.loading import load_rows
    from paczero.data.splits import read_splits

    data = None if target.named is None else target.named.data
    if target.named is not None and data is not None:
        drawn = (
            None
            if data.test_records is None
            else read_splits(data, target.named.args.task, seed=target.named.args.seed).test
        )
        if drawn is not None or data.test is not None:
            return drawn or load_rows(data.test)
    raise PACZeroError("--data: nothing was given and no test set is known; expected labelled records")


def _threshold(target: Target, *, base: bool) -> float:
    """Of the released weights as their statement says; of the untuned ones as the run's first dev evaluation does."""
    if not base:
        return target.threshold
    if target.run is None or target.args.threshold == "none":
        return 0.0
    path = target.run.diagnostics
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # a half line of a killed process
            continue
        if isinstance(row, dict) and row.get("kind") == "dev" and row.get("t") == 0:
            return float(row["threshold"])
    raise PACZeroError(
        f"--base: the run moves its threshold, but {str(path)!r} has no evaluation of the untuned model; "
        "restore the file"
    )


def _scores(target: Target, pool: "Dataset", *, base: bool) -> "np.ndarray":
    from paczero.data.encoding import context_length, prepare
    from paczero.models.layers import plain

    with Live(every=60) as live:
        model, tokenizer = load_target(target, base=base)
        records = prepare(pool, target.args.task, tokenizer, context=context_length(plain(model)))
        if records.encoded.truncated:
            warn(f"{records.encoded.truncated:,} of {len(pool):,} records were cut to fit")
        return scores_of(
            model, records, target.args, progress=lambda done, of: live.show(f"{done:,} of {of:,} records")
        )
