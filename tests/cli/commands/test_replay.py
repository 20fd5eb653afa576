"""`paczero replay`: weights from the transcript alone; any change is named in one line, with exit code 1."""

import json
import re
import shutil

import pytest

from paczero.mechanism.transcript import Transcript

from ...released_runs import rehash


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def other_sign(release, step=1):
    path = release / "transcript.jsonl"
    lines = path.read_text().splitlines()
    value = json.loads(lines[step + 1])["y"][0]
    lines[step + 1] = f'{{"t":{step},"y":[{-value}]}}'
    path.write_text("\n".join(lines) + "\n")


def without_last_step(release):
    path = release / "transcript.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def test_a_release_verifies(paczero, finished_once):
    for what in (finished_once, finished_once / "release"):
        code, out, _ = paczero("replay", what, "--verify")
        assert code == 0
        assert "6 of 6 steps" in out and "4 tensors made again" in out and "Verified" in out


def test_full_tuning_with_tied_weights_and_an_average_verifies(paczero, finished_full_once):
    code, out, err = paczero("replay", finished_full_once, "--verify")
    assert code == 0, err
    assert "bit for bit" in out


def test_nothing_private_is_needed(paczero, finished, tmp_path):
    shutil.move(finished / "release", tmp_path / "downloaded")
    shutil.rmtree(finished)
    assert paczero("replay", tmp_path / "downloaded", "--verify")[0] == 0


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "adapter/adapter_config.json", "README.md"])
def test_a_changed_file(refusal, finished, name):
    flip(finished / "release" / name, -20)
    line = refusal("replay", finished, "--verify", code=1)
    assert name in line and "changed" in line


@pytest.mark.parametrize("name", ["transcript.jsonl", "README.md", "adapter/adapter_model.safetensors", "privacy.json"])
def test_a_missing_file(refusal, finished, name):
    (finished / "release" / name).unlink()
    assert name in refusal("replay", finished, "--verify", code=1)


def test_an_added_file(refusal, finished):
    (finished / "release" / "extra.txt").write_text("x")
    assert "extra.txt" in refusal("replay", finished, "--verify", code=1)


def test_a_changed_statement(refusal, finished):
    path = finished / "release" / "privacy.json"
    path.write_text(path.read_text().replace('"chosen_step": 6', '"chosen_step": 5'))
    assert "privacy.json" in refusal("replay", finished, "--verify", code=1)


def test_a_changed_bit(refusal, finished):
    other_sign(finished / "release")
    assert "transcript.jsonl" in refusal("replay", finished, "--verify", code=1)


def test_a_changed_bit_whose_hashes_were_forged(refusal, finished):
    other_sign(finished / "release")
    rehash(finished / "release")
    assert "have the hash" in refusal("replay", finished, "--verify", code=1)


def test_a_missing_step(refusal, finished):
    without_last_step(finished / "release")
    assert "transcript.jsonl" in refusal("replay", finished, "--verify", code=1)
    rehash(finished / "release")
    assert "5 steps" in refusal("replay", finished, "--verify", code=1)
    rehash(finished / "release", steps_run=5)
    assert "chosen_step" in refusal("replay", finished, "--verify", code=1)


def test_a_step_in_the_middle_that_is_missing(refusal, finished):
    path = finished / "release" / "transcript.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    assert "step 2 must stand" in refusal("replay", finished, "--verify", code=1)


@pytest.mark.parametrize("kind", ["finished", "finished_full"])
def test_changed_weights_whose_hashes_were_forged(refusal, request, kind):
    release = request.getfixturevalue(kind) / "release"
    (weights,) = release.glob("*/*.safetensors")
    flip(weights, -1)
    rehash(release)
    line = refusal("replay", release, "--verify", code=1)
    assert ("differs from the rebuilt weights" in line) == (kind == "finished_full"), line


def test_a_statement_of_other_weights(refusal, finished):
    rehash(finished / "release", weights_sha256="0" * 64)
    assert "have the hash" in refusal("replay", finished, "--verify", code=1)


def test_a_header_that_promises_more(refusal, finished):
    path = finished / "release" / "transcript.jsonl"
    path.write_text(path.read_text().replace('"test_seed":5', '"test_seed":null', 1))
    rehash(finished / "release")
    assert "does not agree with the transcript's header" in refusal("replay", finished, "--verify", code=1)


def test_a_header_that_lacks_something(refusal, finished):
    path = finished / "release" / "transcript.jsonl"
    path.write_text(re.sub(r'"base":\{[^}]*\},', "", path.read_text(), count=1))
    rehash(finished / "release")
    assert "key 'base' is missing" in refusal("replay", finished, "--verify", code=1)


def test_another_base_model(refusal, finished_once, make_tiny_model, tmp_path):
    other = make_tiny_model(tmp_path / "other", seed=1)
    assert "base model" in refusal("replay", finished_once, "--verify", "--model", other, code=1)


def test_weights_of_a_step_are_saved(paczero, finished_once, tmp_path):
    code, out, _ = paczero("replay", finished_once, "--output", tmp_path / "last")
    assert code == 0
    stated = json.loads((finished_once / "release" / "privacy.json").read_text())["weights_sha256"]
    assert stated in out
    saved, released = tmp_path / "last", finished_once / "release" / "adapter"
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == {p.name: p.read_bytes() for p in released.iterdir()}
    code, out, _ = paczero("replay", finished_once, "--step", 3, "--output", tmp_path / "third")
    assert code == 0
    assert "weights of step 3" in out and stated not in out


def test_refusals(refusal, finished_once, tmp_path):
    assert "--output" in refusal("replay", finished_once)
    assert "--step" in refusal("replay", finished_once, "--verify", "--step", 2)
    assert "0 to 6" in refusal("replay", finished_once, "--step", 7, "--output", tmp_path / "x")
    assert "not an empty" in refusal("replay", finished_once, "--output", finished_once)
    assert "no release" in refusal("replay", tmp_path, "--verify")
    assert "no directory" in refusal("replay", tmp_path / "nothing", "--verify")
    assert "cannot be loaded" in refusal("replay", finished_once, "--verify", "--model", tmp_path)


def test_an_unfinished_run(refusal, finished):
    shutil.rmtree(finished / "release")
    assert "not finished" in refusal("replay", finished, "--verify")


def test_the_transcript_is_whole(finished_once):
    transcript = Transcript.read(finished_once / "release" / "transcript.jsonl")
    assert len(transcript.y) == 6
