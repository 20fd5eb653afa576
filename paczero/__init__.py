"""PACZero: fine-tuning of language models that hides which half of the pool was the designated one.

>>> from paczero import PACZeroConfig, PACZeroTrainer      # the trainer needs torch, which is loaded on first use
>>> from paczero.mechanism import BitChannel, draw_subsets  # numpy and scipy only

Implements *PACZero: PAC-Private Fine-Tuning of Language Models via Sign Quantization* (arXiv 2605.06505).
"""

from typing import TYPE_CHECKING, Any

from paczero.config import EngineConfig, MechanismConfig, PACZeroConfig, TaskConfig
from paczero.errors import IntegrityError, PACZeroError

if TYPE_CHECKING:
    from paczero.training.trainer import PACZeroTrainer

__version__ = "0.2.0"
__all__ = [
    "EngineConfig",
    "IntegrityError",
    "MechanismConfig",
    "PACZeroConfig",
    "PACZeroError",
    "PACZeroTrainer",
    "TaskConfig",
]


def __getattr__(name: str) -> Any:
    if name == "PACZeroTrainer":
        from paczero.training.trainer import PACZeroTrainer

        return PACZeroTrainer
    raise AttributeError(f"module 'paczero' has no attribute {name!r}")
