"""Settings: flags over file over defaults in any order, texts as written, one line for anything that is wrong."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.cli.main import main
from paczero.cli.parser import parser_for_train, setting_types
from paczero.config import MechanismConfig, PACZeroConfig, TaskConfig
from paczero.config_io import DataConfig, RunSettings, dump_settings, load_settings, save_settings, settings_from
from paczero.errors import PACZeroError

NEEDED = ["--model", "m", "--data.train", "pool.csv"]
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


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def parse(*arguments):
    return settings_from(parser_for_train().parse_args(list(map(str, arguments))))


def refusal(*arguments):
    with pytest.raises(PACZeroError) as caught:
        parse(*arguments)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    assert caught.value.exit_code == 2
    return message


def written(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return "--config", path


def test_defaults_are_those_of_the_dataclasses():
    assert parse(*NEEDED) == RunSettings("m", DataConfig(train="pool.csv"))


def test_a_recipe(recipe):
    assert parse("--config", recipe) == RunSettings(
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


def test_flags_win_whatever_the_order(recipe):
    flags = ["--max_steps", 7, "--mechanism.budget", 0.1, "--data.dev", "other.csv", "--peft.r", 4, "--mu=1e-4"]
    before, after = parse(*flags, "--config", recipe), parse("--config", recipe, *flags)
    assert before == after
    assert (after.args.max_steps, after.args.mechanism.budget, after.args.mu) == (7, 0.1, 1e-4)
    assert after.data == DataConfig(train="pool.csv", dev="other.csv")
    assert after.peft == {"peft_type": "LORA", "r": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    assert after.args.mechanism.subsets == 64  # the file's
    assert after.args.mechanism.clip == 25.0  # the default


def test_given_says_what_was_given(recipe):
    parser = parser_for_train()
    assert parser.parse_args(["--resume", "runs/x"]).given == frozenset()
    assert parser.parse_args(["--max_steps", "3", "--peft.r", "4", "--task.labels.a", "b"]).given == {
        "max_steps",
        "peft",
        "task.labels",
    }
    assert "mechanism.budget" in parser.parse_args(["--config", str(recipe)]).given


def test_options_that_are_no_settings():
    namespace = parser_for_train().parse_args([])
    assert (namespace.resume, namespace.secret, namespace.print_settings) == (None, None, False)
    namespace = parser_for_train().parse_args(["--resume", "r", "--secret", "s", "--print-settings"])
    assert (namespace.resume, namespace.secret, namespace.print_settings) == ("r", "s", True)


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        (["--task.labels", "{fresh: great, rotten: terrible}"], {"fresh": "great", "rotten": "terrible"}),
        (["--task.labels", "{0: terrible, 1: great}"], {"0": "terrible", "1": "great"}),
        (["--task.labels", "{true: yes, false: no}"], {"true": "yes", "false": "no"}),
        (["--task.labels", "{01: one, 1.0: null}"], {"01": "one", "1.0": "null"}),
        (["--task.labels={a: 'very good', b: \"bad: really\"}"], {"a": "very good", "b": "bad: really"}),
        (["--task.labels.a", "x", "--task.labels", "{a: b, c: d}"], {"a": "x", "c": "d"}),
        (["--task", "{labels: {0: no, 1: yes}}"], {"0": "no", "1": "yes"}),
    ],
)
def test_label_words_stay_as_written(flags, labels, tmp_path):
    assert parse(*NEEDED, *flags).args.task.labels == labels


@pytest.mark.parametrize("text", ["{0: bad, 1: good}", "\n    0: bad\n    1: good"])
def test_labels_of_the_file_replace_the_default(tmp_path, text):
    settings = parse(*written(tmp_path, f"task:\n  labels: {text}\n"), *NEEDED)
    assert settings.args.task.labels == {"0": "bad", "1": "good"}


def test_one_label_of_the_file_is_changed_by_a_flag(recipe):
    assert parse("--config", recipe, "--task.labels.1", "fine").args.task.labels == {"0": "terrible", "1": "fine"}


def test_texts_that_look_like_something_else(tmp_path):
    text = "output_dir: 2024\ntask: {label_column: no, unit_column: 7}\ndata: {test: 1e3}\n"
    settings = parse(*written(tmp_path, text), *NEEDED)
    assert settings.args.output_dir == "2024"
    assert (settings.args.task.label_column, settings.args.task.unit_column) == ("no", "7")
    assert settings.data.test == "1e3"


@pytest.mark.parametrize("spelling", ["5e-3", "5.0e-3", "0.005", ".5e-2", "5E-3"])
def test_numbers_as_people_write_them(tmp_path, spelling):
    assert parse(*written(tmp_path, f"learning_rate: {spelling}"), *NEEDED).args.learning_rate == 0.005
    assert parse(*NEEDED, "--learning_rate", spelling).args.learning_rate == 0.005


@pytest.mark.parametrize(
    ("flags", "force"),
    [
        ([], False),
        (["--force"], True),
        (["--force", "true"], True),
        (["--force=false"], False),
        (["--force", "no"], False),
    ],
)
def test_booleans(flags, force):
    settings = parse(*flags, *NEEDED)
    assert settings.args.force is force
    assert settings.model == "m"


@pytest.mark.parametrize(("text", "force"), [("true", True), ("no", False), ("off", False), ("yes", True)])
def test_booleans_of_the_file(tmp_path, text, force):
    assert parse(*written(tmp_path, f"force: {text}"), *NEEDED).args.force is force


def test_null(recipe, tmp_path):
    settings = parse("--config", recipe, "--peft", "null", "--train_layers", "null")
    assert settings.peft is None and settings.args.train_layers is None
    settings = parse(*written(tmp_path, "mechanism: {name: none, clip: ~}\npeft:\ndata:\n"), *NEEDED)
    assert settings.args.mechanism.clip is None and settings.peft is None
    assert parse(*NEEDED, "--mechanism.name", "none", "--mechanism.clip", "null").args.mechanism.clip is None


@pytest.mark.parametrize(
    "flags",
    [["--train_layers", "1", "2"], ["--train-layers", "[1, 2]"], ["--train_layers=1,2"], ["--train_layers", "1,2"]],
)
def test_lists(flags):
    assert parse(*flags, *NEEDED).args.train_layers == [1, 2]


def test_a_list_of_texts():
    assert parse("--report-to", "tensorboard", "wandb", *NEEDED).args.report_to == ["tensorboard", "wandb"]


def test_peft_values_are_typed():
    flags = ["--peft.r", "4", "--peft.lora_alpha", "1e1", "--peft.bias", "none", "--peft.use_rslora", "true"]
    peft = parse(*NEEDED, *flags, "--peft.target_modules", "[q_proj]").peft
    assert peft == {"r": 4, "lora_alpha": 10.0, "bias": "none", "use_rslora": True, "target_modules": ["q_proj"]}


def test_dotted_keys_of_the_file_are_settings_too(tmp_path):
    settings = parse(*written(tmp_path, "mechanism.subsets: 64\ntask.labels: {0: a, 1: no}\n"), *NEEDED)
    assert settings.args.mechanism.subsets == 64
    assert settings.args.task.labels == {"0": "a", "1": "no"}


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--max_stepz", "3"], ["--max_stepz", "did you mean --max_steps?"]),
        (["--budget", "0.1"], ["did you mean --mechanism.budget?"]),
        (["--ste", "3"], ["--ste is no option here"]),
        (["--zzzzzz"], ["-h lists"]),
        (["--max_steps", "x"], ["max_steps: 'x' was given", "a whole number"]),
        (["--max_steps", "1.5"], ["max_steps: '1.5' was given", "a whole number"]),
        (["--max_steps"], ["--max_steps: no value was given", "a whole number"]),
        (["--mu", "small"], ["mu: 'small' was given", "a number"]),
        (["--mechanism.name", "foo"], ["mechanism.name: 'foo' was given", "one of zpl, mi, none"]),
        (["--mechanism.subsets", "3"], ["mechanism.subsets: 3 was given", "even"]),
        (["--mechanism.budget", "-1", "--mechanism.name", "mi"], ["mechanism.budget: -1.0 was given"]),
        (["--mechanism.budget", "nan", "--mechanism.name", "mi"], ["mechanism.budget: 'nan' was given", "a number"]),
        (["--mechanism.budget", "0.7", "--mechanism.name", "mi"], ["promises nothing", "--force"]),
        (["--force", "maybe"], ["'maybe' was given"]),
        (["--train_layers", "a"], ["train_layers: \"['a']\" was given", "whole numbers"]),
        (["surplus"], ["'surplus' was given where nothing more"]),
        (["--peft"], ["--peft: no value was given"]),
        (["--peft.r"], ["--peft.r: no value was given"]),
        (["--peft", "[a"], ["--peft: '[a' was given", "not YAML"]),
        (["--peft", "LORA"], ["peft: 'LORA' was given", "a mapping"]),
        (["--mechanism", "{nam: mi}"], ["mechanism.nam is no setting", "did you mean mechanism.name"]),
        (["--mechanism", "3"], ["mechanism: 3 was given", "a mapping"]),
        (["--task.labels", "{a: b}"], ["task.labels", "two or more"]),
        (["--task.labels", "{a: b, a: c}"], ["'a' is given twice"]),
        (["--task.template", "no placeholder"], ["task.template: 'no placeholder' was given", "{label}"]),
        (["--config", "nowhere.yaml"], ["config: 'nowhere.yaml' cannot be read", "No such file"]),
        (["--config", "."], ["config: '.' cannot be read"]),
    ],
)
def test_flags_that_are_wrong(flags, parts):
    message = refusal(*NEEDED, *flags)
    assert all(part in message for part in parts), message


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
        ("task: {labels: {a: [b], c: d}}", ["task.labels.a: ['b'] was given", "a text"]),
        ("peft: LORA", ["peft: 'LORA' was given", "a mapping"]),
        ("force: maybe", ["force: 'maybe' was given", "true or false"]),
        ("max_steps: 3\nmax_steps: 4", ["line 2: 'max_steps' is given twice"]),
        ("max_steps: [", ["own.yaml: not YAML in line"]),
        ("- steps", ["expected settings"]),
        ("just text", ["expected settings"]),
        ("? [a]\n: 3", ["a key must be"]),
        ("peft: &a {r: *a}", ["contains itself"]),
        ("model: !!python/object/apply:os.system [x]", ["model"]),
        ("train_layers: [1, x]", ["train_layers", "whole numbers"]),
    ],
)
def test_files_that_are_wrong(tmp_path, text, parts):
    message = refusal(*written(tmp_path, text), "--data.train", "p.csv")
    assert all(part in message for part in parts), message


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes(b"model: \xff\xfe")
    assert "not UTF-8" in refusal("--config", path)


@pytest.mark.parametrize(
    ("flags", "part"), [([], "model: none was given"), (["--model", "m"], "data.train: none was given")]
)
def test_what_every_run_needs(flags, part):
    assert part in refusal(*flags)


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert parse(*written(tmp_path, "# nothing\n"), *NEEDED) == parse(*NEEDED)


def test_saved_settings_come_back(recipe, tmp_path):
    settings = parse("--config", recipe, "--task.labels", "{no: 'yes', 'null': ~, '1e3': 'x: y'}")
    save_settings(settings, tmp_path / "config.yaml")
    assert load_settings(tmp_path / "config.yaml") == settings
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "  budget: 0.33\n" in text and "  template: '{sentence} It was {label}'\n" in text


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1)
labels = st.dictionaries(texts, texts, min_size=2, max_size=4).filter(lambda d: len(set(d.values())) == len(d))
scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | texts


@settings(max_examples=25)
@given(labels, texts, st.none() | st.dictionaries(texts, scalars | st.lists(scalars)), st.floats(1e-12, 1e6))
def test_any_settings_come_back(tmp_path_factory, labels, column, peft, rate):
    args = PACZeroConfig(task=TaskConfig(labels=labels, unit_column=column), learning_rate=rate, output_dir=column)
    before = RunSettings(column, DataConfig(column, None, column), peft, args)
    path = tmp_path_factory.mktemp("round") / "config.yaml"
    save_settings(before, path)
    assert load_settings(path) == before


def test_the_dump_states_every_setting():
    text = dump_settings(RunSettings("m"))
    for key in setting_types():
        assert f"{key.rpartition('.')[2]}:" in text


def test_loading_needs_a_file(tmp_path):
    with pytest.raises(PACZeroError, match="cannot be read"):
        load_settings(tmp_path / "demo")


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit):
        parser_for_train().parse_args(["-h"])
    text = capsys.readouterr().out
    for key in setting_types():
        assert f"--{key} " in text, key
    assert "T, how many updates" in text and "(default: 1000)" in text
    assert "--seed SEED" in text and "(default: 0)" in text
    assert r"(default: '\n')" in text and "(default: )" not in text
    assert "train_layers+" not in text and "--mechanism CONFIG" not in text


def test_one_line_and_exit_code_2_from_the_command(capsys):
    assert main(["doctor", "--config", "nowhere.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1


def test_infinite_floats_come_back(tmp_path):
    settings = RunSettings("m", DataConfig("p"), {"alpha": math.inf})
    save_settings(settings, tmp_path / "c.yaml")
    assert load_settings(tmp_path / "c.yaml") == settings
