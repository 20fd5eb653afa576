"""The command `paczero`: finds the subcommand, and reports an error in one line.

Exit codes: 0 fine, 1 something disagrees, 2 the input cannot be used, 130 interrupted.

>>> main(["--version"])
paczero 0.2.0
0
"""

import contextlib
import errno
import importlib
import io
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

import paczero
from paczero.cli.console import complain, warn
from paczero.cli.launcher import check_launchable, results_once, speaks
from paczero.cli.parser import CommandParser
from paczero.config import FormerNameWarning
from paczero.config_io import did_you_mean
from paczero.distributed.base import RemoteRankError
from paczero.errors import PACZeroError

COMMANDS = {
    "demo": "fine-tune a small model on film reviews, privately, in minutes",
    "train": "fine-tune a model on your records; resume an interrupted run",
    "sweep": "train a grid of settings with several seeds, several at once",
    "results": "compare the runs of a sweep: tables, intervals and figures",
    "eval": "score a run, a release, an adapter or a model on labelled records",
    "predict": "decide on records without labels",
    "replay": "rebuild a run's weights from its transcript; --verify compares every bit",
    "audit": "attack a run, and set what was reached beside what is promised",
    "verify": "check a release of another person",
    "seal": "add a license to a release of yours",
    "sign": "put your signature into a release",
    "report": "write the statement, model card and figures of a run",
    "convert": "make a plain model directory from a GGUF file",
    "match": "settings of every mechanism at the same chance of a right guess",
    "doctor": "say what this machine can do and what a run would need",
}
INTERRUPTED = 130
_EPILOGUE = """
Start with `paczero demo`. Each command explains itself: paczero COMMAND -h

PACZero hides which half of the pool was designated, not whether a person is in the pool at all.
Paper: arXiv 2605.06505"""


class Command(Protocol):
    """What the module of a command offers."""

    def parser(self) -> CommandParser:
        """Its options and help; imports no torch."""

    def run(self, namespace: Namespace) -> int:
        """Does the work; returns the exit code, raises PACZeroError for what it refuses."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; never prints a traceback for what the user can mend.

    Args:
        argv: the arguments without the program's name; those of the process when left out.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ε is no reason to fail
    try:
        with results_once(), _former_names_shown():
            return _dispatch(arguments)
    except RemoteRankError as error:
        return error.exit_code
    except PACZeroError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt as error:
        _complain(str(error) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): there is nothing to report and nothing to flush at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception as error:
        message = mendable(error, trains=arguments[:1] in (["train"], ["demo"], ["sweep"]))
        if message is None:
            raise
        _complain(message)
        return PACZeroError.exit_code


@contextlib.contextmanager
def _former_names_shown() -> Iterator[None]:
    """Prints the warning about a setting's former name as one line of ours, once for each name."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, FormerNameWarning):
            others(message, category, *rest, **more)
        elif str(message) not in shown and speaks():
            shown.add(str(message))
            warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", FormerNameWarning)
        others, warnings.showwarning = warnings.showwarning, show
        yield


def _complain(message: str) -> None:
    if speaks():
        complain(message)


def overview() -> str:
    """What `paczero -h` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(["usage: paczero COMMAND [OPTIONS]", "", *lines, _EPILOGUE])


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "-h"
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name in ("-V", "--version"):
        print(f"paczero {paczero.__version__}")
        return 0
    if name not in COMMANDS:
        raise PACZeroError(f"{name!r} is no command{did_you_mean(name, COMMANDS)}")
    check_launchable(name)
    command = cast(Command, importlib.import_module(f"paczero.cli.commands.{name}"))
    try:
        namespace = command.parser().parse_args(arguments[1:])
    except SystemExit as finished:  # `-h` prints and leaves
        return int(finished.code or 0)
    return command.run(namespace)


def mendable(error: Exception, *, trains: bool = True) -> str | None:
    """One line for what the machine lacks or refuses; None for anything that would be an error of ours.

    Args:
        trains: whether the command trains, so that there may be a run to go on with.
    """
    text = " ".join(str(error).split())
    no_space = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if no_space or "No space left on device" in text:  # torch and safetensors have exceptions of their own
        where = f" for {error.filename!r}" if isinstance(error, OSError) and error.filename else ""
        then = "go on by `paczero train --resume RUN`" if trains else "give the command again"
        return f"no space left on the device{where}; make room, then {then}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({text or 'host'}); a smaller --batch_tokens or --dtype bfloat16 needs less"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{str(error.filename)!r}: {error.strerror}"
    return None


if __name__ == "__main__":
    sys.exit(main())
