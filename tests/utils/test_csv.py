"""Tables as csv: what a spreadsheet would run is marked, numbers stay numbers, and all commands write the same way."""

import ast
import csv
import io
from pathlib import Path

import pytest

import paczero
from paczero.utils.csv import csv_text, harmless


@pytest.mark.parametrize("cell", ["=1", "+1+1", "-x", "--1", "-1-1", "+", "@x", "\t=1", "\t1", "\r=1", "  =1", " -1"])
def test_formulas_are_marked(cell):
    assert harmless(cell) == f"'{cell}"
    assert harmless(f"a{cell}") == f"a{cell}"


@pytest.mark.parametrize("cell", ["-1", "+1", "-1.5e-3", "-.5", "+2.", "12", ""])
def test_plain_numbers_are_not(cell):
    assert harmless(cell) == cell


def test_every_cell_and_name_of_a_table_is_harmless():
    text = csv_text(["=a", "b"], [["@x", -1.5], ['"a", b', None], ["a\nb", ["-c"]], ["-inf", float("-inf")]])
    assert list(csv.reader(io.StringIO(text))) == [
        ["'=a", "b"],
        ["'@x", "-1.5"],
        ['"a", b', ""],
        ["a\nb", '["-c"]'],
        ["'-inf", "-inf"],
    ]
    assert csv_text(["a", "b"], [["=1", 2]], delimiter="\t") == "a\tb\n'=1\t2\n"


def test_no_command_writes_csv_by_itself():
    def imports(path):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)

    folder = Path(paczero.__file__).parent / "cli"
    assert not [path for path in folder.rglob("*.py") if "csv" in imports(path)]
