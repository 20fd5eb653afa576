"""The command line as one of several processes that a launcher started: what one of them says, the others do not.

$ torchrun --nproc_per_node 2 -m paczero train --config demo
$ accelerate launch --multi_gpu --num_processes 2 -m paczero train --config demo
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from paczero.cli.console import Live
from paczero.distributed.base import ProcessGroup, has_joined, join, terminable, world
from paczero.errors import PACZeroError

LAUNCHABLE = frozenset({"train"})


def check_launchable(command: str) -> None:
    """Raises PACZeroError for a command that has no work for several processes."""
    size = world()[1]
    if size > 1 and command not in LAUNCHABLE:
        raise PACZeroError(
            f"{command}: a launcher started it as {size} processes, but only `train` has work for several; "
            f"call `paczero {command}` without the launcher"
        )


def speaks() -> bool:
    """Whether this process says what went wrong: before the ranks have met one of each machine does.

    Afterwards they have settled it among themselves, and only an error that is to be said arrives.
    """
    return has_joined() or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def results_once() -> Iterator[None]:
    """Standard output holds results, and those of rank 0 only."""
    if world()[0] == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The ranks, once all are there. They leave together; an error of one ends all, and one of them says it."""
    # Where a store's process is lost torch's own libraries print pages; a line of ours says it. Read when torch loads.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    group = join()
    if group.size == 1:
        yield group
        return
    try:
        with terminable():
            yield group
            group.leave()
    except BaseException as error:
        said = group.left_by(error)
        if said is error:
            raise
        raise said from error


@contextmanager
def live_on(group: ProcessGroup) -> Iterator[Live]:
    """The live line, which is shown by rank 0."""
    with contextlib.ExitStack() as stack:
        stream = None if group.is_main else stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        yield stack.enter_context(Live(stream))
