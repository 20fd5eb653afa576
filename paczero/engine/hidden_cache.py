"""Hidden states that no step changes: computed once, kept in memory or in a memory-mapped file.

    cache = HiddenCache(2**31, Path("runs/mine/private/cache"), base="5f0c…")
    cache.fill(key, batches, compute, device)
    cache.states[0]                                 # of the first micro-batch: [tensor(...), ...]

The states are the pool's text in another form, so only their owner can read the file. It lies in the run's `private/`
and is removed when the run is finished, or in a directory that several runs share (`cache_dir`). A resumed run takes
the states from it. A file is written under another name and renamed when it is complete, so that two processes may
write the same one at once. Where states are those of single records (`engine.isolation`), a file names each of them,
and other pools with some of these records take them from it.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paczero.utils.io import about, canonical, write_whole

_ABANDONED = 24 * 3600  # seconds without a change after which an unfinished file is removed


class HiddenCache:
    """The states of a set of records below and around the first trained weights, some tensors a micro-batch.

    Args:
        limit: bytes that may lie in memory; larger states are memory-mapped.
        directory: where the file lies; None keeps everything in memory.
        base: hash of the base model; the file of another model is never used.

    Attributes:
        states: tensors of each micro-batch.
    """

    def __init__(self, limit: int, directory: Path | None, base: str = ""):
        self.limit = limit
        self.directory = directory
        self.base = base
        self.states: list[list[Tensor]] = []

    def fill(
        self,
        key: dict[str, Any],
        batches: int,
        compute: Callable[[int], list[Tensor]],
        device: torch.device,
        names: dict[str, Any] | None = None,
    ) -> None:
        """Takes the states of all micro-batches from the file, or computes and keeps them.

        Args:
            key: everything that the states depend on beside the base model: records, layer, micro-batches.
            batches: number of micro-batches.
            compute: index of a micro-batch -> its states, all of one dtype.
            device: where states within the limit are placed; larger ones stay in host memory.
            names: `kind` and `records` for `known`, where each micro-batch is a single record.
        """
        if self.directory is None:
            self.states = [compute(index) for index in range(batches)]
            return
        path = self.directory / f"{self._hash(key)}.bin"
        with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):  # damaged: computed again
            self.states = self._read(path, device)
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _renamed_when_complete(path) as part:
            index = _write(part, batches, compute)
        write_whole(path.with_suffix(".json"), json.dumps({**index, **(names or {})}), mode=0o600)
        self.states = self._read(path, device)

    def names(self, key: dict[str, Any], records: list[str]) -> dict[str, Any]:
        """What names the states of single records.

        Args:
            key: everything that the states of any record depend on beside the base model and that record.
            records: hash of each record.
        """
        return {"kind": self._hash(key), "records": records}

    def known(self, names: dict[str, Any]) -> dict[str, list[Tensor]]:
        """The states that files of other pools hold: hash of a record -> its states, mapped from the file."""
        found: dict[str, list[Tensor]] = {}
        wanted = set(names["records"])
        for path in self.directory.glob("*.json") if self.directory is not None else ():
            with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):  # no index of such states
                index = json.loads(path.read_text())
                if index["kind"] == names["kind"] and not wanted.isdisjoint(index["records"]):
                    states = _mapped(path.with_suffix(".bin"), index)
                    found |= {name: of for name, of in zip(index["records"], states, strict=True) if name in wanted}
        return found

    def _hash(self, key: dict[str, Any]) -> str:
        return hashlib.sha256(canonical({**key, "base": self.base})).hexdigest()[:32]

    def _read(self, path: Path, device: torch.device) -> list[list[Tensor]]:
        index = json.loads(path.with_suffix(".json").read_text())
        mapped = path.stat().st_size > self.limit
        return _mapped(path, index, None if mapped else device)


def _mapped(path: Path, index: dict[str, Any], device: torch.device | None = None) -> list[list[Tensor]]:
    """The tensors of each micro-batch in a file, mapped from it, or copied to a device where one is given.

    Raises:
        ValueError: the file does not have the length that its index states.
    """
    dtype, shapes = getattr(torch, index["dtype"]), index["shapes"]
    sizes = [torch.Size(shape).numel() for batch in shapes for shape in batch]
    if path.stat().st_size != sum(sizes) * dtype.itemsize:
        raise ValueError(f"{str(path)!r} does not have the length that its index states")
    values = torch.from_file(str(path), shared=device is None, size=sum(sizes), dtype=dtype)
    parts = iter((values if device is None else values.to(device, copy=True)).split(sizes))
    return [[next(parts).view(shape) for shape in batch] for batch in shapes]


def _write(path: Path, batches: int, compute: Callable[[int], list[Tensor]]) -> dict[str, Any]:
    """Writes all states one after another, readable by their owner only; returns the dtype and the shapes."""
    shapes = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with about(path), os.fdopen(descriptor, "wb") as stream:
        for number in range(batches):
            states = compute(number)
            shapes.append([list(state.shape) for state in states])
            for state in states:
                stream.write(state.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy().data)
        stream.flush()
        os.fsync(stream.fileno())
    return {"dtype": str(states[0].dtype).removeprefix("torch."), "shapes": shapes}


@contextlib.contextmanager
def _renamed_when_complete(path: Path) -> Iterator[Path]:
    """A name beside `path` for this process to write to; removes what killed processes left."""
    for left in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
