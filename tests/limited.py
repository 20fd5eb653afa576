"""Short runs in processes of their own whose memory is limited; tests/models/test_offload.py starts it.

    python limited.py ORDERS.json

An order has `args` (keywords of PACZeroConfig), `engine` (of EngineConfig), `peft` (of LoraConfig, or null), `model`,
`rows`, and `limit`: bytes that the process may take beyond what it has after all imports, or null. For each order one
line of JSON is printed: the error, or the hash of the trained weights.

The limit is one on what Linux calls data (RLIMIT_DATA): private memory that may be written to, touched or not. So it
counts weights and activations. It also counts private mappings of files at their full size, though their pages need no
memory: the limit is stricter than the machine would be. A limit on the resident set does not exist (any more), and one
on the address space would mostly count libraries.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="Agg")

import torch
from peft import LoraConfig, PeftModel  # noqa: F401 (all is loaded before the forks)
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from paczero import PACZeroConfig, PACZeroTrainer
from paczero.config import EngineConfig, MechanismConfig
from paczero.errors import PACZeroError
from paczero.release import plots  # noqa: F401

torch.set_num_threads(1)


def data_bytes() -> int:
    """What counts against the limit."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmData"].split()[0]) * 1024


def train(order: dict[str, Any]) -> dict[str, Any]:
    """One run from beginning to end."""
    if order["limit"] is not None:
        allowed = data_bytes() + order["limit"]
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    args = PACZeroConfig(**order["args"], engine=EngineConfig(**order["engine"]), mechanism=MechanismConfig(subsets=8))
    peft = None if order["peft"] is None else LoraConfig(**order["peft"])
    try:
        trainer = PACZeroTrainer(order["model"], args, order["rows"], peft_config=peft)
        statement = trainer.train().statement
    except (PACZeroError, MemoryError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"sha256": statement["weights_sha256"]}


def main() -> None:
    for order in json.loads(Path(sys.argv[1]).read_text()):
        if (child := os.fork()) == 0:
            print(json.dumps(train(order)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"error": f"ended with {os.waitstatus_to_exitcode(status)}"}), flush=True)


if __name__ == "__main__":
    main()
