"""Flags over file over defaults in any order, texts as written, one line for what is wrong, help."""

import pytest

from paczero.cli.main import main
from paczero.cli.parser import parser_for_train
from paczero.config import OTHER_NAMES, FormerNameWarning, Renamed
from paczero.config_io import SETTING_TYPES, DataConfig, RunSettings, build_settings
from paczero.errors import PACZeroError

from ..test_config_io import RECIPE

NEEDED = ["--model", "m", "--data.train", "pool.csv"]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def parse(*arguments):
    return build_settings(parser_for_train().parse_args(list(map(str, arguments))).settings)


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


def test_flags_win_whatever_the_order(recipe):
    flags = ["--max_steps", 7, "--mechanism.budget", 0.1, "--data.dev", "other.csv", "--peft.r", 4, "--mu=1e-4"]
    before, after = parse(*flags, "--config", recipe), parse("--config", recipe, *flags)
    assert before == after
    assert (after.args.max_steps, after.args.mechanism.budget, after.args.mu) == (7, 0.1, 1e-4)
    assert after.data == DataConfig(train="pool.csv", dev="other.csv")
    assert after.peft == {"peft_type": "LORA", "r": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    assert after.args.mechanism.subsets == 64  # the file's
    assert after.args.mechanism.clip == 25.0  # the default


def test_the_namespace_has_what_was_given(recipe):
    parser = parser_for_train()
    assert parser.parse_args(["--resume", "runs/x"]).settings == {}
    found = parser.parse_args(["--max_steps", "3", "--peft.r", "4", "--task.labels.a", "b", "--config", str(recipe)])
    assert found.flags == {"max_steps": 3, "peft.r": 4, "task.labels.a": "b"}
    assert found.settings.items() >= {"max_steps": 3, "mechanism.budget": 0.33}.items()
    assert (found.settings["peft"]["r"], found.settings["task.labels"]["a"]) == (4, "b")


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_name_of_another_library_or_version(name):
    value = "last" if name == "select" else "linear" if name == "schedule" else "0.5" if name != "steps" else "5"
    now = OTHER_NAMES[name]
    if isinstance(now, Renamed):
        with pytest.warns(FormerNameWarning, match=now):
            flags = parser_for_train().parse_args([f"--{name}", value]).flags
        assert list(flags) == [now] and flags[now] in (5, "linear", None, 0.5)
    else:
        assert f"{name}: it was given" in refusal(*NEEDED, f"--{name}")


def test_a_former_name_beside_the_present_one():
    with pytest.warns(FormerNameWarning):
        assert "--steps: it was given together with --max_steps" in refusal(*NEEDED, "--steps", 3, "--max_steps", 4)


def test_former_names_are_said_once_each(capsys):
    assert main(["train", *NEEDED, "--steps", "3", "--select", "last", "--print_settings"]) == 0
    out, err = capsys.readouterr()
    assert "max_steps: 3\n" in out and "metric_for_best_model: null\n" in out
    assert [line.split()[2] for line in err.splitlines()] == ["steps", "select"]


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


def test_one_label_of_the_file_is_changed_by_a_flag(recipe):
    assert parse("--config", recipe, "--task.labels.1", "fine").args.task.labels == {"0": "terrible", "1": "fine"}


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
        (["--train_layers", "a"], ["train_layers: ['a'] was given", "whole numbers"]),
        (["surplus"], ["'surplus' was given where nothing more"]),
        (["--peft"], ["--peft: no value was given"]),
        (["--peft.r"], ["--peft.r: no value was given"]),
        (["--peft", "[a"], ["--peft: '[a' was given", "not YAML"]),
        (["--peft", "LORA"], ["peft: 'LORA' was given", "a mapping"]),
        (["--mechanism", "{nam: mi}"], ["mechanism.nam is no setting", "did you mean mechanism.name"]),
        (["--mechanism", "3"], ["mechanism: '3' was given", "a mapping"]),
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
    ("flags", "part"), [([], "model: none was given"), (["--model", "m"], "data.train: none was given")]
)
def test_what_every_run_needs(flags, part):
    assert part in refusal(*flags)


def helped(flag, capsys):
    with pytest.raises(SystemExit):
        parser_for_train().parse_args([flag])
    return capsys.readouterr().out


def test_help_all_explains_every_setting(capsys):
    text = helped("--help-all", capsys)
    assert text == helped("--help_all", capsys)
    for key in SETTING_TYPES:
        assert f"--{key} " in text, key
    assert "(default: 1000)" in text and r"(default: '\n')" in text and "(default: )" not in text
    assert not [name for name in OTHER_NAMES if f"--{name} " in text]


def test_help_shows_the_settings_that_matter(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = helped("-h", capsys)
    shown = [key for key in SETTING_TYPES if f"\n  --{key} " in text]
    assert {"model", "data.train", "mechanism.name", "max_steps", "output_dir"} <= set(shown) and len(shown) < 16
    assert max(map(len, text.splitlines())) <= 120 and "--help-all" in text


def test_one_line_and_exit_code_2_from_the_command(capsys):
    assert main(["doctor", "--config", "nowhere.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
