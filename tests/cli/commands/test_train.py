"""`paczero train`: a user's own files from the command line alone, stopped and resumed, each refusal in one line."""

import json
import os
import shutil
import signal

import pytest
import yaml

from paczero.cli import training
from paczero.cli.console import ProgressCallback
from paczero.cli.main import main
from paczero.inference import evaluation


def interrupt_at(monkeypatch, step, how):
    seen = ProgressCallback.on_step

    def on_step(self, what):
        seen(self, what)
        if what.index == step and what.loss is not None:
            how()

    monkeypatch.setattr(ProgressCallback, "on_step", on_step)


def control_c():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)


def released(run):
    return {p.relative_to(run): p.read_bytes() for p in (run / "release").rglob("*") if p.is_file()}


def test_own_records_train_from_the_command_line_alone(paczero, arguments, tmp_path):
    run = tmp_path / "run"
    code, out, err = paczero(*arguments(run, "--mechanism.family", "paired"))
    assert code == 0
    assert {p.name for p in run.iterdir()} == {
        "config.yaml",
        "decisions.csv",
        "private",
        "release",
        "report",
        "summary.json",
    }
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary) >= {
        *("accuracy_before", "accuracy_before_median", "accuracy_after", "unanimity", "steps", "seconds"),
        *("median_of", "majority", "test_records", "dev_accuracy_before", "dev_accuracy_after", "chosen_step"),
    }
    assert (summary["steps"], summary["chosen_step"], summary["median_of"]) == (6, 6, "dev")
    assert 0 <= summary["unanimity"] <= 1 and summary["seconds"] > 0 and summary["spent"] == 0
    assert "paczero replay" in out and "--verify" in out and f"{run}/release" in out
    assert "Traceback" not in err


def test_before_it_starts_it_says_what_it_is_and_costs(paczero, arguments, tmp_path):
    _, _, err = paczero(*arguments(tmp_path / "run"))
    whole = err.replace("\n           ", " ")  # long lines are folded
    said = {line.split()[0]: line for line in whole.splitlines() if line[:1].isupper()}
    assert "224 train (LORA; each step runs 1 of 3 layers)" in said["Model"]
    assert "48 units, one a record: 48 records" in said["Pool"]
    assert "zpl, M = 8 candidates (random), budget 0 nats" in said["Mechanism"]
    assert "6 steps, each 2 passes over" in said["Cost"]
    assert "\x1b" not in err and "\r" not in err, "plain lines, for no terminal"
    assert "step 6 of 6" in err and "unanimous" in err and "dev " in err
    assert "warning: test_seed" in err


def test_a_budget_is_shown_as_it_is_spent(paczero, arguments, tmp_path):
    run = tmp_path / "run"
    code, _, err = paczero(*arguments(run, "--mechanism.name", "mi", "--mechanism.budget", "0.33"))
    assert code == 0
    assert "of 0.33 nats" in err
    assert 0 < json.loads((run / "summary.json").read_text())["spent"] <= 0.33


def test_without_privacy_nothing_is_called_unanimous(paczero, arguments, tmp_path):
    run = tmp_path / "run"
    code, out, err = paczero(*arguments(run, "--mechanism.name", "none"))
    assert code == 0
    assert "unanimous" not in out + err
    assert json.loads((run / "summary.json").read_text())["unanimity"] is None


@pytest.mark.parametrize("how", [control_c, terminate, hang_up])
def test_interrupted_and_resumed_is_the_same(paczero, refusal, arguments, tmp_path, monkeypatch, finished_once, how):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, how)
        line = refusal(*arguments(run, "--threshold", "median"), code=130)
    assert line == f"stopped after 3 steps; go on with: paczero train --resume {run}"
    assert not (run / "release").exists()
    assert paczero("train", "--resume", run)[0] == 0
    assert released(run) == released(finished_once)
    same = ("accuracy_before", "accuracy_before_median", "accuracy_after", "unanimity", "threshold")
    summaries = [json.loads((r / "summary.json").read_text()) for r in (run, finished_once)]
    assert [summaries[0][key] for key in same] == [summaries[1][key] for key in same]


def test_interrupted_before_the_run_begins(refusal, arguments, tmp_path, monkeypatch):
    def load(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "make_job", load)
    assert "nothing was written" in refusal(*arguments(tmp_path / "run"), code=130)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_only_shown(paczero, finished):
    before = (finished / "summary.json").read_bytes()
    code, out, err = paczero("train", "--resume", finished)
    assert code == 0
    assert "finished already" in err and "Finished: 6 steps" in out
    assert (finished / "summary.json").read_bytes() == before


def test_a_summary_that_a_kill_prevented_is_made_up_for(paczero, finished):
    summary = json.loads((finished / "summary.json").read_text())
    (finished / "summary.json").unlink()
    shutil.rmtree(finished / "report")
    assert paczero("train", "--resume", finished)[0] == 0
    again = json.loads((finished / "summary.json").read_text())
    assert summary | {"seconds": 0} == again | {"seconds": 0}
    assert (finished / "report" / "index.html").is_file()


