"""A target is a run, a release, an adapter or a model; anything else is refused in one line."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from paczero.config_io import load_settings
from paczero.errors import PACZeroError
from paczero.inference import evaluate, find_target
from paczero.release.verify.release import verify_release

from ..released_runs import rehash

TASK = {"template": "{text} It was {label}", "labels": {"0": "terrible", "1": "great"}}


def test_a_release_by_itself_scores_as_the_run_does(metrics, finished_once, tmp_path, tiny_test_csv):
    release = Path(shutil.copytree(finished_once / "release", tmp_path / "downloaded"))
    run = metrics(finished_once)
    assert run["threshold"] != 0
    for target in (release, release / "adapter"):
        assert metrics(target, tiny_test_csv) == run


def test_an_adapter_by_itself_needs_the_task(metrics, refused, finished_once, lone_adapter, tiny_test_csv):
    assert "task.template and task.labels" in refused(lone_adapter, tiny_test_csv)
    result = metrics(lone_adapter, tiny_test_csv, task=TASK)
    named = {"task": TASK, "data": {"test": str(tiny_test_csv)}}
    assert evaluate(lone_adapter, settings=named).metrics == result
    assert result["loss"] == pytest.approx(metrics(finished_once)["loss"]) and result["threshold"] == 0
    assert "no test set is known" in refused(lone_adapter, task=TASK)


def test_a_model_by_itself(metrics, refused, finished_full_once, tiny_model_dir, tiny_test_csv, tmp_path):
    tuned = Path(shutil.copytree(finished_full_once / "release" / "model", tmp_path / "tuned"))
    assert metrics(tuned, tiny_test_csv, task=TASK) == metrics(finished_full_once)
    base = metrics(tiny_model_dir, tiny_test_csv, task=TASK)
    assert base == metrics(finished_full_once, base=True)
    assert "base model is not known" in refused(tuned, tiny_test_csv, task=TASK, base=True)


def test_a_release_and_an_adapter_from_the_hub(metrics, finished_once, lone_adapter, tiny_test_csv, monkeypatch):
    """Offline, from the hub's cache; a file that a repository lacks is no error."""
    folders = {"someone/release": finished_once / "release", "someone/adapter": lone_adapter}

    def download(name, mark):
        if name not in folders or not (folders[name] / mark).exists():
            raise errors.EntryNotFoundError("404: no such file")
        return str(folders[name] / mark)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name: str(folders[name]))
    assert metrics("someone/release", tiny_test_csv) == metrics(finished_once)
    assert metrics("someone/adapter", tiny_test_csv, task=TASK)["records"] == 24


def test_a_release_without_task_json(metrics, refused, finished, tiny_test_csv):
    release = finished / "release"
    (release / "task.json").unlink()
    assert "task.json: is missing" in refused(release, tiny_test_csv, code=1)
    rehash(release)
    assert metrics(finished)["records"] == 24, "a run states its task in config.yaml"
    assert "does not say how it was trained" in refused(release, tiny_test_csv)
    assert metrics(release, tiny_test_csv, task=TASK) == metrics(finished)


def test_what_was_changed_is_refused(refused, finished, tiny_test_csv):
    path = finished / "release" / "task.json"
    path.write_text(path.read_text().replace("It was", "It is"))
    assert "was changed" in refused(finished / "release", tiny_test_csv, code=1)
    rehash(finished / "release")
    assert "its task is not that of the release" in refused(finished, tiny_test_csv, code=1)


def test_other_weights_than_those_of_the_statement(refused, finished, tiny_test_csv):
    """The hash of the tensors is compared too, since anyone can write the hash of a file."""
    release = finished / "release"
    path = release / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    for target in (finished, release, release / "adapter"):
        assert "was changed" in refused(target, tiny_test_csv, code=1)
    rehash(release)
    for target in (finished, release, release / "adapter"):
        assert "but privacy.json says" in refused(target, tiny_test_csv, code=1)


def test_other_settings_of_the_adapter(refused, finished, tiny_test_csv):
    path = finished / "release" / "adapter" / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"lora_alpha": 2 * content["lora_alpha"]}, indent=2, sort_keys=True) + "\n")
    rehash(finished / "release")
    assert "lora_alpha is" in refused(finished, tiny_test_csv, code=1)


def test_an_additional_file_beside_the_weights(refused, finished, tiny_test_csv):
    (finished / "release" / "adapter" / "more.safetensors").write_bytes(b"")
    assert "is not in the statement" in refused(finished, tiny_test_csv, code=1)


def test_weights_beside_a_release_are_neither_checked_nor_loaded(refused, finished, tiny_test_csv):
    """The folder that is verified is the folder that is loaded, so one with two readings is refused."""
    (finished / "config.yaml").unlink()
    assert find_target(finished).adapter == finished / "release" / "adapter"
    for mark, folder in (("adapter_config.json", "adapter"), ("config.json", "adapter")):
        shutil.copy(finished / "release" / folder / "adapter_config.json", finished / mark)
        assert "not clear which is meant" in refused(finished, tiny_test_csv)
        with pytest.raises(PACZeroError, match="not clear which is meant"):
            verify_release(finished)
        (finished / mark).unlink()
    assert verify_release(finished).folder == verify_release(finished / "release" / "adapter").folder


