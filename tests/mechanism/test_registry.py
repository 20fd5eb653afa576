"""The specifications of the mechanisms agree with the settings, and no other module compares a name."""

import ast
import re
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

import paczero
from paczero.config import MechanismConfig
from paczero.errors import PACZeroError
from paczero.mechanism import registry
from paczero.mechanism.base import StatelessMechanism
from paczero.mechanism.registry import DEFAULT, SPECS, MechanismSpec, spec_of
from paczero.mechanism.transcript import FORMAT, Transcript

PACKAGE = Path(paczero.__file__).parent
# These may name mechanisms: their own package, the audit's own copy, the sentences, and the paper's figures.
MAY_NAME = ("mechanism/", "audit/journal/", "release/wording", "experiments/paper.py")


def test_the_settings_name_all_of_them_and_no_other() -> None:
    assert get_args(get_type_hints(MechanismConfig)["name"]) == tuple(SPECS)
    assert MechanismConfig().name == DEFAULT
    assert all(spec.name == name for name, spec in SPECS.items())


# name: what it hides, and whether it has candidates, the secret, a budget, ε, samples, a clip of need, K = 1 only.
EXPECTED = {
    "zpl": ("half", "candidates needs_clip"),
    "mi": ("half", "candidates reads_secret has_budget needs_clip"),
    "none": ("nothing", "real"),
    "dpzero": ("pool", "real is_dp sampled needs_clip one_direction"),
    "dp-aggzo": ("pool", "real is_dp sampled needs_clip"),
    "dp-sign": ("pool", "is_dp sampled individual needs_clip per_direction"),
    "full-sign": ("nothing", "needs_clip"),
    "half-sign": ("nothing", "candidates reads_secret needs_clip"),
    "coin": ("all", ""),
    "skip": ("half", "candidates zero needs_clip"),
}
PROPERTIES = (
    *("candidates", "reads_secret", "has_budget", "is_dp", "sampled", "individual", "needs_clip", "one_direction"),
    *("real", "zero", "per_direction"),
)


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_what_each_of_them_is(spec: MechanismSpec) -> None:
    hides, properties = EXPECTED[spec.name]
    assert spec.hides == hides
    assert {name for name in PROPERTIES if getattr(spec, name)} == set(properties.split())
    assert spec.budget(0.33) == {"nothing": None}.get(hides, 0.33 if spec.has_budget else 0.0)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PACZeroError, match=r"mechanism: 'zlp' was given; expected one of zpl, mi, "):
        spec_of("zlp")


def test_what_a_mechanism_needs_must_be_there() -> None:
    with pytest.raises(PACZeroError, match="eps0: none was given; 'dp-sign' needs it"):
        spec_of("dp-sign").build(clip=1.0, rng=object(), eps0=None)


class Constant(StatelessMechanism):
    """A toy: always +1."""

    name = "toy"
    budget = 0.0

    def __init__(self, *, directions: int = 1) -> None:
        super().__init__(directions)

    def _values(self, step: int, derivatives: np.ndarray) -> tuple[int, ...]:
        return (1,) * self.directions


def test_one_class_and_one_line_make_a_mechanism(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(registry.SPECS, "toy", MechanismSpec(Constant, "all"))
    mechanism = spec_of("toy").build(directions=2, clip=1.0, membership=None)
    header = {"format": FORMAT, "mechanism": {"name": "toy"}, "directions": 2, "steps": 1}
    transcript = Transcript.create(tmp_path / "transcript.jsonl", header)
    transcript.append(0, mechanism.release(0, np.zeros((3, 2))).y)
    assert Transcript.read(transcript.path).y == [(1, 1)]


AMBIGUOUS = {"none", "coin", "skip"}  # words of other settings, too
COLLECTIONS = (ast.Compare, ast.Dict, ast.Subscript, ast.Tuple, ast.List, ast.Set, ast.MatchValue)


def named_in(source: str) -> set[str]:
    """Names of mechanisms in comparisons, patterns, subscripts, keys and collections; types may list them."""
    found: set[str] = set()
    queue: list[ast.AST] = [ast.parse(source)]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
            continue
        children = list(ast.iter_child_nodes(node))
        queue += children
        if isinstance(node, COLLECTIONS):
            names = {c.value for c in children if isinstance(c, ast.Constant) and isinstance(c.value, str)} & set(SPECS)
            meant = isinstance(node, ast.Compare) and re.search(r"mechanism|\bname\b", ast.unparse(node))
            found |= names if meant else names - AMBIGUOUS
    return found


@pytest.mark.parametrize(
    "source",
    [
        'if chosen.name == "mi": pass',
        'if args.mechanism.name == "none": pass',
        'name in ("zpl", "other")',
        'TABLE = {"dp-sign": 1}',
        'TABLE["full-sign"]',
        'match name:\n    case "half-sign": pass',
    ],
)
def test_a_name_is_found(source: str) -> None:
    assert named_in(source)


def test_what_is_no_mechanism_is_left_alone() -> None:
    assert not named_in('if args.threshold == "none": pass')
    assert not named_in('x: Literal["none", "zpl"]\nMechanismConfig(name="none")')


def test_no_other_module_compares_the_name_of_a_mechanism() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if not module.startswith(MAY_NAME):
            names = named_in(path.read_text(encoding="utf-8"))
            found |= {module: names} if names else {}
    assert not found, f"use a property of paczero.mechanism.registry.spec_of(name) instead: {found}"


def test_no_template_compares_the_name_of_a_mechanism() -> None:
    templates = [path for path in PACKAGE.rglob("*.j2") if path.parent.name != "v1"]
    compared = re.compile(rf"""[=!]=\s*["']({"|".join(SPECS)})["']""")
    found = {path.name: compared.findall(path.read_text(encoding="utf-8")) for path in templates}
    assert found and not any(found.values()), found
