"""The hidden states that never change, kept: in memory, and in a file so that a run that goes on need not begin again.

>>> cache = HiddenCache(2**31, Path("runs/mine/private/cache"), base="5f0c…")   # doctest: +SKIP
>>> cache.fill(key, rows, compute)                                             # doctest: +SKIP
>>> cache.states[0]                                                            # of the first micro-batch
[tensor(...)]

The states are the pool's text in another form: the file is readable by its owner only. It lies in the run's `private/`
and is removed when the run is finished, or in a directory that several runs share (`cache_dir`). A file is written
aside and takes its place whole, so that two processes which need the same one at once do not meet.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from paczero.utils.io import about, canonical, write_whole

_ABANDONED = 24 * 3600  # seconds after which nobody writes on what stands aside


class HiddenCache:
    """What a set of records gives below and around the first trained weights, some tensors a micro-batch.

    Args:
        limit: bytes that stay in memory; beyond them the states are read from the file, which is memory-mapped.
        directory: where the file lies; without one everything stays in memory.
        base: hash of the base model; states of another one are never taken.
    """

    def __init__(self, limit: int, directory: Path | None, base: str = ""):
        self.limit = limit
        self.directory = directory
        self.base = base
        self.states: list[list[Tensor]] = []

    def fill(
        self, key: dict[str, Any], rows: list[int], compute: Callable[[int], list[Tensor]], device: torch.device
    ) -> None:
        """Computes and keeps the states of all micro-batches, in order, or takes those that an earlier start left.

        Beyond the limit they lie in host memory, wherever they are used.

        Args:
            key: all that the states depend on beside the base model: records, layer, how they are cut.
            rows: vectors that each state of a micro-batch has.
            compute: number of the micro-batch -> its states, all of one type.
            device: where they are used.
        """
        name = hashlib.sha256(canonical({**key, "base": self.base})).hexdigest()[:32]
        if self.directory is None:
            self.states = [compute(index) for index in range(len(rows))]
            return
        path = self.directory / f"{name}.bin"
        if self._taken(path, device):
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _aside(path) as part:
            self._fill_file(part, rows, compute)
            self._seal(part, path)

    def _fill_file(self, path: Path, rows: list[int], compute: Callable[[int], list[Tensor]]) -> None:
        first = compute(0)

        def states_of(index: int) -> list[Tensor]:
            return compute(index) if index else first

        if _size(sum(rows), first) > self.limit:
            self._fill_mapped(path, rows, states_of, first)
        else:
            with _appending(path) as stream:
                for index in range(len(rows)):
                    states = states_of(index)
                    for state in states:
                        stream.write(_bytes(state))
                    self.states.append(states)

    def _fill_mapped(
        self, path: Path, rows: list[int], compute: Callable[[int], list[Tensor]], first: list[Tensor]
    ) -> None:
        elements = _size(sum(rows), first) // first[0].element_size()
        with _appending(path) as stream:
            if hasattr(os, "posix_fallocate"):  # a full disk is refused here; met while writing it would kill us
                os.posix_fallocate(stream.fileno(), 0, elements * first[0].element_size())
            else:
                os.ftruncate(stream.fileno(), elements * first[0].element_size())
        mapped = torch.from_file(str(path), shared=True, size=elements, dtype=first[0].dtype)
        offset = 0
        for index in range(len(rows)):
            states = compute(index)
            self.states.append(_views(mapped, offset, [list(state.shape) for state in states]))
            for view, state in zip(self.states[-1], states, strict=True):
                view.copy_(state)
                offset += state.numel()

    def _seal(self, part: Path, path: Path) -> None:
        """Puts the file in its place and says what it holds; one that nothing says this of is not used."""
        descriptor = os.open(part, os.O_RDONLY)
        try:
            with about(part):
                os.fsync(descriptor)  # what was written through a mapping too
        finally:
            os.close(descriptor)
        os.replace(part, path)
        index = {
            "dtype": str(self.states[0][0].dtype).removeprefix("torch."),
            "shapes": [[list(state.shape) for state in states] for states in self.states],
        }
        write_whole(path.with_suffix(".json"), json.dumps(index), mode=0o600)

    def _taken(self, path: Path, device: torch.device) -> bool:
        """Takes the states in the file, if it is there and whole; whatever is odd about it, they are computed again."""
        with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
            index = json.loads(path.with_suffix(".json").read_text())
            dtype, shapes = getattr(torch, index["dtype"]), index["shapes"]
            elements = sum(torch.Size(shape).numel() for states in shapes for shape in states)
            if path.stat().st_size != elements * dtype.itemsize:
                return False
            shared = elements * dtype.itemsize > self.limit
            flat = torch.from_file(str(path), shared=shared, size=elements, dtype=dtype)
            flat, offset = flat if shared else flat.to(device, copy=True), 0
            for states in shapes:
                self.states.append(_views(flat, offset, states))
                offset += sum(state.numel() for state in self.states[-1])
            return True
        return False


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name beside a file's own, for this process to write it under; what killed processes left there goes."""
    for left in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _size(rows: int, first: list[Tensor]) -> int:
    return rows * sum(state.shape[-1] for state in first) * first[0].element_size()


def _views(flat: Tensor, offset: int, shapes: list[list[int]]) -> list[Tensor]:
    views = []
    for shape in shapes:
        count = torch.Size(shape).numel()
        views.append(flat[offset : offset + count].view(shape))
        offset += count
    return views


def _bytes(state: Tensor) -> memoryview:
    return state.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy().data


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    """A new file, for its owner only."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
    with about(path), os.fdopen(descriptor, "wb") as stream:
        yield stream
