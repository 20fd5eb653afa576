"""`eval` and `predict` take a run, a release, an adapter or a model; what is pasted in wrongly gets one line."""

import json
import shutil
from pathlib import Path

import pytest

TASK = ("--task.template", "{text} It was {label}", "--task.labels", "{0: terrible, 1: great}")


@pytest.fixture
def figures(paczero):
    def evaluate(*given):
        code, out, err = paczero("eval", *given, "--json")
        assert code == 0, err
        return json.loads(out)

    return evaluate


@pytest.fixture
def lone_adapter(finished_once, tmp_path):
    """The adapter's directory by itself, away from its release."""
    return Path(shutil.copytree(finished_once / "release" / "adapter", tmp_path / "lone"))


def test_a_release_by_itself_scores_as_the_run_does(figures, finished_once, tmp_path, tiny_test_csv):
    release = Path(shutil.copytree(finished_once / "release", tmp_path / "downloaded"))
    run = figures(finished_once)
    assert run["threshold"] != 0
    for target in (release, release / "adapter"):
        assert figures(target, "--data", tiny_test_csv) == run


def test_an_adapter_by_itself_is_told_its_task(figures, refusal, finished_once, lone_adapter, tiny_test_csv):
    assert "--task.template and --task.labels" in refusal("eval", lone_adapter, "--data", tiny_test_csv)
    told = figures(lone_adapter, "--data", tiny_test_csv, *TASK)
    by_file = figures(lone_adapter, "--config", finished_once / "config.yaml")  # which names the test set too
    assert told == by_file
    assert told["loss"] == pytest.approx(figures(finished_once)["loss"]) and told["threshold"] == 0


def test_its_base_lies_elsewhere(figures, refusal, lone_adapter, tiny_model_dir, tiny_test_csv, tmp_path):
    config = lone_adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tiny_model_dir), str(tmp_path / "gone")))
    given = ("eval", lone_adapter, "--data", tiny_test_csv, *TASK)
    assert "neither here nor on the hub; add --model" in refusal(*given)
    assert figures(*given[1:], "--model", tiny_model_dir)["records"] == 24
    content = json.loads(config.read_text()) | {"base_model_name_or_path": None}
    config.write_text(json.dumps(content))
    assert "the adapter names no base model; add --model" in refusal(*given)


def test_a_model_by_itself(figures, refusal, finished_full_once, tiny_model_dir, tiny_test_csv, tmp_path):
    tuned = Path(shutil.copytree(finished_full_once / "release" / "model", tmp_path / "tuned"))
    told = figures(tuned, "--data", tiny_test_csv, *TASK)
    assert told == figures(finished_full_once)
    base = figures(tiny_model_dir, "--data", tiny_test_csv, *TASK)
    assert base == figures(finished_full_once, "--base")
    assert "whose base nobody names" in refusal("eval", tuned, "--data", tiny_test_csv, *TASK, "--base")


def test_a_release_and_an_adapter_from_the_hub(figures, finished_once, lone_adapter, tiny_test_csv, monkeypatch):
    """Offline, from the hub's cache; a file that a repository lacks is no error."""
    from huggingface_hub import errors

    places = {"someone/release": finished_once / "release", "someone/adapter": lone_adapter}

    def download(name, sign):
        if name not in places or not (places[name] / sign).exists():
            raise errors.EntryNotFoundError("404: no such file")
        return str(places[name] / sign)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name: str(places[name]))
    assert figures("someone/release", "--data", tiny_test_csv) == figures(finished_once)
    assert figures("someone/adapter", "--data", tiny_test_csv, *TASK)["records"] == 24


def test_a_release_from_before_task_json(figures, refusal, finished, tiny_test_csv):
    release = finished / "release"
    (release / "task.json").unlink()
    assert figures(finished)["records"] == 24, "a run says its task in config.yaml"
    assert "does not say how it was trained" in refusal("eval", release, "--data", tiny_test_csv)
    assert figures(release, "--config", finished / "config.yaml") == figures(finished)


def test_a_changed_task_is_refused(refusal, finished, tiny_test_csv):
    path = finished / "release" / "task.json"
    path.write_text(path.read_text().replace("It was", "It is"))
    assert "was changed" in refusal("eval", finished / "release", "--data", tiny_test_csv, code=1)


