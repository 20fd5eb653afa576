"""Finds the recipes that come with the package, in a checkout as in an installed wheel.

>>> recipe("demo").name
'demo.yaml'
"""

import difflib
from pathlib import Path

import paczero
from paczero.errors import PACZeroError

_PACKAGE = Path(paczero.__file__).parent
# A wheel carries them inside the package; a checkout has them beside it.
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")


def recipes() -> dict[str, Path]:
    """Every recipe by name (the file's name without `.yaml`)."""
    for place in _PLACES:
        if place.is_dir():
            return {path.stem: path for path in sorted(place.glob("*.yaml"))}
    return {}


def recipe(name: str) -> Path:
    """The file of a recipe.

    Raises:
        PACZeroError: no recipe has that name; says which are close, or which exist.
    """
    known = recipes()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1) or list(known)
    raise PACZeroError(f"recipe: {name!r} was given; expected one that exists ({', '.join(near) or 'there are none'})")
