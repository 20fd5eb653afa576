"""Finds the recipes that come with the package, in a checkout as in an installed wheel.

>>> recipe("demo").name
'demo.yaml'
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

import paczero
from paczero.errors import PACZeroError

_PACKAGE = Path(paczero.__file__).parent
# A wheel carries them inside the package; a checkout has them beside it.
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")
# What is in these is no recipe by itself: parts for `base:`, and files for `paczero sweep`.
_PARTS = frozenset({"base", "tasks", "sweeps"})
_SHOWN = 4  # recipes that a message names


def recipes(*, sweeps: bool = False) -> dict[str, Path]:
    """Every recipe by name: its path below `recipes/` without `.yaml`, such as `paper/sst2-opt-1.3b-lora-zpl`.

    Args:
        sweeps: the files for `paczero sweep` instead.
    """
    for place in _PLACES:
        if place.is_dir():
            found = {path.relative_to(place).with_suffix("").as_posix(): path for path in sorted(place.rglob("*.yaml"))}
            return {name: path for name, path in found.items() if _belongs(path.relative_to(place), sweeps)}
    return {}


def _belongs(path: Path, sweeps: bool) -> bool:
    folders = set(path.parts[:-1])
    return "sweeps" in folders if sweeps else not folders & _PARTS


def recipe(name: str) -> Path:
    """The file of a recipe.

    Raises:
        PACZeroError: no recipe has that name; says which are close, or which exist.
    """
    known = recipes()
    if name in known:
        return known[name]
    raise PACZeroError(f"recipe: {name!r} was given; expected one that exists ({like(name, known)})")


def like(name: str, known: Mapping[str, Path]) -> str:
    """For a message: the recipe whose name is close to what was given, else some of them and how many there are."""
    near = difflib.get_close_matches(name, known, n=1)
    if near or not known:
        return near[0] if near else "there are none"
    some = list(known)[:_SHOWN]
    more = f" and {len(known) - len(some)} more in recipes/" if len(known) > len(some) else ""
    return ", ".join(some) + more
