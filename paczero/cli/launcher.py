"""The command line as one of several processes that a launcher started: one of them prints, the others do not.

$ torchrun --nproc_per_node 2 -m paczero train --config demo
$ accelerate launch --multi_gpu --num_processes 2 -m paczero train --config demo
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from paczero.cli.console import Live
from paczero.distributed import has_joined, join
from paczero.distributed.base import ProcessGroup, terminable, world
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
    """Whether this process prints errors: before the ranks have met, one process of each machine.

    Afterwards the ranks have settled which of them reports an error, and only that one raises it.
    """
    return has_joined() or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def results_once() -> Iterator[None]:
    """Discards the standard output of all ranks but 0."""
    if world()[0] == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as null, contextlib.redirect_stdout(null):
        yield


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The group of ranks, once all are there. An error on one rank ends all, and one of them reports it.

    Under torchrun, an unexpected exception goes into torchrun's own report too.
    """
    # torch's libraries print pages where the process of the store is lost; we print one line. Read when torch loads.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    group = join()
    if group.size == 1:
        yield group
        return
    try:
        with terminable():
            yield group
            group.close()
    except BaseException as error:
        reported = group.abort(error)
        if reported is not error:
            raise reported from error
        if isinstance(error, Exception) and not isinstance(error, PACZeroError):
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(error)
        raise


@contextmanager
def live_on(group: ProcessGroup) -> Iterator[Live]:
    """The live line, shown by rank 0 only."""
    with contextlib.ExitStack() as stack:
        stream = None if group.is_main else stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        yield stack.enter_context(Live(stream))
