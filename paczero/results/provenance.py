"""Which source made a document.

>>> source(Path(paczero.__file__).parent, paczero.__version__)            # doctest: +SKIP
'3f2c…9a+changes'
"""

import subprocess
from pathlib import Path


def source(package: Path, version: str) -> str:
    """The commit of the checkout that a package runs from, with `+changes` where its files differ from it.

    Args:
        package: the package's directory.
        version: its version.

    Returns:
        The commit in hex, or `paczero VERSION` where the package lies in no checkout of its own or git is missing.
    """
    try:
        if _git(package, "rev-parse", "--show-toplevel") == str(package.resolve().parent):
            changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
            return _git(package, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no checkout
    return f"paczero {version}"  # also in an environment inside somebody else's checkout


def _git(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
