"""Each of more than a hundred mistakes ends in exit code 2 or 1 and one line that helps; nothing is left behind."""

from pathlib import Path

import pytest

from paczero.cli.main import main

from .cases import CASES, TRAIN, Case
from .harness import attempt


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_model_dir, make_tiny_csv, make_trainer) -> dict[str, str]:
    root = tmp_path_factory.mktemp("places")
    make_trainer(root / "run", max_steps=4).train()
    pool, dev = make_tiny_csv(root / "pool.csv", 40, 1), make_tiny_csv(root / "dev.csv", 20, 2)
    return {"model": str(tiny_model_dir), "pool": str(pool), "dev": str(dev), "run": str(root / "run")}


def command_line(case: Case, places: dict[str, str], tmp: Path) -> list[str]:
    lora = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]
    short = ["--max_steps", "4", "--mechanism.subsets", "8", "--task.labels", "{0: terrible, 1: great}"]
    data = ["--data.train", places["pool"], "--data.dev", places["dev"]]
    train = ["train", "--model", places["model"], *data, *lora, *short]
    train += [] if "--output_dir" in case.argv else ["--output_dir", f"{tmp}/out"]
    given: list[str] = []
    for argument in case.argv:
        text = argument
        for name, place in (places | {"tmp": str(tmp)}).items():
            text = text.replace(f"{{{name}}}", place)
        given += train if argument == TRAIN else [text]
    return given


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_one_line_that_helps(case: Case, places: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, content in case.files.items():
        (tmp_path / name).write_bytes(content)
    found = attempt(lambda: main(command_line(case, places, tmp_path)), watched=[tmp_path])
    assert found.problem is None, found.problem
    assert found.code == case.code, found.line
    assert case.said in found.line


def test_there_are_more_than_a_hundred() -> None:
    assert len(CASES) > 100
    assert len({case.name for case in CASES}) == len(CASES)
