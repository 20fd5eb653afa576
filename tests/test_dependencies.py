"""What is installed is what constraints.txt pins, and each of it has a licence that goes with ours."""

import importlib.util
import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALLOWED = {
    *("Apache-2.0", "MIT", "MIT-0", "MIT-CMU", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "PSF-2.0", "MPL-2.0"),
    *("BSL-1.0", "Zlib", "CC0-1.0", "CNRI-Python", "LLVM-exception", "Unlicense", "HPND", "LGPL-3.0-only"),
}


def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "benchmarks" / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_installed_packages_say():
    assert licences().PAGE.read_text(encoding="utf-8") == licences().page()


def test_no_licence_is_unknown_or_out_of_the_list():
    module = licences()
    for name in module.pins():
        words = set(re.split(r" (?:AND|OR|WITH) |[()]", module.licence(name))) - {""}
        assert words and words <= ALLOWED, f"{name}: {words or 'no licence'}"


def test_what_is_installed_is_what_is_pinned():
    """So that a check elsewhere runs the same; a local build of a version counts as that version."""
    for name, version in licences().pins().items():
        assert metadata.version(name).partition("+")[0] == version, name
