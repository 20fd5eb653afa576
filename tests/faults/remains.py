"""The files of a run as bytes, for comparison."""

from pathlib import Path


def left(run: Path) -> dict[str, bytes]:
    """Bytes of every file of the release and of its sources."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}
    for name in ("journal.jsonl", "transcript.jsonl", "candidates.npz"):
        path = run / "private" / name
        found[name] = path.read_bytes() if path.exists() else b""
    return found
