"""A task is only configuration: recipes/tasks parse, and small tables of their shapes train and are scored."""

import csv
import io
import json
from pathlib import Path

import pytest

from paczero.cli.parser import settings_parser
from paczero.config_io import build_settings

TASKS = Path(__file__).parents[2] / "recipes" / "tasks"
# Of each task, what a record with each label says; every text carries the record's number.
SHAPES = {
    "sst2": [{"sentence": "a dull film {}"}, {"sentence": "a fine film {}"}],
    "rte": [
        {"sentence1": "the film {} was long", "sentence2": "the film was long"},
        {"sentence1": "the film {} was long", "sentence2": "the film was short"},
    ],
    "sst5": [{"text": word + " film {}"} for word in ("an awful", "a weak", "a plain", "a good", "a superb")],
}


def write(path, name, count, begin):
    shapes = SHAPES[name]
    rows = [
        {column: text.format(number) for column, text in shapes[number % len(shapes)].items()}
        | {"label": str(number % len(shapes))}
        for number in range(begin, begin + count)
    ]
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("path", sorted(TASKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_only_task_and_data(path):
    given = settings_parser("train", "").parse_args([f"--config={path}"]).settings
    assert {key.partition(".")[0] for key in given} == {"task", "data"}


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_of_this_shape_trains_and_is_scored(paczero, tiny_model_dir, tmp_path, name):
    run, test = tmp_path / "run", write(tmp_path / "test.csv", name, 10, 100)
    data = ("--data.train", write(tmp_path / "pool.csv", name, 40, 0), "--data.test", test)
    lora = ("--peft", "{r: 2, target_modules: [q_proj], layers_to_transform: [2]}")
    config = ("--config", TASKS / f"{name}.yaml")
    short = ("--max_steps", "3", "--mechanism.subsets", "4", "--output_dir", run)
    code, _, err = paczero("train", *config, "--model", tiny_model_dir, *data, "--data.dev", "null", *lora, *short)
    assert code == 0, err
    code, out, err = paczero("eval", run / "release", "--data", test, "--json")
    assert code == 0, err
    figures, labels = json.loads(out), labels_of(TASKS / f"{name}.yaml")
    assert figures["labels"] == labels and figures["records"] == 10
    code, out, err = paczero("predict", run / "release", "--input", test, "--output", "-")
    assert code == 0, err
    assert {row["prediction"] for row in csv.DictReader(io.StringIO(out))} <= set(labels)


def labels_of(path):
    parsed = settings_parser("train", "").parse_args([f"--config={path}", "--model=x"])
    return list(build_settings(parsed.settings).args.task.labels)
