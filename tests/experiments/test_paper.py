"""The known figures of the paper, and what they are comparable with."""

import pytest

from paczero.config_io import load_settings, recipes
from paczero.experiments.paper import FIGURES, REMARKS, SQUAD, SST2, comparable, task_of


def as_config(recipe: str) -> dict:
    """As a run's config.yaml has it."""
    task = load_settings(recipes()[recipe]).args.task
    return {"task": {"kind": task.kind, "template": task.template}}


@pytest.mark.parametrize(
    ("recipe", "task"),
    [
        ("paper/sst2-opt-1.3b-full-zpl", SST2),
        ("small/sst2-mi", SST2),
        ("paper/squad-opt-1.3b-full-zpl", SQUAD),
        ("small/squad-none", SQUAD),
        ("demo", None),
    ],
)
def test_the_papers_prompt_identifies_the_task(recipe: str, task: str | None) -> None:
    assert task_of(as_config(recipe)) == task


def test_only_the_same_model_and_tuning_compare() -> None:
    assert comparable(SST2, "facebook/opt-1.3b", True) and comparable(SST2, "models/OPT-1.3B", True)
    assert not comparable(SST2, "facebook/opt-1.3b", False)
    assert not comparable(SST2, "facebook/opt-6.7b", True)
    assert not comparable(SQUAD, "facebook/opt-1.3b", True)


def test_what_is_not_known_stays_blank() -> None:
    assert [printed for _, _, printed in FIGURES[SST2]] == ["91.1", "88.99 ± 0.91", "89.51 ± 1.12", None]
    assert {printed for _, _, printed in FIGURES[SQUAD]} == {None}
    assert FIGURES.keys() == REMARKS.keys()
