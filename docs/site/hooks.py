"""Adds the README, the changes and the recipes to the site, and rewrites links for it.

Links are written as they work in a clone. On the site, a link to a page leads to that page; a link to any other file of
the repository becomes plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(!?\[([^\]]*)\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def mounted() -> dict[str, str]:
    """Path in the repository -> path in the site, for files outside docs/."""
    recipes = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*") if path.is_file())
    return PAGES | {path: path for path in recipes}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, target in mounted().items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    sources = {target: source for source, target in mounted().items()}
    here = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return rewritten(markdown, here, page.file.src_uri, {file.src_uri for file in files})


def rewritten(markdown: str, here: str, uri: str, site: set[str]) -> str:
    """The page with its links rewritten for the site.

    Args:
        markdown: the page.
        here: its path in the repository.
        uri: its path in the site.
        site: all paths in the site.
    """

    def link(found: re.Match[str]) -> str:
        shown, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if not (ROOT / path).exists():
            return found[0]  # mkdocs says that it leads nowhere
        wanted = mounted().get(path, path.removeprefix("docs/"))
        if wanted not in site:
            return text
        return f"{shown}({posixpath.relpath(wanted, posixpath.dirname(uri) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
