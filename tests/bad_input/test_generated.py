"""A few hundred cases of `benchmarks/bad_input.py`: broken input ends in one line at most."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .targets import Targets

QUICK = ("journal", "transcript", "secret", "statement", "task", "data", "config", "flags", "sweep")


@pytest.fixture(scope="module")
def targets(tmp_path_factory, make_trainer, tiny_model_dir, tiny_pool_csv) -> Targets:
    root = tmp_path_factory.mktemp("bad")
    make_trainer(root / "made").train()
    (root / "fuzz").mkdir()
    return Targets(root / "fuzz", tiny_model_dir, root / "made", tiny_pool_csv)


@pytest.mark.parametrize("name", QUICK)
def test_broken_files_and_flags(targets: Targets, name: str) -> None:
    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def check(chance: random.Random) -> None:
        found = targets.by_name[name](chance)
        assert found.problem is None, found.problem

    check()


@pytest.mark.parametrize("name", ["release", "commands", "run"])
@pytest.mark.parametrize("seed", range(6))
def test_whole_commands(targets: Targets, name: str, seed: int) -> None:
    found = targets.by_name[name](random.Random(f"{name}{seed}"))
    assert found.problem is None, found.problem


def test_the_harness_sees_what_must_not_be(tmp_path: Path) -> None:
    """An exception, two lines, silence, another exit code, and a file that is left behind."""
    import sys

    from paczero.errors import PACZeroError

    from .harness import attempt

    def two_lines() -> int:
        print("paczero: error: one thing is wrong here\npaczero: error: and another one too", file=sys.stderr)
        return 2

    def leaves() -> None:
        (tmp_path / "left").write_text("x")
        raise PACZeroError("x: 1 was given; expected 2; mend it")

    def boom() -> None:
        raise KeyError("x")

    for action, said in (
        (two_lines, "more than one line"),
        (leaves, "left behind"),
        (boom, "KeyError"),
        (lambda: 2, "without a line"),
        (lambda: 7, "exit code 7"),
    ):
        found = attempt(action, watched=[tmp_path])
        assert found.problem is not None and said in found.problem
        (tmp_path / "left").unlink(missing_ok=True)
    assert attempt(lambda: None).problem is None
