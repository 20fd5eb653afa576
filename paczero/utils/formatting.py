"""What a person reads: refusals, a live line, times and sizes.

>>> duration(133), size(98_000_000)
('2 min 13 s', '98 MB')
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """Seconds as a person says them, at two units: `0.4 s`, `2 min 13 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def size(count: float) -> str:
    """Bytes in powers of 1000, at most three digits: `812 B`, `98 MB`, `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def percent(share: float | None, digits: int = 1) -> str:
    """0.717 -> "71.7 %"; "not known" for None."""
    return "not known" if share is None else f"{100 * share:.{digits}f} %"