def test_a_run_brings_its_settings(finished_once, tiny_model_dir):
    target = find_target(finished_once, {"batch_tokens": 64, "engine": {"packing": False}})
    own = load_settings(finished_once / "config.yaml")
    assert (target.settings, target.base, target.args.task) == (own, str(tiny_model_dir), own.args.task)
    assert target.args.batch_tokens == 64 and not target.args.engine.packing


def test_other_names_of_columns(metrics, finished_once, tiny_test_csv, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(tiny_test_csv.read_text().replace("text,label", "review,stars", 1))
    task = {"template": "{review} It was {label}", "label_column": "stars"}
    assert metrics(finished_once / "release", other, task=task) == metrics(finished_once)


def test_wrong_directories(refused, finished_once, tiny_test_csv, tmp_path):
    assert "there is no such directory" in refused("runs/frist")
    assert "there is no such directory" in refused("./nowhere")
    assert "is a file" in refused(tiny_test_csv)
    assert "holds no run" in refused(tmp_path)
    assert repr(str(finished_once / "release")) in refused(finished_once / "release" / "figures")
    assert "did you mean" in refused(finished_once.parent)


def test_an_unfinished_run(refused, finished):
    (finished / "release" / "privacy.json").unlink()
    assert "not finished" in refused(finished)


def test_labels_the_wrong_way_round(refused, finished_once):
    swapped = {"labels": {"0": "great", "1": "terrible"}}
    assert "the same words the other way round" in refused(finished_once, task=swapped)
    renamed = {"labels": {"pos": "great", "neg": "terrible"}}
    assert "in this order" in refused(finished_once, task=renamed)


def test_data_that_does_not_fit(refused, finished_once, tmp_path, tiny_test_csv):
    header = tiny_test_csv.read_text().splitlines()[0]
    for name, content, message in (
        ("empty.csv", "", "the file is empty"),
        ("header.csv", "text,label\n", "there is no record"),
        ("column.csv", "review,label\nfine,1\n", "no column of the data; its columns are 'review', 'label'"),
        ("label.csv", "text,stars\nfine,1\n", "has no column 'label'"),
        ("value.csv", "text,label\nfine,good\n", "configured are '0', '1'"),
        ("semicolon.csv", "text;label\nfine;1\n", "looks separated by a semicolon"),
        ("broken.csv", header + "\nfine, but,1\n", "has 3 fields"),
    ):
        path = tmp_path / name
        path.write_text(content)
        assert message in refused(finished_once, path), name
    assert "there is no such file" in refused(finished_once, tmp_path / "nothing.csv")


def test_settings_from_python_are_checked(refused, finished_once, lone_adapter, tiny_model_dir):
    assert "batch_token is no setting" in refused(finished_once, batch_token=64)
    assert "engine.packed is no setting" in refused(finished_once, engine={"packed": False})
    assert "task.label is no setting" in refused(lone_adapter, task=TASK | {"label": {}})
    assert "batch_tokens: 'many' was given" in refused(finished_once, batch_tokens="many")
    target = find_target(
        lone_adapter, {"task": TASK | {"labels": {0: "terrible", 1: "great"}}, "model": tiny_model_dir}
    )
    assert (target.base, dict(target.args.task.labels)) == (str(tiny_model_dir), TASK["labels"])


def test_weights_of_any_run_may_be_scored_in_half_precision(finished):
    """Only training has a mechanism that needs float32."""
    path = finished / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["mechanism"] |= {"name": "dp-sign", "epsilon": 2.0, "budget": None}
    path.write_text(yaml.safe_dump(settings))
    assert load_settings(path).args.mechanism.name == "dp-sign"
    assert find_target(finished, {"dtype": "bfloat16"}).args.dtype == "bfloat16"
    assert find_target(finished).args.dtype == "float32"


def outside(place, path):
    """Moves a file or folder away and leaves a link to it."""
    moved = place / path.name
    path.rename(moved)
    path.symlink_to(moved)


@pytest.mark.parametrize(
    "name", ["transcript.jsonl", "task.json", "privacy.json", "adapter", "adapter/adapter_config.json"]
)
def test_a_link_out_of_a_release_is_refused(finished, tmp_path, name):
    """The files behind it have the stated hashes, now; but they are not the release's, and change without it."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    outside(place, finished / "release" / name)
    for given in (finished, finished / "release", finished / "release" / "adapter"):
        with pytest.raises(PACZeroError, match="is a link or a special file") as error:
            find_target(given)
        assert "\n" not in str(error.value)


def test_a_pipe_in_the_place_of_weights_is_refused_and_not_waited_for(finished):
    path = finished / "release" / "adapter" / "adapter_model.safetensors"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PACZeroError, match="is a link or a special file"):
        find_target(finished)


def test_links_of_the_hub_s_cache_are_taken(finished, tmp_path):
    """A snapshot is a folder of links to files that are named by their hash."""
    cache = tmp_path / "models--someone--release"
    snapshot = cache / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    (cache / "blobs").mkdir()
    shutil.copytree(finished / "release", snapshot)
    for number, path in enumerate([path for path in snapshot.rglob("*") if path.is_file()]):
        path.rename(cache / "blobs" / str(number))
        path.symlink_to(Path(os.path.relpath(cache / "blobs" / str(number), path.parent)))
    assert find_target(snapshot).adapter == snapshot / "adapter"
    path = snapshot / "adapter" / "adapter_config.json"
    path.unlink()
    path.symlink_to(finished / "release" / "adapter" / "adapter_config.json")
    with pytest.raises(PACZeroError, match="is a link or a special file"):
        find_target(snapshot)
