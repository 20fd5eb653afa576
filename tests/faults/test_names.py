"""No file is seen half written under its final name, and nothing private is open to others, at any moment.

Both are looked at after every call to the file system that Python makes, with no umask to help.
"""

import builtins
import io
import os
import stat
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GROWING = ("journal.jsonl", "transcript.jsonl", "diagnostics.jsonl")  # line by line
OWNERS = ("private", "report", "kept")  # directories that the owner alone enters
CALLS = ("open", "write", "fsync", "rename", "replace", "link", "unlink", "mkdir", "ftruncate", "chmod", "fchmod")


class Watch:
    """Keeps every content that a file was seen with, and refuses a directory or file of the owner's that is open."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch):
        self.root, self.looking = root, False
        self.contents: dict[Path, list[bytes]] = defaultdict(list)
        self.looks, self.complaints = 0, set[str]()
        self.read = open
        for name in CALLS:
            patch.setattr(os, name, self.around(getattr(os, name)))
        for module in (builtins, io):
            patch.setattr(module, "open", self.around(module.open))

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            answer = call(*args, **kwargs)
            if not self.looking:
                self.looking = True
                try:
                    self.look()
                finally:
                    self.looking = False
            return answer

        return watched

    def look(self) -> None:
        self.looks += 1
        for folder, names, files in os.walk(self.root):
            for name in [*names, *files]:
                self.modes(Path(folder, name))
            names[:] = [name for name in names if not aside(Path(folder, name).relative_to(self.root))]
            for path in (Path(folder, name) for name in files):
                if not aside(path.relative_to(self.root)):
                    self.keep(path)

    def keep(self, path: Path) -> None:
        with self.read(path, "rb") as stream:
            content = stream.read()
        if not self.contents[path] or self.contents[path][-1] != content:
            self.contents[path].append(content)

    def modes(self, path: Path) -> None:
        """The mode of a file says nothing more where no other user enters its directory."""
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.name in OWNERS and path.is_dir() and mode != 0o700:
            self.complaints.add(f"{path}: {mode:o}")
        secret = path.name in ("secret.json", "journal.jsonl", "candidates.npz", "diagnostics.jsonl", "summary.json")
        if path.is_file() and (secret or path.suffix in (".bin", ".part")) and mode & 0o077:
            self.complaints.add(f"{path}: {mode:o}")


def aside(path: Path) -> bool:
    """Whether this is a name that a file or folder has until it is whole."""
    return (
        any(part.startswith(".") for part in path.parts)
        or path.suffix == ".part"
        or path.parts[-2:] == ("private", "release")
        or path.parts[-2:] == ("private", "trackers")  # written by others, who read it by lines
    )


def test_whole_and_closed_at_every_moment(
    paczero: Callable[..., tuple[int, str, str]],
    arguments: Callable[..., list[str]],
    tiny_dev_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    mechanism = ("--mechanism.name", "mi", "--mechanism.budget", "0.4", "--cache_dir", tmp_path / "kept")
    commands: list[list[Any]] = [
        arguments(run, *mechanism, "--cache_bytes", "0", "--report_to", "tensorboard"),
        ["report", run],
        ["eval", run, "--data", tiny_dev_csv, "--predictions", out / "scores.csv"],
        ["predict", run, "--input", tiny_dev_csv, "--output", out / "answers.csv"],
        ["predict", run, "--input", tiny_dev_csv, "--output", out / "answers.jsonl"],
    ]
    before, stood = os.umask(0), defaultdict[Path, set[bytes]](set)
    try:
        with monkeypatch.context() as patch:
            watch = Watch(tmp_path, patch)
            for command in commands:
                code, _, err = paczero(*command)
                assert code == 0, err
                for path in watch.contents:
                    if path.exists():
                        with watch.read(path, "rb") as stream:
                            stood[path].add(stream.read())
    finally:
        os.umask(before)
    assert not watch.complaints
    assert watch.looks > 200 and len(watch.contents) > 20, "it has looked"
    for path, contents in watch.contents.items():
        if path.name in GROWING and path.parent.name == "private":
            whole = path.read_bytes()
            assert all(whole.startswith(content) for content in contents), path
            assert all(content.endswith(b"\n") for content in contents if content), path
            assert len(contents) > 4 or path.name == "diagnostics.jsonl"
        else:
            assert set(contents) <= stood[path], f"{path} was seen with what it never held when a command had ended"


@pytest.mark.parametrize("how", ["in place", "open to others"])
def test_the_watch_sees_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    with monkeypatch.context() as patch:
        watch = Watch(tmp_path, patch)
        if how == "in place":
            (tmp_path / "page.html").write_text("all of it")
        else:
            os.mkdir(tmp_path / "private", 0o750)
    assert bool(watch.complaints) == (how == "open to others")
    assert watch.contents == ({tmp_path / "page.html": [b""]} if how == "in place" else {})
