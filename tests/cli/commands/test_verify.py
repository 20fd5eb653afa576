"""`paczero verify` and `paczero sign`: what they say, and that anything that differs is one line and exit code 1."""

import json
import re
import shutil

from safetensors.torch import load_file, save_file

from paczero.release import statement

from ...release.test_signing import write_keys
from ...released_runs import reseal


def test_what_there_was_to_compare_with_is_said(paczero, finished, tmp_path, tiny_model_dir):
    release, key = finished / "release", write_keys(tmp_path)
    code, out, _ = paczero("verify", release)
    assert code == 0 and "nothing to compare with" in out and "made again from the first" in out
    code, out, _ = paczero("verify", finished, "--model", tiny_model_dir)
    assert code == 0 and "Beside the folder there was the base model" in out
    code, out, _ = paczero("sign", finished, "--key", key)
    assert code == 0 and "signed by SHA256:" in out
    code, out, _ = paczero("verify", release)
    assert code == 0 and "a key that you did not name" in out and "does not detect a forger" in out
    code, out, _ = paczero("verify", release, "--key", f"{key}.pub", "--model", tiny_model_dir)
    assert code == 0 and "the key that was named" in out and "does not detect a forger" not in out


def test_nothing_but_the_folder_is_needed(paczero, finished, tmp_path):
    shutil.move(finished / "release", tmp_path / "downloaded")
    shutil.rmtree(finished)
    assert paczero("verify", tmp_path / "downloaded")[0] == 0


def test_full_tuning_says_what_it_could_not_make_again(paczero, finished_full_once, tiny_model_dir):
    code, out, _ = paczero("verify", finished_full_once)
    assert code == 0 and "not made again: full tuning begins from the base model" in out
    assert paczero("verify", finished_full_once, "--model", tiny_model_dir)[0] == 0


def test_another_base_is_found(refusal, finished, tmp_path, make_tiny_model):
    other = make_tiny_model(tmp_path / "other", seed=3)
    assert refusal("verify", finished, "--model", other, code=1).startswith("base model: ")


def test_what_was_not_trained_is_compared_with_the_base_only(paczero, refusal, finished_full, tiny_model_dir):
    release = finished_full / "release"
    path = release / "model" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if ".layers.0." in name)  # the last layer was trained
    tensors[name] = tensors[name] + 1
    save_file(tensors, path, metadata={"format": "pt"})
    reseal(release)
    assert paczero("verify", release)[0] == 0
    assert f"{name} differs" in refusal("verify", release, "--model", tiny_model_dir, code=1)


def test_figures_of_the_development_set_are_the_owners_word(paczero, finished):
    card, path = finished / "release" / "README.md", finished / "release" / "privacy.json"
    text, count = re.subn(r"(\| served \(step \d+\) \|) [^|]+ \|", r"\1 99.9 % |", card.read_text())
    assert count == 1
    card.write_text(text)
    reseal(finished / "release", development=json.loads(path.read_text())["development"] | {"served": 0.999})
    assert paczero("verify", finished)[0] == 0


def test_changes_are_found_and_named(refusal, finished):
    path = finished / "release" / "privacy.json"
    whole = path.read_bytes()
    document = json.loads(whole) | {"units": 41}
    path.write_bytes(statement.render(statement.seal(document)))
    assert "units does not agree" in refusal("verify", finished, code=1)
    path.write_bytes(whole)
    (finished / "release" / "journal.jsonl").write_text("{}\n")
    assert "journal.jsonl: is no part of a release" in refusal("verify", finished, code=1)


def test_a_release_that_does_not_agree_is_not_signed(refusal, finished, tmp_path):
    (finished / "release" / "more.txt").write_text("x")
    assert "more.txt" in refusal("sign", finished, "--key", write_keys(tmp_path), code=1)
    (finished / "release" / "more.txt").unlink()
    assert "--key: nothing was given" in refusal("sign", finished)
    assert not (finished / "release" / "signature.json").exists()


def test_what_is_no_release(refusal, tmp_path):
    assert "is no directory" in refusal("verify", tmp_path / "nowhere")
    assert "holds no release" in refusal("verify", tmp_path)
