"""Every block of Python and shell in the documentation runs, or says above itself why it does not.

Blocks run page by page in one directory that has the demo's model and texts, on a tiny model with few steps. A block of
YAML is written to the file that its first line names. `test_guide.py` runs the guide's blocks and also compares what
they print.
"""

import csv
import re
from pathlib import Path

import pytest

from .test_guide import MODEL, Block, run

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "recipes/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCED = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>python|sh|yaml)\n(?P<text>.*?)```\n", re.DOTALL
)
ELSEWHERE = {
    "docs/guide.md": "run by tests/docs/test_guide.py",
    "docs/results.md": "made by `paczero results`: its commands take hours and need other people's data",
    "docs/snippets/results.md": "made by `paczero results`: its commands take hours",
}
# In this order: later pages go on with what earlier ones made.
RUN = (
    "README.md",
    "docs/data.md",
    "docs/sweeps.md",
    "docs/choose.md",
    "docs/privacy.md",
    "docs/audit.md",
    "docs/verify.md",
)
FEWER = {
    "max_steps: 300": "max_steps: 8",
    "--max_steps 500": "--max_steps 8",
    "max_steps=100": "max_steps=8",
    "[29]": "[2]",
}


def found(page: str) -> list[tuple[Block, str | None]]:
    """The blocks of a page, each with the reason for which it is not run."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        (Block(text.count("\n", 0, match.start("text")) + 1, match["language"], match["text"], None), match["reason"])
        for match in FENCED.finditer(text)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_tiny_model) -> Path:
    """A reader's directory: the demo's model and texts, and the reader's own tickets."""
    place = tmp_path_factory.mktemp("reader")
    make_tiny_model(place / MODEL)
    things = ("film", "story", "plot", "acting", "ending", "music", "cast", "script")
    for name, first in {"pool": 0, "dev": 100, "test": 200}.items():
        rows = [(f"the {things[n % 8]} is {word} {first + n}", label) for n in range(40) for word, label in TEXTS]
        write(place / "data" / "snippets" / f"{name}.csv", ("text", "label"), rows)
    tickets = [(f"the {things[n % 8]} is down {n}", "yes" if n % 2 else "no", f"C{n % 60}") for n in range(120)]
    write(place / "tickets.csv", ("message", "urgent", "customer"), tickets)
    write(place / "new.csv", ("message", "customer"), [("the film is down", "C901"), ("thank you", "C902")])
    return place


TEXTS = (("superb", "fresh"), ("dreadful", "rotten"))


def write(path: Path, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([names, *rows])


def prepare(page: str, place: Path) -> None:
    """Makes what a page needs and no block before it makes."""
    if page == "docs/verify.md":
        (place / "downloaded").mkdir()
        (place / "runs" / "tickets" / "release").rename(place / "downloaded" / "release")


@pytest.mark.parametrize("page", RUN)
def test_every_block_runs(page: str, place: Path) -> None:
    prepare(page, place)
    for block, reason in found(page):
        if reason is not None:
            continue
        text = block.text
        for many, few in FEWER.items():
            text = text.replace(many, few)
        if block.language == "yaml":
            name = re.match(r"# ([\w.-]+\.yaml)\n", text)
            assert name, f"{page}:{block.line}: the first line names no file"
            (place / name[1]).write_text(text, encoding="utf-8")
        else:
            run(block._replace(text=text), place)


def test_no_block_is_left_out() -> None:
    """Each page runs, is run elsewhere, or has a reason above each of its blocks."""
    assert set(RUN) | set(ELSEWHERE) <= set(PAGES), "a page that does not exist"
    for page in PAGES:
        blocks = found(page)
        text = (ROOT / page).read_text(encoding="utf-8")
        fences = re.findall(r"^ *(?:```|~~~) *(?:py\w*|sh|bash|shell|console|yaml)\b", text, re.M)
        assert len(fences) == len(blocks), f"{page}: a fence of an unknown form"
        assert text.count("<!-- not run:") == sum(reason is not None for _, reason in blocks), f"{page}: a stray reason"
        if page in RUN:
            assert any(reason is None for _, reason in blocks)
        elif page not in ELSEWHERE:
            unrun = [block.line for block, reason in blocks if reason is None]
            assert not unrun, f"{page}: the blocks at lines {unrun} do not run and do not say why"
