"""The layers of the package hold: imports point downwards only, and there are no circles."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "paczero"
# From the lowest to the highest: a module imports from its own layer and from those before it.
LAYERS = (
    *("_version", "errors", "utils", "mechanism", "config", "config_io", "run_directory", "data", "distributed"),
    *("optim", "models", "engine", "release", "training", "inference", "report", "audit", "experiments", "cli"),
    "__main__",
)
NO_TORCH = ("_version", "errors", "utils", "mechanism", "config", "config_io", "run_directory", "data", "report")
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "pandas", "rich")


def name_of(path: Path) -> str:
    """The module's dotted name below `paczero`, empty for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(node: ast.AST) -> list[str]:
    """The absolute names that one import statement names; a name inside `from x import name` where it is a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        base = node.module or ""
        inner = [f"{base}.{alias.name}" for alias in node.names]
        return [name for name in inner if name.removeprefix("paczero.") in MODULES] or [base]
    return []


def imports_of(module: str) -> list[str]:
    return [name for node in ast.walk(tree_of(module)) for name in imported(node)]


def inside(module: str) -> list[str]:
    """What the module imports of the package, without the prefix `paczero.`; the package itself is left out."""
    return [name.removeprefix("paczero.") for name in imports_of(module) if name.startswith("paczero.")]


def layer(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", [m for m in MODULES if m])
def test_imports_point_downwards(module: str) -> None:
    height = LAYERS.index(layer(module))
    wrong = [name for name in inside(module) if LAYERS.index(layer(name)) > height]
    assert not wrong, f"paczero.{module} imports {wrong} from above"


@pytest.mark.parametrize("module", [m for m in MODULES if layer(m) == "mechanism"])
def test_the_mechanism_needs_numpy_and_scipy_alone(module: str) -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "paczero"}
    # an extra, loaded where samples need it
    allowed |= {"dp_accounting"} if module == "mechanism.gaussian_accounting" else set()
    assert not {name.partition(".")[0] for name in imports_of(module)} - allowed


@pytest.mark.parametrize("module", [m for m in MODULES if layer(m) in NO_TORCH])
def test_no_torch_outside_the_engine(module: str) -> None:
    assert not [name for name in imports_of(module) if name.partition(".")[0] == "torch"]


@pytest.mark.parametrize("part", ["optim", "models", "engine", "training.loop"])
def test_the_engine_and_the_loop_know_no_task(part: str) -> None:
    for module in [m for m in MODULES if m == part or m.startswith(f"{part}.")]:
        assert not [name for name in inside(module) if name.startswith("data.tasks")]


@pytest.mark.parametrize("part", ["audit.journal"])
def test_the_recomputation_shares_nothing_with_what_it_checks(part: str) -> None:
    shared = ("errors", "audit.arrays", "utils", "run_directory", "mechanism.subsets", "mechanism.base", part)
    for module in [m for m in MODULES if m.startswith(f"{part}.")]:
        wrong = [n for n in inside(module) if not any(n == name or n.startswith(f"{name}.") for name in shared)]
        assert not wrong, f"paczero.{module} imports {wrong}"


def test_only_the_mechanism_opens_the_secret() -> None:
    def mentions(module: str) -> bool:
        return any(
            "open_secret" in (getattr(node, "id", None), getattr(node, "attr", None))
            or (isinstance(node, ast.alias) and node.name == "open_secret")
            for node in ast.walk(tree_of(module))
        )

    users = {m for m in MODULES if mentions(m) and m != "mechanism.secret"}
    assert users <= {"mechanism.pac", *(m for m in MODULES if layer(m) == "audit")}


def test_no_circular_imports() -> None:
    """Not even by way of imports inside functions or for type checkers alone."""
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"circular import: {' -> '.join((*above, module))}"
        if module not in done:
            for name in sorted(set(inside(module)) & MODULES.keys()):
                visit(name, (*above, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


BLOCKED = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
import paczero, paczero.mechanism
for name in paczero.mechanism.__all__:
    getattr(paczero.mechanism, name)
assert paczero.mechanism.draw_subsets(1, 2, seed=0).shape == (1, 2)
assert paczero.PACZeroConfig().output_dir
print("fine")
"""


def test_the_package_and_the_mechanism_import_from_a_checkout_without_the_rest(tmp_path: Path) -> None:
    # -S: no site-packages but those of numpy and scipy, so that no installed paczero is found either.
    import numpy
    import scipy

    paths = {str(PACKAGE.parent), *(str(Path(m.__file__).parents[1]) for m in (numpy, scipy))}
    code = f"import sys; sys.path[:0] = {sorted(paths)!r}\n{BLOCKED}"
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("fine", "")
