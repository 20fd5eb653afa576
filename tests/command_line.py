"""Runs of the tiny model through the command line, in this process."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paczero.cli.main import main

LORA = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]
SHORT = [
    "--max_steps",
    "6",
    "--eval_steps",
    "3",
    "--learning_rate",
    "0.05",
    "--mechanism.subsets",
    "8",
    "--test_seed",
    "5",
]


@pytest.fixture(scope="session")
def arguments(tiny_model_dir, tiny_pool_csv, tiny_dev_csv, tiny_test_csv) -> Callable[..., list[str]]:
    """The arguments of `paczero train` for a short run of an adapter in the last layer, into that directory."""

    def make(output: Path, *more: str) -> list[str]:
        data = ["--data.train", tiny_pool_csv, "--data.dev", tiny_dev_csv, "--data.test", tiny_test_csv]
        given = ["train", "--model", tiny_model_dir, *data, *LORA, *SHORT, "--output_dir", output, *more]
        return [str(argument) for argument in given]

    return make


def _finished(arguments: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(arguments)
    assert code == 0, errors.getvalue()


@pytest.fixture(scope="session")
def finished_once(arguments, tmp_path_factory) -> Path:
    """A finished run with a moved threshold; session-wide, so only to be read."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    _finished(arguments(run, "--threshold", "median"))
    return run


@pytest.fixture(scope="session")
def finished_full_once(arguments, tmp_path_factory) -> Path:
    """A finished run that tunes a whole layer and serves an average; session-wide, so only to be read."""
    run = tmp_path_factory.mktemp("runs") / "full"
    full = arguments(run, "--train_layers", "[-1]", "--ema_decay", "0.5", "--learning_rate", "0.01")
    _finished(_without(full, LORA))
    return run


def _without(given: list[str], left_out: list[str]) -> list[str]:
    start = given.index(left_out[0])
    return given[:start] + given[start + len(left_out) :]


@pytest.fixture
def finished(finished_once, tmp_path) -> Path:
    """A finished run of one's own, to change."""
    return Path(shutil.copytree(finished_once, tmp_path / "finished"))


@pytest.fixture
def finished_full(finished_full_once, tmp_path) -> Path:
    """A finished run of full tuning of one's own, to change."""
    return Path(shutil.copytree(finished_full_once, tmp_path / "full"))


@pytest.fixture
def paczero(capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs a command: exit code, standard output, standard error."""

    def run(*given: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in given])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refusal(paczero) -> Callable[..., str]:
    """Runs a command that must be refused: the line that it says, after whatever progress it had shown."""

    def run(*given: object, code: int = 2) -> str:
        got, out, err = paczero(*given)
        assert got == code, out + err
        assert out == ""
        lines = err.splitlines()
        assert "Traceback" not in err and sum("error" in line for line in lines) == 1
        assert lines[-1].startswith("paczero: error: ")
        return lines[-1].removeprefix("paczero: error: ")

    return run
