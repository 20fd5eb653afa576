"""Recipes are found beside a checkout and inside a wheel, and every one of them parses."""

from dataclasses import replace

import pytest

from paczero import config_io as module
from paczero.cli.commands.sweep import parser as parser_for_sweep
from paczero.cli.parser import parser_for_train
from paczero.config_io import recipe, recipes, settings_from
from paczero.errors import PACZeroError
from paczero.experiments.sweep import plan, read_sweep


@pytest.fixture
def places(monkeypatch, tmp_path):
    places = (tmp_path / "wheel", tmp_path / "checkout")
    monkeypatch.setattr(module, "_PLACES", places)
    return places


def test_a_wheels_recipes_come_before_a_checkouts(places):
    wheel, checkout = places
    checkout.mkdir()
    (checkout / "demo.yaml").write_text("max_steps: 3\n")
    assert recipe("demo") == checkout / "demo.yaml"
    wheel.mkdir()
    (wheel / "demo.yaml").write_text("max_steps: 4\n")
    assert recipe("demo") == wheel / "demo.yaml"
    assert parser_for_train().parse_args(["--config", "demo"]).settings == {"max_steps": 4}


def test_a_misspelt_recipe(places):
    places[0].mkdir()
    (places[0] / "demo.yaml").touch()
    with pytest.raises(PACZeroError, match="'dmeo' was given; expected one that exists \\(demo\\)"):
        recipe("dmeo")


def test_no_recipes(places):
    assert recipes() == {}
    with pytest.raises(PACZeroError, match="there are none"):
        recipe("demo")


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_holds_settings_only(name):
    assert settings_from(parser_for_train().parse_args(["--config", name])).args.max_steps > 0


@pytest.mark.parametrize("name", recipes(sweeps=True))
def test_every_sweep_s_cells_can_be(name):
    planned = plan(read_sweep(parser_for_sweep().parse_args([name])))
    computed = {repr((item.settings.peft, replace(item.settings.args, output_dir=""))) for item in planned}
    assert len(computed) == len(planned)


def test_the_papers_cells_are_there():
    """{SST-2, SQuAD} × {1.3B, 6.7B} × {LoRA, full} × {ZPL, MI, MeZO}, and the private baselines that it ran."""
    for task in ("sst2", "squad"):
        for size in ("1.3b", "6.7b"):
            for tuning in ("lora", "full"):
                for mechanism in ("zpl", "mi", "none"):
                    args = settings_from(
                        parser_for_train().parse_args(["--config", f"paper/{task}-opt-{size}-{tuning}-{mechanism}"])
                    ).args
                    assert (args.mechanism.name, args.mechanism.family, args.dtype) == (mechanism, "random", "float16")
                    assert args.mechanism.subsets == (126 if mechanism == "zpl" else 128)
                    assert args.direction_law == "gaussian" and args.metric_for_best_model == (
                        "loss" if task == "sst2" else "f1"
                    )
    assert {"paper/sst2-opt-1.3b-full-dpzero", "paper/sst2-opt-1.3b-full-dp-aggzo"} <= set(recipes())
