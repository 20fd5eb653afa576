"""The demo's command on the tiny model: both runs, shown again, gone on with, begun anew."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paczero.cli.commands import demo
from paczero.cli.main import main
from paczero.config_io import load_settings, recipe


@pytest.fixture
def place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model_dir: Path,
    tiny_pool_csv: Path,
    tiny_dev_csv: Path,
    tiny_test_csv: Path,
) -> Path:
    """A directory in which `paczero demo` finds model and data and follows a recipe of four steps."""
    text = f"""
model: {tiny_model_dir}
data: {{train: {tiny_pool_csv}, dev: {tiny_dev_csv}, test: {tiny_test_csv}}}
peft: {{r: 2, target_modules: [o_proj], layers_to_transform: [2]}}
output_dir: runs/demo
mechanism: {{subsets: 8, family: balanced, pilots: 2}}
max_steps: 4
eval_steps: 2
batch_tokens: 128
"""
    (tmp_path / "tiny.yaml").write_text(text)
    monkeypatch.setattr(demo, "recipe", lambda name: tmp_path / "tiny.yaml")
    monkeypatch.setattr(demo, "_fetch", lambda settings, live: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_runs_and_a_second_call(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    first = capsys.readouterr().out
    summary = json.loads((place / "runs/demo/summary.json").read_text())
    wanted = {
        "accuracy_before",
        "accuracy_before_median",
        "accuracy_after",
        "accuracy_none",
        "unanimity",
        "steps",
        "seconds",
    }
    assert wanted <= set(summary) and all(isinstance(summary[key], int | float) for key in wanted)
    assert json.loads((place / "runs/demo-none/summary.json").read_text())["accuracy_after"] == summary["accuracy_none"]
    for part in (
        "release/adapter/adapter_model.safetensors",
        "report/index.html",
        "private/secret.json",
        "config.yaml",
    ):
        assert (place / "runs/demo" / part).is_file()
    assert "paczero replay runs/demo --verify" in first and "whether a snippet was in the pool at all" in first
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("release/**/*")}
    assert main(["demo"]) == 0
    assert capsys.readouterr().out == first
    assert before == {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("release/**/*")}
    assert main(["demo", "--restart"]) == 0
    assert before.keys() == set((place / "runs").rglob("release/**/*"))


@pytest.mark.parametrize("interrupted", ["runs/demo", "runs/demo-none"])
def test_an_interrupted_demo_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interrupted: str
) -> None:
    real: Callable[..., object] = demo.train_run

    class Interrupts:
        done = 1

        def on_step(self, step: object) -> None:
            raise KeyboardInterrupt

        def on_dev(self, result: object) -> None: ...

    def stopped(settings, **arguments):  # type: ignore[no-untyped-def]
        if settings.args.output_dir == interrupted:
            monkeypatch.setattr("paczero.cli.training.ProgressCallback", lambda live, mechanism: Interrupts())
        return real(settings, **arguments)

    monkeypatch.setattr(demo, "train_run", stopped)
    assert main(["demo"]) == 130
    monkeypatch.undo()
    monkeypatch.setattr(demo, "recipe", lambda name: place / "tiny.yaml")
    monkeypatch.setattr(demo, "_fetch", lambda settings, live: None)
    monkeypatch.chdir(place)
    assert f"paczero train --resume {interrupted}" in capsys.readouterr().err
    assert not (place / interrupted / "release").exists()
    assert main(["demo"]) == 0
    assert "Going on with" in capsys.readouterr().err
    assert (place / "runs/demo/release/privacy.json").is_file() and (place / "runs/demo-none/release").is_dir()


def test_the_recipe_is_what_the_demo_promises() -> None:
    settings = load_settings(recipe("demo"))
    assert (settings.args.mechanism.name, settings.args.mechanism.subsets) == ("zpl", 128)
    assert settings.peft is not None and settings.args.test_seed is None
    assert demo.RECORDS["pool"] >= 600 and demo.RECORDS["test"] >= 800
