"""The layers of the package hold: data flows text -> records -> derivatives -> signs -> bit -> update."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "paczero"
BASE = ("errors",)
SETTINGS = (*BASE, "config", "rundir")
# What each part may import of the others; a name with a dot is that module alone. A part may import itself.
ALLOWED = {
    "errors": (),
    "config": (*BASE, "mechanism.kinds"),
    "rundir": (*BASE, "mechanism.files"),
    "mechanism": BASE,
    "records": SETTINGS,
    "baselines": (*BASE, "mechanism"),
    "zeroth": (*SETTINGS, "mechanism", "records.batches"),
    "report": (*SETTINGS, "mechanism", "zeroth.replay", "records.metrics"),
    "results": (*SETTINGS, "mechanism", "report", "records.metrics"),
    "verification": (*SETTINGS, "mechanism", "records.metrics", "report", "zeroth", "assembly"),
    "audit": ("", *SETTINGS, "mechanism", "report", "records", "zeroth", "assembly", "mechanisms", "pilots"),
}
# Only the façade (the modules beside these, such as paczero.api) and the command line know everything.
LAYERS_WITHOUT_TORCH = ("errors", "config", "rundir", "mechanism", "records", "baselines", "report", "results")
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "pandas", "jsonargparse", "rich")


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
        modules = [name for name in inner if name.removeprefix("paczero.") in MODULES]
        return modules or [base]
    return []


def imports_of(module: str) -> list[str]:
    return [name for node in ast.walk(tree_of(module)) for name in imported(node)]


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def inside(module: str) -> list[str]:
    """What the module imports of the package, without the prefix `paczero.`."""
    return [n.removeprefix("paczero").lstrip(".") for n in imports_of(module) if within(n, "paczero")]


@pytest.mark.parametrize("module", [m for m in MODULES if m.partition(".")[0] in ALLOWED])
def test_a_part_imports_only_what_lies_below_it(module):
    own = module.partition(".")[0]
    allowed = (own, *ALLOWED[own])
    wrong = [name for name in inside(module) if not any(within(name, part) for part in allowed)]
    assert not wrong, f"paczero.{module} imports {wrong}; allowed: {allowed}"


def test_only_the_command_line_imports_the_command_line():
    outside = [m for m in MODULES if not within(m, "cli") and m != "__main__"]
    assert not [m for m in outside if any(within(name, "cli") for name in inside(m))]


@pytest.mark.parametrize("module", [m for m in MODULES if within(m, "mechanism")])
def test_the_mechanism_needs_numpy_and_scipy_alone(module):
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "paczero"}
    assert not {name.partition(".")[0] for name in imports_of(module)} - allowed


@pytest.mark.parametrize("module", [m for m in MODULES if m.partition(".")[0] in LAYERS_WITHOUT_TORCH])
def test_no_torch_outside_the_engine(module):
    assert not [name for name in imports_of(module) if within(name, "torch")]


def test_the_engine_knows_no_task():
    for module in [m for m in MODULES if within(m, "zeroth")]:
        assert not [name for name in inside(module) if within(name, "records.tasks")]


def test_only_release_opens_the_secret():
    def mentions(module: str) -> bool:
        return any(
            "open_secret" in (getattr(node, "id", None), getattr(node, "attr", None))
            or (isinstance(node, ast.alias) and node.name == "open_secret")
            for node in ast.walk(tree_of(module))
        )

    users = {m for m in MODULES if mentions(m) and m != "mechanism.secret"}
    assert users <= {"mechanism.release", *(m for m in MODULES if within(m, "audit"))}


def loaded_at_import(module: str) -> set[str]:
    """The package's modules that an import of this one loads first: neither in functions nor for type checkers only."""
    found: set[str] = set()
    queue: list[ast.AST] = list(tree_of(module).body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            queue += node.orelse
            continue
        found.update(n.removeprefix("paczero").lstrip(".") for n in imported(node) if within(n, "paczero"))
        queue += ast.iter_child_nodes(node)
    return found & MODULES.keys()


def test_no_circular_imports():
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"circular import: {' -> '.join((*above, module))}"
        if module not in done:
            for name in sorted(loaded_at_import(module)):
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
assert paczero.PACZeroConfig().steps
print("fine")
"""


def test_the_package_and_the_mechanism_import_from_a_checkout_without_the_rest(tmp_path):
    # -S: no site-packages but those of numpy and scipy, so that no installed paczero is found either.
    import numpy
    import scipy

    paths = {str(PACKAGE.parent), *(str(Path(m.__file__).parents[1]) for m in (numpy, scipy))}
    code = f"import sys; sys.path[:0] = {sorted(paths)!r}\n{BLOCKED}"
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("fine", "")
