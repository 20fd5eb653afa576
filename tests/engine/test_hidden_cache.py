"""Kept hidden states: whole or not at all, from whatever is found in their place."""

import os
from pathlib import Path

import pytest
import torch

from paczero.engine.hidden_cache import HiddenCache

SHAPES = [[(1, 3, 4), (1, 3, 2)], [(1, 5, 4), (1, 5, 2)]]
STATES = [[torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes] for shapes in SHAPES]


def filled(directory: Path, limit: int = 0, stop: int | None = None) -> tuple[HiddenCache, list[int]]:
    """A cache of these states, and which micro-batches had to be computed for it."""
    computed: list[int] = []

    def compute(index: int) -> list[torch.Tensor]:
        computed.append(index)
        if index == stop:
            raise KeyboardInterrupt
        return [state.clone() for state in STATES[index]]

    cache = HiddenCache(limit, directory)
    cache.fill({"records": "these"}, 2, compute, torch.device("cpu"))
    return cache, computed


def same(cache: HiddenCache) -> bool:
    return all(
        torch.equal(a, b)
        for ours, theirs in zip(cache.states, STATES, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("limit", [0, 10**6])
def test_an_interrupted_one_is_computed_again(tmp_path: Path, limit: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, limit, stop=1)
    cache, computed = filled(tmp_path, limit)
    assert same(cache) and computed == [0, 1]
    cache, computed = filled(tmp_path, limit)
    assert same(cache) and computed == []


@pytest.mark.parametrize("damage", ["cut", "longer", "no index", "half an index", "another type", "no file"])
def test_a_damaged_one_is_computed_again(tmp_path: Path, damage: str) -> None:
    filled(tmp_path)
    index, data = next(tmp_path.glob("*.json")), next(tmp_path.glob("*.bin"))
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:-4])
    elif damage == "longer":
        data.write_bytes(data.read_bytes() + b"....")
    elif damage == "no index":
        index.unlink()
    elif damage == "half an index":
        index.write_text(index.read_text()[:-9])
    elif damage == "another type":
        index.write_text(index.read_text().replace("float32", "float99"))
    else:
        data.unlink()
    cache, computed = filled(tmp_path)
    assert same(cache) and computed == [0, 1]


def test_two_that_fill_the_same_one_at_once_do_not_meet(tmp_path: Path) -> None:
    inner: list[HiddenCache] = []

    def compute(index: int) -> list[torch.Tensor]:
        if index and not inner:  # another process is done while this one is at work
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("os.getpid", lambda: 1)
                inner.append(filled(tmp_path, limit)[0])
        return [state.clone() for state in STATES[index]]

    for limit in (0, 10**6):
        inner.clear()
        for path in tmp_path.iterdir():
            path.unlink()
        cache = HiddenCache(limit, tmp_path)
        cache.fill({"records": "these"}, 2, compute, torch.device("cpu"))
        assert same(cache) and same(inner[0])
        later, computed = filled(tmp_path, limit)
        assert same(later) and computed == []
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".json"]
        assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_what_a_killed_process_left_goes_in_time(tmp_path: Path) -> None:
    filled(tmp_path)
    data = next(tmp_path.glob("*.bin"))
    left, recent = data.with_name(f"{data.name}.7.part"), data.with_name(f"{data.name}.8.part")
    left.touch()
    recent.touch()
    os.utime(left, (1, 1))
    data.unlink()
    filled(tmp_path)
    assert not left.exists() and recent.exists()


def test_without_a_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = HiddenCache(0, None)
    cache.fill({}, 2, lambda index: STATES[index], torch.device("cpu"))
    assert same(cache) and not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        filled(tmp_path)
    assert not list(tmp_path.iterdir())