def test_resume_takes_no_other_settings(refusal, finished, finished_once):
    assert "--max_steps: given with --resume" in refusal("train", "--resume", finished, "--max_steps", "9")
    assert "--secret" in refusal("train", "--resume", finished, "--secret", "x")


def test_resume_of_nothing(refusal, tmp_path):
    assert "holds no run" in refusal("train", "--resume", tmp_path)


def test_moved_records_are_named_anew(paczero, refusal, arguments, tmp_path, monkeypatch, tiny_pool_csv, make_tiny_csv):
    run, moved = tmp_path / "run", tmp_path / "moved.csv"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, control_c)
        refusal(*arguments(run), code=130)
    other = make_tiny_csv(tmp_path / "other.csv", 48, seed=9)
    assert "journal" in refusal("train", "--resume", run, "--data.train", other, code=1)
    shutil.copy(tiny_pool_csv, moved)
    anew = ("--engine.kernel", "off", "--engine.check_steps", 3, "--cache_dir", tmp_path / "cache")
    assert paczero("train", "--resume", run, "--data.train", moved, *anew)[0] == 0
    assert any((tmp_path / "cache").iterdir())


def test_a_run_goes_on_from_elsewhere(
    paczero, refusal, arguments, tmp_path, monkeypatch, tiny_model_dir, make_tiny_model, finished_once
):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(tiny_model_dir, here / "models" / "tiny")
    there.mkdir()
    monkeypatch.chdir(here)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, control_c)
        refusal(*arguments("run", "--model", "models/tiny", "--threshold", "median"), code=130)
    shutil.copytree(here / "run", there / "run")
    monkeypatch.chdir(there)
    line = refusal("train", "--resume", "run")
    assert "cannot be loaded" in line and "model 'models/tiny'" in line and line.endswith("add --model PATH")
    shutil.move(here / "models", here / "moved")
    another = make_tiny_model(tmp_path / "another", seed=5)
    assert "journal" in refusal("train", "--resume", "run", "--model", another, code=1)
    assert paczero("train", "--resume", "run", "--model", here / "moved" / "tiny")[0] == 0
    header = json.loads((there / "run" / "release" / "transcript.jsonl").read_text().splitlines()[0])
    assert header["base"]["id"] == "models/tiny", "what was begun under this name ends under it"
    assert (
        json.loads((there / "run" / "release" / "adapter" / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ]
        == "models/tiny"
    )
    weights = "adapter/adapter_model.safetensors"
    assert (there / "run/release" / weights).read_bytes() == (finished_once / "release" / weights).read_bytes()


def test_all_lost_paths_are_named_at_once(refusal, arguments, tmp_path, monkeypatch, tiny_model_dir, tiny_pool_csv):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(tiny_model_dir, here / "tiny")
    shutil.copy(tiny_pool_csv, here / "pool.csv")
    there.mkdir()
    monkeypatch.chdir(here)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, control_c)
        refusal(*arguments("run", "--model", "./tiny", "--data.train", "pool.csv"), code=130)
    monkeypatch.chdir(there)
    assert refusal("train", "--resume", here / "run").endswith("add --model PATH --data.train PATH")
    more = ("--model", here / "tiny")
    assert refusal("train", "--resume", here / "run", *more).endswith("or add --data.train PATH")


def test_former_names_in_a_runs_own_file_are_no_ones_mistake(paczero, finished):
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace("max_steps:", "steps:"))
    code, _, err = paczero("train", "--resume", finished)
    assert code == 0 and "is now called" not in err


def test_printed_settings_are_a_config(paczero, arguments, tmp_path):
    code, out, _ = paczero(*arguments(tmp_path / "run", "--print_settings"))
    assert code == 0
    assert yaml.safe_load(out)["max_steps"] == 6
    assert not (tmp_path / "run").exists()


