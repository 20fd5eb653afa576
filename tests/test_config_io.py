"""YAML to settings and back: texts as written, one line for what is wrong, bases, former names, recipes."""

import math

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero import config_io as module
from paczero.config import FormerNameWarning, MechanismConfig, PACZeroConfig, TaskConfig
from paczero.config_io import (
    SETTING_TYPES,
    DataConfig,
    RunSettings,
    build_settings,
    dump_settings,
    load_settings,
    merge,
    read_file,
    read_settings,
    read_yaml,
    recipe,
    recipes,
    save_settings,
)
from paczero.errors import PACZeroError

RECIPE = """
model: models/small
data: {train: pool.csv, dev: dev.csv}
peft: {peft_type: LORA, r: 8, lora_dropout: 0.0, target_modules: [q_proj, v_proj]}
task:
  template: "{sentence} It was {label}"
  label_column: label
  labels: {0: terrible, 1: great}
mechanism: {name: mi, budget: 0.33, subsets: 64}
max_steps: 300
learning_rate: 5e-3
ema_decay: 0
train_layers: [28, 29]
test_seed: null
force: no
report_to: tensorboard
"""


def written(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def recipe_file(tmp_path):
    return written(tmp_path, RECIPE)


def parse(path):
    return build_settings({"model": "m", "data.train": "pool.csv"} | read_file(path)[0])


def refusal(path):
    with pytest.raises(PACZeroError) as caught:
        parse(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    assert caught.value.exit_code == 2
    return message


def test_a_recipe(recipe_file):
    assert parse(recipe_file) == RunSettings(
        model="models/small",
        data=DataConfig(train="pool.csv", dev="dev.csv"),
        peft={"peft_type": "LORA", "r": 8, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]},
        args=PACZeroConfig(
            task=TaskConfig(template="{sentence} It was {label}", labels={"0": "terrible", "1": "great"}),
            mechanism=MechanismConfig(name="mi", budget=0.33, subsets=64),
            max_steps=300,
            learning_rate=5e-3,
            train_layers=[28, 29],
            report_to=["tensorboard"],
        ),
    )


@pytest.mark.parametrize("text", ["{0: bad, 1: good}", "\n    0: bad\n    1: good"])
def test_labels_of_the_file_replace_the_default(tmp_path, text):
    settings = parse(written(tmp_path, f"task:\n  labels: {text}\n"))
    assert settings.args.task.labels == {"0": "bad", "1": "good"}


def test_texts_that_look_like_something_else(tmp_path):
    text = "output_dir: 2024\ntask: {label_column: no, unit_column: 7}\ndata: {test: 1e3}\n"
    settings = parse(written(tmp_path, text))
    assert settings.args.output_dir == "2024"
    assert (settings.args.task.label_column, settings.args.task.unit_column) == ("no", "7")
    assert settings.data.test == "1e3"


@pytest.mark.parametrize(("text", "force"), [("true", True), ("no", False), ("off", False), ("yes", True)])
def test_booleans_of_the_file(tmp_path, text, force):
    assert parse(written(tmp_path, f"force: {text}")).args.force is force


def test_dotted_keys_of_the_file_are_settings_too(tmp_path):
    settings = parse(written(tmp_path, "mechanism.subsets: 64\ntask.labels: {0: a, 1: no}\n"))
    assert settings.args.mechanism.subsets == 64
    assert settings.args.task.labels == {"0": "a", "1": "no"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("max_stepz: 3", ["own.yaml: max_stepz is no setting", "did you mean max_steps?"]),
        ("budget: 0.1", ["did you mean mechanism.budget?"]),
        ("mechanism: {nmae: mi}", ["mechanism.nmae is no setting", "mechanism.name"]),
        ("resume: runs/x", ["resume is no setting"]),
        ("max_steps: many", ["own.yaml: max_steps: 'many' was given", "a whole number"]),
        ("max_steps: 1.5", ["max_steps: '1.5' was given", "a whole number"]),
        ("max_steps: null", ["max_steps: null was given", "a whole number"]),
        ("model: null", ["model: null was given", "a text"]),
        ("mechanism: zpl", ["mechanism: 'zpl' was given", "a mapping"]),
        ("mechanism: {name: null}", ["mechanism.name: null was given", "one of zpl, mi, none"]),
        ("mechanism: {name: mi, budget: .nan}", ["mechanism.budget: nan was given"]),
        ("task: {labels: [a, b]}", ["task.labels: ['a', 'b'] was given", "a mapping"]),
        ("task: {labels: {a: [b], c: d}}", ["task.labels: {'a': ['b']", "a mapping of texts"]),
        ("peft: LORA", ["peft: 'LORA' was given", "a mapping"]),
        ("force: maybe", ["force: 'maybe' was given", "true or false"]),
        ("max_steps: 3\nmax_steps: 4", ["line 2: 'max_steps' is given twice"]),
        ("max_steps: [", ["own.yaml: not YAML in line"]),
        ("- steps", ["expected settings"]),
        ("just text", ["expected settings"]),
        ("? [a]\n: 3", ["a key must be"]),
        ("peft: &a {r: *a}", ["not YAML in line 1: found unconstructable recursive node"]),
        ("model: !!python/object/apply:os.system [x]", ["model"]),
        ("train_layers: [1, x]", ["train_layers", "whole numbers"]),
    ],
)
def test_files_that_are_wrong(tmp_path, text, parts):
    message = refusal(written(tmp_path, text))
    assert all(part in message for part in parts), message


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes(b"model: \xff\xfe")
    assert "not UTF-8" in refusal(path)


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert parse(written(tmp_path, "# nothing\n")) == RunSettings("m", DataConfig("pool.csv"))


