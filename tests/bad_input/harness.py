"""Tries an input that may be broken, and reports the outcome: a refusal in one line, or a problem.

    assert attempt(lambda: main(["train"]), watched=[Path("empty")]).problem is None

A problem is: an exception other than PACZeroError, a traceback, more than one line, a line that is too short, an exit
code other than 0, 1 and 2, or a new file after a refusal.
"""

import contextlib
import io
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paczero.errors import PACZeroError

PREFIX = "paczero: error: "
_SHORTEST = 15  # characters that a line needs, to say what was given, expected and to be done


@dataclass(frozen=True)
class Attempt:
    """The outcome of one attempt.

    Attributes:
        code: exit code; of a function 0, or that of the error.
        line: the refusal, empty where there was none.
        problem: a description of what must not happen; None where nothing did.
    """

    code: int
    line: str
    problem: str | None


def attempt(action: Callable[[], Any], *, watched: Sequence[Path] = ()) -> Attempt:
    """Calls `action` with standard output and error caught.

    Args:
        action: a call of `main`, whose exit code counts, or any function that may raise PACZeroError.
        watched: directories that must hold no new file after a refusal.
    """
    before = {path: _names(path) for path in watched}
    out, err = io.StringIO(), io.StringIO()
    code, raised = 0, ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            answer = action()
            code = answer if isinstance(answer, int) and not isinstance(answer, bool) else 0
    except PACZeroError as error:
        code, raised = error.exit_code, f"{PREFIX}{error}"
    except BaseException as error:
        return Attempt(-1, "", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    lines = [line for line in (raised or err.getvalue()).split("\n") if line.startswith("paczero: error")]
    line = lines[-1].removeprefix(PREFIX) if lines else ""
    problem = _problem(code, lines, raised, err.getvalue() + out.getvalue())
    if problem is None and code:
        new = sorted(str(name) for path in watched for name in _names(path) - before[path])
        problem = f"left behind: {', '.join(new[:5])}" if new else None
    return Attempt(code, line, problem)


def _problem(code: int, lines: list[str], raised: str, text: str) -> str | None:
    if "Traceback (most recent call last)" in text:
        return f"a traceback: {text[-600:]}"
    if code not in (0, 1, 2):
        return f"exit code {code}: {text[-300:]}"
    if code and not lines and "\nFailed: " not in text:  # how an audit that fails ends
        return f"exit code {code} without a line: {text[-300:]}"
    if len(lines) > 1 or "\n" in raised:
        return f"more than one line: {text[-600:]}"
    if lines and len(lines[0].removeprefix(PREFIX)) < _SHORTEST:
        return f"a line that says too little: {lines[0]}"
    return None


def _names(path: Path) -> set[Path]:
    return set(path.rglob("*")) if path.is_dir() else set()
