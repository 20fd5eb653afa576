"""Several processes that share one run: each evaluates its shard of the pool, one releases, all take the same update.

A launcher (`torchrun`, `accelerate launch`) starts the processes and describes them in the environment. Without a
launcher there is one process, and nothing here costs anything.

>>> group = join()
>>> group.broadcast_from_main(lambda: 3), group.is_main, group.size
(3, True, 1)
"""

from paczero.distributed.base import SINGLE_PROCESS, ProcessGroup, world

_current: list[ProcessGroup] = []


def join() -> ProcessGroup:
    """The group of this process, once all ranks are there; `SINGLE_PROCESS` without a launcher.

    Raises:
        PACZeroError: the ranks do not come together.
    """
    if not has_joined():
        rank, size = world()
        if size == 1:
            return SINGLE_PROCESS
        from paczero.distributed.gloo import GlooProcessGroup  # imports torch

        _current[:] = [GlooProcessGroup(rank, size)]
    return _current[0]


def has_joined() -> bool:
    """Whether this process is in a group of several."""
    return bool(_current) and not _current[0].closed