def test_saved_settings_come_back(recipe_file, tmp_path):
    tree = read_yaml("task.labels: {no: 'yes', 'null': ~, '1e3': 'x: y'}")
    settings = build_settings(merge(read_file(recipe_file)[0], read_settings(tree)))
    save_settings(settings, tmp_path / "config.yaml")
    assert load_settings(tmp_path / "config.yaml") == settings
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "  budget: 0.33\n" in text and "  template: '{sentence} It was {label}'\n" in text


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1)
labels = st.dictionaries(texts, texts, min_size=2, max_size=4).filter(lambda d: len(set(d.values())) == len(d))
scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | texts


@hypothesis.settings(max_examples=25)
@given(labels, texts, st.none() | st.dictionaries(texts, scalars | st.lists(scalars)), st.floats(1e-12, 1e6))
def test_any_settings_come_back(tmp_path_factory, labels, column, peft, rate):
    args = PACZeroConfig(task=TaskConfig(labels=labels, unit_column=column), learning_rate=rate, output_dir=column)
    before = RunSettings(column, DataConfig(column, None, column), peft, args)
    path = tmp_path_factory.mktemp("round") / "config.yaml"
    save_settings(before, path)
    assert load_settings(path) == before


def test_the_dump_states_every_setting():
    text = dump_settings(RunSettings("m"))
    for key in SETTING_TYPES:
        assert f"{key.rpartition('.')[2]}:" in text


def test_loading_needs_a_file(tmp_path):
    with pytest.raises(PACZeroError, match="cannot be read"):
        load_settings(tmp_path / "demo")


def test_infinite_floats_come_back(tmp_path):
    settings = RunSettings("m", DataConfig("p"), {"alpha": math.inf})
    save_settings(settings, tmp_path / "c.yaml")
    assert load_settings(tmp_path / "c.yaml") == settings


def test_former_names_and_their_values(tmp_path):
    text = "steps: 7\nselect: last\nmechanism: {name: dpzero, epsilon: 1, sampling: 0.5}\n"
    with pytest.warns(FormerNameWarning) as caught:
        settings = parse(written(tmp_path, text)).args
    assert (settings.max_steps, settings.metric_for_best_model) == (7, None)
    assert settings.mechanism.sampling_prob == 0.5 and len(caught) == 3
    with pytest.warns(FormerNameWarning):
        assert "max_steps is given twice" in refusal(written(tmp_path, "steps: 7\nmax_steps: 7\n"))


