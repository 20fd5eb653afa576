"""Every test that the threat model names exists, and each adversary is held by one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SECTIONS = {
    part.splitlines()[0]: part
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    if "Assets" not in part[:9]
}


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_named_test_exists(section: str) -> None:
    named = set(NAMED.findall(SECTIONS[section]))
    assert named, f"{section!r} names no test"
    assert SECTIONS[section].count("tests/") == len(NAMED.findall(SECTIONS[section])), "a name is not FILE::TEST"
    missing = [f"{file}::{name}" for file, name in named if name not in functions(ROOT / file)]
    assert not missing
    assert all(name.startswith("test_") for _, name in named)


def test_every_line_of_a_table_names_its_test_but_what_nothing_stops() -> None:
    rows = [row for text in SECTIONS.values() for row in text.splitlines() if row.startswith("| ")]
    unheld = [row for row in rows if not NAMED.search(row) and not row.startswith(("| they try |", "| they |"))]
    assert [row.split(" | ")[0] for row in unheld] == ["| publish more than `release/`"]
