"""`task.json`: the task of a release, for programs: prompt, label words, how answers are read.

With it, anyone can score with a release as its owner does. The file holds settings only. The unit column is left out,
since it concerns the owner's data. Older releases have no such file.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path

from paczero.config import TaskConfig
from paczero.errors import IntegrityError
from paczero.utils.io import read_object, write_whole

FORMAT = "paczero-task/1"

NAME = "task.json"

_OWN = frozenset({"unit_column"})


def write(folder: Path, task: TaskConfig) -> None:
    """Writes `task.json` into a release that is being made; the order of the labels is kept."""
    write_whole(folder / NAME, render(task))


def render(task: TaskConfig) -> bytes:
    """The bytes of `task.json`; one form only."""
    content = {name: value for name, value in asdict(task).items() if name not in _OWN}
    text = json.dumps({"format": FORMAT, **content}, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def read(folder: Path) -> TaskConfig | None:
    """The task of a release; None for an older one without `task.json`.

    Raises:
        IntegrityError: the file is none that a run wrote.
    """
    path = folder / NAME
    if not path.exists():
        return None
    content = read_object(path)
    if content.get("format") != FORMAT:
        raise IntegrityError(f"{path}: is no task that a run wrote; expected format {FORMAT!r}")
    known = {field.name for field in fields(TaskConfig)} - _OWN
    unknown = content.keys() - known - {"format"}
    if unknown:
        raise IntegrityError(f"{path}: {min(unknown)!r} is no setting of a task here; a newer paczero may read it")
    try:
        return TaskConfig(**{name: value for name, value in content.items() if name != "format"})
    except (ValueError, TypeError, AttributeError) as error:  # PACZeroError among them
        raise IntegrityError(f"{path}: is no task that a run wrote: {' '.join(str(error).split())}") from error
