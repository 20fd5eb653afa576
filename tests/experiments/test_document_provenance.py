"""The commit is that of the package's own checkout or none at all."""

import subprocess
from pathlib import Path

import pytest

from paczero.experiments.document import source


def git(place: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(place), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    place = tmp_path / "checkout" / "paczero"
    place.mkdir(parents=True)
    (place / "a.py").write_text("1\n")
    git(place, "init", "-q", "..")
    git(place, "add", "a.py")
    git(place, "commit", "-qm", "first")
    return place


def test_the_commit_and_whether_files_differ_from_it(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert source(package, "1.0") == commit and len(commit) == 40
    (package / "new.txt").write_text("")  # not part of it
    assert source(package, "1.0") == commit
    (package / "a.py").write_text("2\n")
    assert source(package, "1.0") == f"{commit}+changes"


def test_an_environment_inside_a_checkout_is_no_checkout(package: Path, tmp_path: Path) -> None:
    installed = package.parent / ".venv" / "site-packages" / "paczero"
    installed.mkdir(parents=True)
    assert source(installed, "1.0") == "paczero 1.0"


def test_without_git_or_checkout_the_version(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "paczero").mkdir()
    assert source(tmp_path / "paczero", "1.0") == "paczero 1.0"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source(package, "1.0") == "paczero 1.0"
