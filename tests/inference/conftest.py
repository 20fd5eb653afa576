"""Runs of the tiny model, and what `paczero.inference` makes of them."""

import shutil
from pathlib import Path

import pytest

from paczero.errors import PACZeroError
from paczero.inference import evaluate

from ..command_line import arguments, finished, finished_full, finished_full_once, finished_once, paczero, refusal  # noqa: F401


@pytest.fixture
def lone_adapter(finished_once, tmp_path):  # noqa: F811
    """The adapter's directory by itself, away from its release."""
    return Path(shutil.copytree(finished_once / "release" / "adapter", tmp_path / "lone"))


@pytest.fixture
def metrics():
    """`evaluate(target, data, **settings).metrics`."""

    def scored(target, data=None, *, base=False, **settings):
        return evaluate(target, data, settings=settings, base=base).metrics

    return scored


@pytest.fixture
def refused(metrics):
    """Why `evaluate` refuses; `code` is the exit code of the command in that case."""

    def message(*given, code=2, **settings):
        with pytest.raises(PACZeroError) as caught:
            metrics(*given, **settings)
        assert caught.value.exit_code == code
        return str(caught.value)

    return message
