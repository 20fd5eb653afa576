"""What must be the same in all processes of a run, or they would not compute the same."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from paczero import __version__
from paczero.config import PACZeroConfig
from paczero.mechanism.files import canonical
from paczero.records.batches import MicroBatch
from paczero.records.pool import Pool


def facts(
    args: PACZeroConfig, header: Mapping[str, Any], pool: Pool, dev: Pool | None, batches: Sequence[MicroBatch]
) -> dict[str, str]:
    """What it is in words -> its value in this process, for `Ranks.agree`."""
    settings = {name: value for name, value in asdict(args).items() if name not in ("output_dir", "device")}
    partition = hashlib.sha256()
    for batch in batches:
        partition.update(batch.records.tobytes() + batch.input_ids.tobytes())
    return {
        "version of paczero": __version__,
        "version of torch": torch.__version__,
        "number of threads (OMP_NUM_THREADS)": str(torch.get_num_threads()),
        "base model": header["base"]["sha256"],
        "pool": pool.hash(),
        "dev set": "" if dev is None else dev.hash(),
        "set of settings": canonical(settings).decode(),
        "transcript header": canonical(dict(header)).decode(),
        "partition into micro-batches": partition.hexdigest(),
    }