def test_a_secret_may_be_used_again(paczero, arguments, tmp_path):
    """A budget that is fine by itself is warned of where the sum on one secret promises nothing; the card says so."""

    def run(name, budget, *more):
        chosen = ["--test_seed", "null", "--mechanism.name", "mi", "--mechanism.budget", budget]
        return paczero(*arguments(tmp_path / name, *chosen, *more))

    def secret(name):
        return "--secret", tmp_path / name / "private" / "secret.json"

    assert run("a", 0.2)[0] == 0
    code, _, err = run("b", 0.1, *secret("a"))
    assert code == 0 and "ln 2" not in err
    assert "on average over releases, earlier runs on this secret included (0.2 nats)" in " ".join(err.split())
    code, _, err = run("c", 0.5, *secret("b"))
    assert code == 0 and "a budget of 0.8 nats on one secret (ln 2 = 0.693 or more) promises nothing" in err
    card = " ".join((tmp_path / "c" / "release" / "README.md").read_text().split())
    assert "No privacy" in card and "0.2 + 0.1 nats in earlier runs and 0.5 in this one, sum to ln 2" in card
    assert paczero("verify", tmp_path / "c")[0] == 0
    code, _, err = run("d", 0.1, *secret("a"))
    assert code == 2 and "used again by" in err and not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--data.train", "nothing.csv"], "nothing.csv"),
        (["--data.dev", "nothing.csv"], "nothing.csv"),
        (["--data.test", "nothing.csv"], "nothing.csv"),
        (["--task.label_column", "stars"], "'stars'"),
        (["--task.template", "{review} It was {label}"], "review"),
        (["--task.labels", "{pos: great, neg: terrible}"], "label"),
        (["--task.template", "{text} It was"], "task.template"),
        (["--mechanism.subsets", "7"], "mechanism.subsets"),
        (["--mechanism.name", "mi", "--mechanism.budget", "0.7"], "promises nothing"),
        (["--mechanism.name", "mi", "--mechanism.budget", "-1"], "mechanism.budget"),
        (["--mechanism.name", "mi", "--mechanism.budget", "nan"], "mechanism.budget"),
        (["--secret", "nothing.json"], "secret: 'nothing.json'"),
        (["--peft.rank", "4"], "rank"),
        (["--report_to", "[wandb]"], "report_to"),
        (["--device", "cuda:99"], "device"),
    ],
)
def test_refused_before_the_model_is_loaded(paczero, arguments, tmp_path, monkeypatch, more, line):
    from paczero.training import trainer

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    code, _, err = paczero(*arguments(tmp_path / "run", *more))
    assert code == 2 and line in err
    assert "loading" not in err or "--secret" in more, "only the trainer checks the secret"
    assert not (tmp_path / "run").exists()


def test_too_few_units(refusal, arguments, tmp_path, make_tiny_csv):
    small = make_tiny_csv(tmp_path / "small.csv", 31, seed=4)
    assert "32" in refusal(*arguments(tmp_path / "run", "--data.train", small))


def test_a_directory_in_use(refusal, arguments, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert "--resume" in refusal(*arguments(tmp_path / "run"))
    (tmp_path / "file").write_text("mine")
    assert "output_dir" in refusal(*arguments(tmp_path / "file" / "run"))


def test_no_model(refusal, arguments, tmp_path):
    assert "cannot be loaded" in refusal(*arguments(tmp_path / "run", "--model", tmp_path / "nowhere"))


def test_forced_budget_is_warned_of(paczero, arguments, tmp_path):
    forced = ["--mechanism.name", "mi", "--mechanism.budget", "0.7", "--force", "true", "--test_seed", "null"]
    code, _, err = paczero(*arguments(tmp_path / "run", *forced))
    assert code == 0
    assert "warning: a budget of 0.7 nats" in err and "promises nothing" in err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), "DefaultCPUAllocator"])
def test_no_memory_proposes_smaller_batches(refusal, arguments, tmp_path, monkeypatch, error):
    raised = RuntimeError("DefaultCPUAllocator: can't allocate memory") if isinstance(error, str) else error

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(evaluation, "untuned_metrics", fail)
    assert "--batch_tokens 128 " in refusal(*arguments(tmp_path / "run", "--batch_tokens", "256"))


def test_several_labels_and_people(paczero, tmp_path, tiny_model_dir):
    rows = [f"text {n},{n % 3},person {n // 2}" for n in range(72)]
    (tmp_path / "pool.csv").write_text("\n".join(["sentence,stars,who", *rows]) + "\n")
    code, _, err = paczero(
        *("train", "--model", tiny_model_dir, "--data.train", tmp_path / "pool.csv", "--max_steps", 2),
        *("--task.template", "{sentence} It was {label}", "--task.label_column", "stars", "--task.unit_column", "who"),
        *("--task.labels", "{0: terrible, 1: good enough, 2: great}", "--train_layers", "[2]"),
        *("--data.test", tmp_path / "pool.csv", "--output_dir", tmp_path / "run", "--learning_rate", "1e-2"),
    )
    assert code == 0, err
    assert "36 units (by who)" in err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["accuracy_before_median"] is None and summary["dev_accuracy_after"] is None
    assert main(["eval", str(tmp_path / "run"), "--json"]) == 0


def test_a_run_begun_in_python_goes_on_and_is_scored_here(
    paczero, refusal, tmp_path, tiny_model_dir, tiny_pool_csv, tiny_dev_csv, monkeypatch
):
    from paczero import PACZeroConfig, PACZeroTrainer
    from paczero.data.loading import load_rows

    for name, pool in (("path", str(tiny_pool_csv)), ("rows", load_rows(str(tiny_pool_csv)))):
        run = tmp_path / name
        args = PACZeroConfig(output_dir=str(run), max_steps=2, train_layers=[-1], learning_rate=1e-2)
        trainer = PACZeroTrainer(str(tiny_model_dir), args, pool)
        with monkeypatch.context() as patched:
            patched.setattr(trainer, "_publish", interrupted)
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        if name == "rows":
            assert "data.train: none was given" in refusal("train", "--resume", run)
        more = () if name == "path" else ("--data.train", tiny_pool_csv)
        assert paczero("train", "--resume", run, *more)[0] == 0
        assert paczero("eval", run, "--data", tiny_dev_csv)[0] == 0


def interrupted(outcome):
    raise KeyboardInterrupt
