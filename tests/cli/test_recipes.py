"""Recipes are found beside a checkout and inside a wheel, and every one of them parses."""

import pytest

from paczero.cli import recipes as module
from paczero.cli.recipes import recipe, recipes
from paczero.cli.settings import parser_for_train
from paczero.errors import PACZeroError


@pytest.fixture
def places(monkeypatch, tmp_path):
    places = (tmp_path / "wheel", tmp_path / "checkout")
    monkeypatch.setattr(module, "_PLACES", places)
    return places


def test_a_wheels_recipes_come_before_a_checkouts(places):
    wheel, checkout = places
    checkout.mkdir()
    (checkout / "demo.yaml").write_text("steps: 3\n")
    assert recipe("demo") == checkout / "demo.yaml"
    wheel.mkdir()
    (wheel / "demo.yaml").write_text("steps: 4\n")
    assert recipe("demo") == wheel / "demo.yaml"
    assert parser_for_train().parse_args(["--config", "demo"]).settings == {"steps": 4}


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
    assert parser_for_train().parse_args(["--config", name]).given
