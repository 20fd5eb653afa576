"""Puts what a benchmark measured where docs/performance.md keeps it, between two comments that name it.

>>> put(PERFORMANCE, "scaling", "| N | seconds |")      # doctest: +SKIP

<!-- begin: scaling --> … <!-- end: scaling --> then hold the new text; all else stays.
"""

import platform
from pathlib import Path

from paczero.errors import PACZeroError

PERFORMANCE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def put(path: Path, name: str, text: str) -> None:
    """Replaces what stands between the comments of this name.

    Raises:
        PACZeroError: the file has no such section.
    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise PACZeroError(f"{path.name}: it has no section {name!r}; expected a line {begin} and one {end}")
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def processor() -> str:
    """The processor's name, as far as it can be had."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
