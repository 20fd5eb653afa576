"""Lists the licence of everything that the project's own check installs: writes docs/licences.md.

    python benchmarks/licences.py

What is listed are the pins of constraints.txt, as their installed metadata say; a test compares the file with this.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

PACZero is under Apache-2.0. This is what its own check installs, with the licence that each package states; of these an
ordinary `pip install paczero` needs those that are marked. `python benchmarks/licences.py` writes this page.

| package | version | licence | needed |
|---|---|---|---|
"""
# What the metadata say in too many or too few words -> one word for it.
SHORT = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
}
# Found by reading their files, where the metadata say nothing.
READ = {"dm-tree": "Apache-2.0", "gguf": "MIT"}


def pins() -> dict[str, str]:
    """Distribution -> version, as constraints.txt has them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def licence(name: str) -> str:
    """What the installed distribution says of its licence, in a word or two; empty where it says nothing."""
    found = metadata.metadata(name)
    if expression := found.get("License-Expression"):
        return str(expression)
    rows = [row for row in found.get_all("Classifier") or () if row.startswith("License ::")]
    classifiers = {row.rpartition(" :: ")[2] for row in rows} - {"OSI Approved", "DFSG approved"}
    stated = classifiers or {(found.get("License") or "").split("\n")[0]}
    return " OR ".join(sorted({SHORT.get(text.strip(), text.strip()) for text in stated} - {""})) or READ.get(name, "")


def needed() -> set[str]:
    """What an ordinary install brings, whatever the machine: the package's dependencies and theirs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: set[str] = set()
    queue: list[str | None] = [None]
    while queue:
        name = queue.pop()
        for row in project["dependencies"] if name is None else metadata.requires(name) or ():
            name = re.split(r"[\s<>=!~;\[(]", row, maxsplit=1)[0]
            key = re.sub(r"[-_.]+", "-", name).lower()
            if "extra ==" in row or key in found:
                continue
            try:
                metadata.metadata(name)
            except metadata.PackageNotFoundError:  # for another system or an older Python
                continue
            found.add(key)
            queue.append(name)
    return found


def page() -> str:
    """The whole of docs/licences.md."""
    wanted = needed()
    rows = [
        f"| {name} | {version} | {licence(name) or READ.get(name, '?')} | {'yes' if key(name) in wanted else ''} |"
        for name, version in pins().items()
    ]
    return HEAD + "\n".join(rows) + "\n"


def key(name: str) -> str:
    """A distribution's name in one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
