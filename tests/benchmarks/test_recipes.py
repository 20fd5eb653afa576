"""What the recipes would cost: the model's counts, the arithmetic, and that recipes/README.md says what is there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from paczero.cli.parser import parser_for_train
from paczero.config_io import build_settings, recipes

README = Path(__file__).parents[2] / "recipes" / "README.md"


@pytest.fixture(scope="module")
def costs(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("recipes")


def settings(name: str, *more: str):
    return build_settings(parser_for_train().parse_args(["--config", f"paper/{name}", *more]).settings)


def test_the_readme_s_tables_are_the_program_s(costs: ModuleType) -> None:
    text = README.read_text(encoding="utf-8")
    for part in (costs.assumptions, costs.recipe_table, costs.sweep_table):
        assert part(costs.Gpu(), costs.Lengths()) in text


def test_every_recipe_is_named() -> None:
    """A twin by its mechanism, for SST-2 and SQuAD have the same ones."""
    text = README.read_text(encoding="utf-8")
    sweeps = [name for name in recipes(sweeps=True) if name.startswith("paper/")]
    for name in [*recipes(), *sweeps]:
        assert f"{name.replace('small/squad-', 'small/sst2-')}.yaml" in text


def test_shapes_are_those_of_the_public_models(costs: ModuleType) -> None:
    small, large = costs.shape("facebook/opt-1.3b"), costs.shape("facebook/opt-6.7b")
    assert small.parameters == 1_315_758_080 and large.parameters == 6_658_473_984
    assert small.layered == 12 * 2048**2 * 24 and large.layered == 12 * 4096**2 * 32
    assert costs.adapter(settings("sst2-opt-1.3b-lora-zpl"), small) == 2 * 24 * 8 * (2048 + 2048)
    assert costs.adapter(settings("sst2-opt-1.3b-full-zpl"), small) == 0


def test_hours_by_hand(costs: ModuleType) -> None:
    """Nothing but products: a card whose memory is as fast as one likes and whose kernels start at once."""
    gpu = costs.Gpu(operations=1e14, used=0.5, bytes=1e30, launch=0.0)
    lengths = costs.Lengths(sst2=10.0)
    found = costs.estimate(settings("sst2-opt-1.3b-lora-zpl"), gpu, lengths)
    records = 2 * 1000 * 1000 + 11 * 500 + 2 * 1000  # passes, evaluations on the dev set, two on the test set
    operations = records * 10 * (2 * 12 * 2048**2 * 24 + 2 * 24 * 2048 * 10)
    assert found.passes == 2000
    assert found.hours == pytest.approx(operations / 5e13 / 3600)
    assert found.memory == pytest.approx(2 * 1_315_758_080, rel=0.1)


def test_moves_cost_what_memory_does(costs: ModuleType) -> None:
    gpu = costs.Gpu(operations=1e30, bytes=1e12, moved=0.5, launch=0.0)
    full = costs.estimate(settings("sst2-opt-1.3b-full-mi", "--directions", "4"), gpu, costs.Lengths())
    touched = 4 * 4 * 1000 * 1_315_758_080 * costs.bytes_a_move("gaussian")
    assert full.hours == pytest.approx(touched / 5e11 / 3600)
    assert costs.bytes_a_move("gaussian") > 10 * costs.bytes_a_move("rademacher") > 100


def test_a_sample_takes_its_share(costs: ModuleType) -> None:
    gpu = replace(costs.Gpu(), bytes=1e30, launch=0.0)
    part, whole = (
        costs.estimate(settings("sst2-opt-1.3b-full-dpzero", "--mechanism.sampling_prob", share), gpu, costs.Lengths())
        for share in ("0.064", "1")
    )
    assert part.passes == pytest.approx(0.064 * whole.passes) and part.hours < 0.08 * whole.hours


def test_lengths_of_a_file(costs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("sentence\tlabel\na b c\t1\nd\t0\n")

    def tokenizer(texts: list[str]) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}

    assert costs.measured(tmp_path / "train.tsv", tokenizer, "sst2") == 4.0  # with "It was"
