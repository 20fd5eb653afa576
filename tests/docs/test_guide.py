"""docs/guide.md is true: its blocks run in order on a tiny model and print what the guide shows."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from paczero.cli.main import main

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
MODEL = "models/SmolLM2-135M-Instruct"
LAYERS = 30  # the guide trains the last layer of that model by its number
SHORTER = (
    "max_steps: 300",
    "max_steps: 60\nbatch_tokens: 4096",
)  # for the tiny model, whose time goes into starting passes
BLOCK = re.compile(r"(?:<!-- test: ([a-z ]+) -->\n)?```(\w+)\n(.*?)```\n", re.DOTALL)
RULES = (None, "figures vary", "columns only")
# `paczero` in a shell. The run that the guide stops after step 20 waits there for its end, however slow the machine.
COMMAND = """
import sys
import time

from paczero.cli.main import main
from paczero.cli.console import ProgressCallback

on_step = ProgressCallback.on_step


def held(self, step):
    on_step(self, step)
    if "runs/mi" in sys.argv and step.index == 21 and step.loss is not None:  # else it is taken from the journal
        time.sleep(100)


ProgressCallback.on_step = held
sys.exit(main())
"""
FIGURE = r"\d[\d.,]*(?: min \d+)?"


class Block(NamedTuple):
    """A fenced block: the number of its first line, its language, its text, and how what it shows is compared."""

    line: int
    language: str
    text: str
    rule: str | None


def blocks(guide: str) -> Iterator[Block]:
    for found in BLOCK.finditer(guide):
        yield Block(guide.count("\n", 0, found.start(3)) + 1, found[2], found[3], found[1])


def pattern(block: Block) -> re.Pattern[str]:
    """What the output must hold: the block's text with other white space, anything for …, other figures by its rule."""
    assert block.rule in RULES, f"guide.md:{block.line}: there is no rule {block.rule!r}"
    shown = block.text.splitlines()[0] if block.rule == "columns only" else block.text
    text = " ".join(shown.split())
    pieces = re.split(FIGURE, text) if block.rule == "figures vary" else [text]
    return re.compile(FIGURE.join(map(re.escape, pieces)).replace(r"\ ", r"\s+").replace("…", ".*"), re.DOTALL)


def run(block: Block, place: Path) -> str:
    """What a block prints, errors among it; `paczero` alone runs in this process, which has loaded torch already."""
    lines = [line.partition(" #")[0] for line in block.text.replace("\\\n", " ").splitlines()]
    alone = all(line.startswith("paczero ") and not re.search(r"[&|;<>$\\]", line) for line in lines)
    if block.language == "sh" and not alone:
        return run_bash(block.text, place)
    printed = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if block.language == "python":
            exec(compile(block.text, f"guide.md:{block.line}", "exec"), {"__name__": "guide"})
        for line in lines if block.language == "sh" else ():
            assert main(shlex.split(line)[1:]) == 0, printed.getvalue()
    return printed.getvalue()


def run_bash(text: str, place: Path) -> str:
    """What bash prints, stopping at the first command that fails."""
    commands = place / "bin"
    if not commands.exists():
        commands.mkdir()
        script = commands / "paczero"
        (commands / "command.py").write_text(COMMAND)
        words = shlex.join([sys.executable, str(commands / "command.py")])
        script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        script.chmod(0o755)
    root = str(GUIDE.parents[1])
    env = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": root, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, make_tiny_model) -> None:
    make_tiny_model(tmp_path / MODEL, layers=LAYERS)
    guide = GUIDE.read_text(encoding="utf-8")
    assert guide.count(MODEL) and guide.count(SHORTER[0]) == 1
    printed = ""
    for block in blocks(guide):
        if block.language == "text":
            assert pattern(block).search(printed), f"guide.md:{block.line}: shows\n{block.text}\nbut got\n{printed}"
        else:
            printed = run(block._replace(text=block.text.replace(*SHORTER)), tmp_path)
    assert (tmp_path / "published" / "privacy.json").is_file(), "the guide ends with a release"


@pytest.mark.parametrize(
    ("rule", "output", "found"),
    [
        (None, "loss  0.25 nats in\n16 s", True),
        (None, "loss 0.26 nats in 16 s", False),
        ("figures vary", "loss 1,234 nats in 1 min 2 s", True),
        ("figures vary", "loss unknown nats in 16 s", False),
    ],
)
def test_what_is_shown_is_compared(rule: str | None, output: str, found: bool) -> None:
    assert bool(pattern(Block(1, "text", "loss 0.25 nats in 16 s\n", rule)).search(output)) == found


def test_a_block_that_fails_fails_the_guide(tmp_path: Path) -> None:
    for language, text in (("sh", "false\ntrue\n"), ("sh", "paczero eval nowhere\n")):
        with pytest.raises(AssertionError):
            run(Block(1, language, text, None), tmp_path)
