"""The release folder: complete, sealed, the same bytes each time, and nothing of the private part in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paczero.config import TaskConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.release import statement
from paczero.release.model_card import card, settings, without_license
from paczero.release.publish import complete
from paczero.release.statement import Development
from paczero.release.wording import code
from paczero.run_directory import RunDirectory

from ..written_runs import MARKS, development, make_header, stage

Build = Callable[..., RunDirectory]


def facts(measured: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"chosen_step": 1, "weights_sha256": "00", "threshold": 0.0, "development": measured}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["zpl", "mi", "none", "dpzero", "skip"])
def test_a_release_is_complete_and_sealed(finished: Build, name: str) -> None:
    run = finished(name)
    document = statement.check_release(run.release, make_header(name))
    assert set(contents(run.release)) == set(document["files"]) | {"privacy.json"}
    expected = {"README.md", "transcript.jsonl", "figures/released.png", "figures/development.png"}
    assert expected <= set(document["files"])
    assert ("figures/posterior.png" in document["files"]) == (spec_of(name).hides == "half")
    assert not [file for file in document["files"] if "unanimity" in file or "boundary" in file]


@pytest.mark.parametrize("name", ["zpl", "mi", "none", "dpzero", "skip"])
def test_nothing_private_is_in_a_release(finished: Build, name: str) -> None:
    run = finished(name)
    journal = [json.loads(line) for line in run.journal.read_text().splitlines()[1:]]
    values = [repr(mark) for mark in MARKS.values()] + [packed for row in journal for packed in row["signs"]]
    values += [row["chain"] for row in journal]
    words = ["unanim", "spent", "nonfinite", "diagnostics", '"q"', '"beta"', '"noise"', '"signs"', '"output"', '"loss"']
    for file, data in contents(run.release).items():
        text = data.decode("utf-8", "replace").lower()
        for needle in [*values, *words, str(run.root)]:
            assert needle.lower() not in text, f"{needle} is in {file}"


def test_bytes_are_the_same_again_and_without_the_private_part(finished: Build) -> None:
    second = finished("mi")
    before = contents(second.release)
    second.journal.unlink()
    second.diagnostics.unlink()
    stage(second, development(40), make_header("mi"))
    assert before == contents(second.staging)
    assert not [
        data for file, data in before.items() if file.endswith(".png") and (b"Software" in data or b"tIME" in data)
    ]


def test_changes_are_found(finished: Build) -> None:
    run = finished()
    adapter = run.release / "adapter" / "adapter_model.safetensors"
    adapter.write_bytes(b"Weights")
    with pytest.raises(IntegrityError, match="adapter_model"):
        statement.check_release(run.release)
    adapter.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        statement.check_release(run.release)
    adapter.write_bytes(b"weights")
    (run.release / "more.txt").write_text("")
    with pytest.raises(IntegrityError, match=r"more\.txt"):
        statement.check_release(run.release)
    (run.release / "more.txt").unlink()
    with pytest.raises(IntegrityError, match="budget"):
        statement.check_release(run.release, make_header(budget=0.1, mechanism={"name": "zpl", "clip": 25.0}))
    with pytest.raises(PACZeroError, match="this run moves none"):
        statement.check_release(run.release, make_header(threshold="none"))
    (run.release / "link").symlink_to(run.journal)
    with pytest.raises(IntegrityError, match="link"):
        statement.check_release(run.release)


def test_publish_refuses_what_is_no_release(build: Build) -> None:
    run, header = build(done=40), make_header()
    run.staging.mkdir()
    shutil.copy(run.staged_transcript, run.staging / "transcript.jsonl")
    (run.staging / "adapter").mkdir()
    with pytest.raises(IntegrityError, match="another run"):
        complete(run.staging, header | {"seed": 1}, chosen_step=1, weights_sha256="")
    shutil.copy(run.journal, run.staging / "journal.jsonl")
    with pytest.raises(IntegrityError, match=r"journal\.jsonl"):
        complete(run.staging, header, chosen_step=1, weights_sha256="")
    assert not (run.staging / "privacy.json").exists()


def test_front_matter_and_python(finished: Build) -> None:
    text = (finished().release / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct" and front["library_name"] == "peft"
    assert "paczero" in front["tags"] and "license" not in front
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")
    assert "paczero verify FOLDER" in text and "not protected" in text


def test_foreign_texts_stay_literal() -> None:
    evil = '/home/me/`<script>alert(1)</script>`|x"\n# heading'
    header = make_header(base={"id": evil, "sha256": "00", "dtype": "float32"})
    task = TaskConfig(template="`{text}` | <b>{label}", labels={"0": "<i>", "1": "`"})
    text = card(header, facts(development(40).facts(1)), folder="model", task=task)
    assert "base_model" not in yaml.safe_load(text.split("---")[1])
    assert "\n# heading" not in text
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")
    assert code(evil).startswith("``") and "\\|" in code(evil)


def test_void_is_seen_first() -> None:
    text = card(make_header(test_seed=3), facts(), folder="adapter")
    assert "# VOID" in text and "> **VOID.**" in text and "p ≤" not in text


@pytest.mark.parametrize(("name", "title"), [("dp-sign", "(ε, δ)-differentially private"), ("coin", "An ablation")])
def test_the_card_says_first_what_is_promised(name: str, title: str) -> None:
    text = card(make_header(name), facts(), folder="adapter")
    assert "# PACZero fine-tuning" in text and f"> **{title}" in text
    assert "No privacy" in card(make_header("full-sign"), facts(), folder="adapter")


def test_the_settings_of_a_private_run() -> None:
    rows = dict(settings(make_header("dpzero")))
    assert rows["ε, δ"].startswith("2, 2.78e-06 (1/N² for N = 600)") and rows["Noise σ"].startswith("4.62428")
    assert rows["Sampling"] == "Poisson, rate 0.064" and "Budget B" not in rows and "Candidates M, family" not in rows
    rows = dict(settings(make_header("dp-sign")))
    assert rows["Sampling"] == "the whole pool" and rows["Log-odds ε₀"] == "0.142857 a clip"


def test_settings_of_layers_pilots_and_part() -> None:
    rows = dict(settings(make_header(pilots=64, units_per_step=64, train_layers=[28, 29], peft=None)))
    assert rows["Pilot directions"] == "64" and rows["Units a step"] == "64"
    assert "full tuning" in rows["Trained part"] and "layers 28, 29" in rows["Trained part"]


def test_what_is_not_known_is_left_out() -> None:
    text = card(make_header(), facts(Development((40,), (0.7,)).facts(40)), folder="adapter")
    assert "70.0 %" in text and "untuned" not in text and "not known" not in text


def test_a_diverged_metric_is_left_out() -> None:
    measured = Development((0, 40), (0.7, float("nan")), metric="loss", untuned=0.7).facts(40)
    assert measured is not None and measured["served"] is None and measured["untuned"] == 0.7
    text = card(make_header(), facts(measured), folder="adapter")
    assert "| untuned | 0.7000 nats |" in text and "nan" not in text


@pytest.mark.parametrize("white", ["  ", "\n", "\t"])
def test_the_card_shows_the_task_to_the_last_space(white: str) -> None:
    texts = {
        card(make_header(), facts(), folder="adapter", task=TaskConfig(template=f"{{text}}{between}{{label}}"))
        for between in (" ", white)
    }
    assert len(texts) == 2


@pytest.mark.parametrize("beside", [True, False])
def test_a_license_may_be_added(finished: Build, beside: bool) -> None:
    release = finished().release
    path = release / "README.md"
    line = "# license: yours to add; it must agree with the base model's\n"
    added = "license: apache-2.0\nlicense_link: LICENSE\n"
    path.write_text(path.read_text().replace(line, added + line if beside else added))
    statement.check_release(release)
    assert without_license(path.read_bytes()).decode().count("license") == 1
    path.write_text(path.read_text().replace("license: apache-2.0\n", "license: apache-2.0\ntags_: x\n"))
    with pytest.raises(IntegrityError, match=r"README\.md"):
        statement.check_release(release)