def test_other_names_of_columns(figures, finished_once, tiny_test_csv, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(tiny_test_csv.read_text().replace("text,label", "review,stars", 1))
    names = ("--task.template", "{review} It was {label}", "--task.label_column", "stars")
    assert figures(finished_once / "release", "--data", other, *names) == figures(finished_once)


# -- pasted in wrongly -------------------------------------------------------------------------------------------------


def test_wrong_directories(refusal, finished_once, tiny_test_csv, tmp_path):
    given = ("--data", tiny_test_csv)
    assert "there is no such directory" in refusal("eval", "runs/frist", *given)
    assert "there is no such directory" in refusal("eval", "./nowhere", *given)
    assert "is a file" in refusal("eval", tiny_test_csv, *given)
    assert "holds no run" in refusal("eval", tmp_path, *given)
    assert repr(str(finished_once / "release")) in refusal("eval", finished_once / "release" / "figures", *given)
    assert "did you mean" in refusal("eval", finished_once.parent, *given)


def test_an_adapter_of_another_base(refusal, lone_adapter, finished_once, make_tiny_model, tiny_test_csv, tmp_path):
    given = ("--data", tiny_test_csv, *TASK)
    other = make_tiny_model(tmp_path / "same shape", seed=1)
    assert "base model" in refusal("eval", finished_once / "release", *given[:2], "--model", other, code=1)
    shallow = _changed_model(make_tiny_model(tmp_path / "shallow"), num_hidden_layers=2)
    assert "expected the base" in refusal("eval", lone_adapter, *given, "--model", shallow)
    wide = _changed_model(make_tiny_model(tmp_path / "wide"), hidden_size=48, num_attention_heads=6)
    assert "expected the base" in refusal("eval", lone_adapter, *given, "--model", wide)


def _changed_model(path, **changes):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path)
    for name, value in changes.items():
        setattr(config, name, value)
    config.layer_types = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def test_an_adapter_with_weights_of_other_layers(refusal, lone_adapter, tiny_model_dir, tiny_test_csv):
    from safetensors.torch import load_file, save_file

    path = lone_adapter / "adapter_model.safetensors"
    save_file({name.replace("layers.2.", "layers.1."): value for name, value in load_file(path).items()}, path)
    said = refusal("eval", lone_adapter, "--data", tiny_test_csv, *TASK)
    assert "belongs to another base" in said and "8 of its weights" in said


def test_what_is_no_adapter_that_works_here(refusal, lone_adapter, tiny_test_csv):
    config = lone_adapter / "adapter_config.json"
    good = json.loads(config.read_text())
    given = ("eval", lone_adapter, "--data", tiny_test_csv, *TASK)
    config.write_text(json.dumps(good | {"peft_type": "PROMPT_TUNING"}))
    assert "expected LORA" in refusal(*given)
    config.write_text("{}")
    assert "no adapter's configuration" in refusal(*given)
    config.write_text(json.dumps(good))
    (lone_adapter / "adapter_model.safetensors").write_bytes(b"cut off")
    assert "cannot be loaded" in refusal(*given)


def test_labels_the_wrong_way_round(refusal, paczero, finished_once, tiny_model_dir, tiny_test_csv):
    swapped = ("--task.labels", "{0: great, 1: terrible}")
    said = refusal("eval", finished_once, *swapped)
    assert "the same words the other way round" in said
    assert "in this order" in refusal("eval", finished_once, "--task.labels", "{pos: great, neg: terrible}")


def test_far_below_chance_is_remarked_on(paczero, finished_once, tiny_test_csv, tmp_path):
    _, out, err = paczero("eval", finished_once, "--json")
    right = json.loads(out)["accuracy"]
    turned = tmp_path / "turned.csv"
    text = tiny_test_csv.read_text().replace(",0\n", ",x\n").replace(",1\n", ",0\n").replace(",x\n", ",1\n")
    turned.write_text(text)
    _, out, err_turned = paczero("eval", finished_once, "--data", turned, "--json")
    assert json.loads(out)["accuracy"] == pytest.approx(1 - right)
    assert ("wrong way round" in err + err_turned) == (abs(right - 0.5) > 1.5 / 24**0.5)


def test_data_that_does_not_fit(refusal, finished_once, tmp_path, tiny_test_csv):
    lines = tiny_test_csv.read_text().splitlines()
    for name, content, said in (
        ("empty.csv", "", "the file is empty"),
        ("header.csv", "text,label\n", "there is no record"),
        ("column.csv", "review,label\nfine,1\n", "no column of the data; its columns are 'review', 'label'"),
        ("label.csv", "text,stars\nfine,1\n", "has no column 'label'"),
        ("value.csv", "text,label\nfine,good\n", "configured are '0', '1'"),
        ("semicolon.csv", "text;label\nfine;1\n", "looks separated by a semicolon"),
        ("broken.csv", lines[0] + "\nfine, but,1\n", "has 3 fields"),
    ):
        path = tmp_path / name
        path.write_text(content)
        assert said in refusal("eval", finished_once, "--data", path), name
    assert "there is no such file" in refusal("eval", finished_once, "--data", tmp_path / "nothing.csv")


def test_nobody_names_records(refusal, lone_adapter):
    assert "no test set is known" in refusal("eval", lone_adapter, *TASK)
