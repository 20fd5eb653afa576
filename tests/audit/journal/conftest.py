"""An honest run without a model, and a copy of it for each test."""

import shutil
from pathlib import Path

import pytest

from .journals import make_run


@pytest.fixture(scope="session")
def honest(tmp_path_factory):
    """An `mi` run of 24 steps; copy it before changing anything."""
    return make_run(tmp_path_factory.mktemp("honest") / "run")


@pytest.fixture
def run(honest, tmp_path):
    return Path(shutil.copytree(honest, tmp_path / "run"))
