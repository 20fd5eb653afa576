"""Writes the release of a run, and verifies, replays and signs releases.

import paczero.release
verification = paczero.release.verify_release("downloaded/release")
model, tokenizer, weights = paczero.release.replay_release("downloaded/release", model="models/base")
"""

import importlib
from typing import Any

_EXPORTS = {
    "Verification": "paczero.release.verify.release",
    "verify_release": "paczero.release.verify.release",
    "replay_release": "paczero.release.replay",
    "sign": "paczero.release.signing",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
