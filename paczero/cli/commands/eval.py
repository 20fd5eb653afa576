"""`paczero eval TARGET --data FILE`: scores a run, a release, an adapter or a model on labelled records.

$ paczero eval runs/first --data test.csv --predictions decided.csv
$ paczero eval some-adapter --config recipes/tasks/sst2.yaml --data dev.tsv
$ paczero eval runs/first --text "A film to see twice." --text "I left early."
"""

import json
import math
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.console import Live, keep_quiet, shown, warn
from paczero.cli.parser import SettingsParser, command_parser
from paczero.config_io import SETTING_TYPES
from paczero.data.tables import render
from paczero.data.template import Template
from paczero.errors import PACZeroError
from paczero.inference.target import PLAIN_SETTINGS, Target, find_target
from paczero.utils.csv import csv_text
from paczero.utils.io import write_whole

if TYPE_CHECKING:
    from paczero.inference import PredictedTable
    from paczero.training.evaluation import Progress

_ABOUT = """
Scores weights on labelled records: accuracy, loss, and a table of labels and decisions. A run or a release states its
template, labels and decision threshold; for an adapter or a model alone, give the task.

  paczero eval runs/first --data test.csv
  paczero eval runs/first --data test.csv --base             the untuned model, for comparison
  paczero eval runs/first --text "A film to see twice."      its decision on a text of yours
  paczero eval downloaded/release --model models/small --data test.csv
  paczero eval some-adapter --task.template "{text} It was {label}" --task.labels "{neg: terrible, pos: great}" \\
               --data test.csv
  paczero eval HuggingFaceTB/SmolLM2-135M-Instruct --config recipes/tasks/sst2.yaml --data dev.tsv
"""

_DEVIATIONS = 3  # standard deviations below one half at which two labels look swapped


def target_parser(command: str, description: str, *, usage: str) -> SettingsParser:
    """A parser with TARGET, `--config`, `--model`, `--task.…` and the other settings that scoring uses."""
    parser = command_parser(command, description, usage=usage, kind=SettingsParser)
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a run, its release/, a PEFT adapter, a model (directories, or the hub id of one of the last three)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a YAML file with the task: a recipe's name, RUN/config.yaml, your own"
    )
    keys = [key for key in SETTING_TYPES if key in ("model", *PLAIN_SETTINGS) or key.startswith(("task.", "engine."))]
    parser.add_settings(keys, first=("model", "task.template", "task.labels", "dtype", "device"))
    parser.frequent[0].help = "the base model of an adapter, where it is not the one that the adapter names"
    return parser


@contextmanager
def scoring(target: Target) -> Iterator["Progress"]:
    """Shows progress on a live line, and names flags in errors: `data: …` becomes `--data: …`."""
    keep_quiet()
    try:
        with Live() as live:
            live.show(f"loading {target.name}")
            yield shown(live)
    except PACZeroError as error:
        name, _, rest = str(error).partition(": ")
        if name not in ("base", "data", "model"):
            raise
        raise type(error)(f"--{name}: {rest}") from error


def predicted(target: Target, data: Any, *, base: bool = False) -> "PredictedTable":
    """Decides on records, and warns of those that were cut."""
    with scoring(target) as progress:
        from paczero.inference import predict

        table = predict(target, data, base=base, progress=progress)
    for note in table.notes:
        warn(note)
    return table


def parser() -> SettingsParser:
    made = target_parser("eval", _ABOUT, usage="TARGET [--data FILE | --text TEXT ...] [OPTIONS]")
    made.add_argument(
        "--data",
        metavar="FILE",
        help="labelled records, as in training; the test set of the run or of --config if left out",
    )
    made.add_argument("--text", action="append", metavar="TEXT", help="a text to decide on; may be repeated")
    made.add_argument("--base", action="store_true", help="score the untuned base model")
    made.add_argument("--predictions", metavar="OUT.csv", help="write each record's text, label and decision")
    made.add_argument("--json", action="store_true", help="print the metrics as JSON")
    return made


def run(namespace: Namespace) -> int:
    out = None if namespace.predictions is None else Path(namespace.predictions)
    if out is not None and not out.absolute().parent.is_dir():
        raise PACZeroError(f"--predictions: {str(out)!r} lies in no directory that exists; make it first")
    target = find_target(namespace.target, namespace.settings)
    if namespace.text:
        return _decide(target, namespace, out)
    with scoring(target) as progress:
        from paczero.inference import evaluate

        result = evaluate(target, namespace.data, base=namespace.base, progress=progress)
    for note in result.notes:
        warn(note)
    if out is not None:
        write_whole(out, csv_text(list(result.table), zip(*result.table.values(), strict=True)))
    print(json.dumps(result.metrics, indent=2, ensure_ascii=False) if namespace.json else described(result.metrics))
    if looks_swapped(result.metrics):
        warn("far fewer decisions are right than by chance; are the label words swapped?")
    return 0


def _decide(target: Target, namespace: Namespace, out: Path | None) -> int:
    """Decides on the texts of `--text`."""
    task = target.args.task
    if namespace.data:
        raise PACZeroError("--text: given together with --data; expected one of them")
    if task.kind != "classification":
        raise PACZeroError(f"--text: given for a task of kind {task.kind!r}; put the records into a file, see predict")
    columns = Template.parse(task.template).columns
    if len(columns) != 1:
        raise PACZeroError(f"--text: the template has the columns {', '.join(columns)}; put the texts into a file")
    table = predicted(target, [{columns[0]: text} for text in namespace.text], base=namespace.base)
    if out is not None:
        write_whole(out, render(".csv", table.columns, table.records))
    results = [
        {
            "text": record[columns[0]],
            "prediction": record["prediction"],
            "probability": record[f"probability {record['prediction']}"],
        }
        for record in table.records
    ]
    lines = [f"{row['prediction']}  {100 * row['probability']:.1f} %  {row['text']}" for row in results]
    print(json.dumps(results, indent=2, ensure_ascii=False) if namespace.json else "\n".join(lines))
    return 0


def looks_swapped(metrics: dict[str, Any]) -> bool:
    """Whether the wrong one of two labels is chosen more often than chance explains.

    >>> looks_swapped({"labels": ["0", "1"], "accuracy": 0.2, "records": 100})
    True
    """
    if len(metrics.get("labels", ())) != 2:
        return False
    return bool(0.5 - metrics["accuracy"] > _DEVIATIONS * 0.5 / math.sqrt(metrics["records"]))


def described(metrics: dict[str, Any]) -> str:
    """The metrics as a person reads them; of a classification with a table of counts."""
    if "confusion" not in metrics:
        return "\n".join(_line(name, value, metrics) for name, value in metrics.items() if name != "records")
    names = [str(name) for name in metrics["labels"]]
    cells = [["label", *(f"as {name}" for name in names)]]
    cells += [[name, *map(str, row)] for name, row in zip(names, metrics["confusion"], strict=True)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    moved = f", decided at {metrics['threshold']:+.4g}" if metrics["threshold"] else ""
    return "\n".join(
        [
            f"accuracy  {100 * metrics['accuracy']:.1f} % of {metrics['records']:,} records{moved}",
            f"majority  {100 * metrics['majority']:.1f} %, by always naming the most frequent label",
            f"loss      {metrics['loss']:.4f} nats",
            "",
            *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells),
        ]
    )


def _line(name: str, value: float, metrics: dict[str, Any]) -> str:
    if name in ("f1", "exact_match"):
        return f"{name.replace('_', ' '):<12} {100 * value:.1f} % of {metrics['records']:,} records"
    return f"{name:<12} {value:.4f}" + (" nats a token" if name == "loss" else "")
