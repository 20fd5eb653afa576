"""Every error message that docs/faq.md explains is one that the package has."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUOTED = re.compile(r"^\| `([^`]+)` \|", re.M)


def texts() -> str:
    """All texts in the package's source, with … for what is put into them."""
    found = []
    for path in (ROOT / "paczero").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_explained_message_exists() -> None:
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    messages, source = QUOTED.findall(page.partition("## Errors")[2]), texts()
    assert len(messages) > 10
    assert not [m for m in messages for piece in m.split("…") if piece.strip(" ;") not in source]