def test_names_without_a_counterpart(tmp_path):
    assert "num_train_epochs: it was given" in refusal(written(tmp_path, "num_train_epochs: 3\n"))


@pytest.mark.parametrize(("text", "trackers"), [("none", []), ("[none]", []), ("wandb", ["wandb"])])
def test_trackers(tmp_path, text, trackers):
    assert parse(written(tmp_path, f"report_to: {text}")).args.report_to == trackers


def test_bases_lie_under_the_file_in_order(tmp_path):
    (tmp_path / "one.yaml").write_text("max_steps: 3\nmechanism: {subsets: 8, clip: 2}\npeft: {r: 2, lora_alpha: 4}\n")
    (tmp_path / "two.yaml").write_text("base: one.yaml\nmechanism: {clip: 3}\npeft: {r: 4}\n")
    (tmp_path / "three.yaml").write_text("base: [one.yaml, two.yaml]\nmodel: m\ndata: {train: t.csv}\nmax_steps: 5\n")
    settings = load_settings(tmp_path / "three.yaml")
    assert (settings.args.max_steps, settings.args.mechanism.subsets, settings.args.mechanism.clip) == (5, 8, 3)
    assert settings.peft == {"r": 4}


def test_bases_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(PACZeroError, match="its own base"):
        load_settings(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("base: missing.yaml\n")
    with pytest.raises(PACZeroError, match=r"missing.yaml' cannot be read"):
        load_settings(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("base: {x: 1}\n")
    with pytest.raises(PACZeroError, match="expected a list of texts"):
        load_settings(tmp_path / "a.yaml")


@pytest.fixture
def places(monkeypatch, tmp_path):
    places = (tmp_path / "wheel", tmp_path / "checkout")
    monkeypatch.setattr(module, "_PLACES", places)
    return places


def test_a_wheels_recipes_come_before_a_checkouts(places):
    wheel, checkout = places
    checkout.mkdir()
    (checkout / "demo.yaml").write_text("max_steps: 3\n")
    assert recipe("demo") == checkout / "demo.yaml"
    wheel.mkdir()
    (wheel / "demo.yaml").write_text("max_steps: 4\n")
    assert recipe("demo") == wheel / "demo.yaml"
    assert read_file("demo") == ({"max_steps": 4}, {})


def test_a_misspelt_recipe(places):
    places[0].mkdir()
    (places[0] / "demo.yaml").touch()
    with pytest.raises(PACZeroError, match="'dmeo' was given; expected one that exists \\(demo\\)"):
        recipe("dmeo")


def test_no_recipes(places):
    assert recipes() == {}
    with pytest.raises(PACZeroError, match="there are none"):
        recipe("demo")


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_holds_settings_only(name):
    assert build_settings(read_file(name)[0]).args.max_steps > 0


def test_the_papers_cells_are_there():
    """{SST-2, SQuAD} × {1.3B, 6.7B} × {LoRA, full} × {ZPL, MI, MeZO}, and the private baselines that it ran."""
    for task in ("sst2", "squad"):
        for size in ("1.3b", "6.7b"):
            for tuning in ("lora", "full"):
                for mechanism in ("zpl", "mi", "none"):
                    args = build_settings(read_file(f"paper/{task}-opt-{size}-{tuning}-{mechanism}")[0]).args
                    assert (args.mechanism.name, args.mechanism.family, args.dtype) == (mechanism, "random", "float16")
                    assert args.mechanism.subsets == (126 if mechanism == "zpl" else 128)
                    assert args.direction_law == "gaussian" and args.metric_for_best_model == (
                        "loss" if task == "sst2" else "f1"
                    )
    assert {"paper/sst2-opt-1.3b-full-dpzero", "paper/sst2-opt-1.3b-full-dp-aggzo"} <= set(recipes())
