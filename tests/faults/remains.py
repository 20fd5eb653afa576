"""What a run leaves, as bytes that can be compared."""

from pathlib import Path


def left(run: Path) -> dict[str, bytes]:
    """Every file of the release, and what it was made from."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}
    for name in ("journal.jsonl", "transcript.jsonl", "candidates.npz"):
        path = run / "private" / name
        found[name] = path.read_bytes() if path.exists() else b""
    return found
