"""A process that imports everything once and forks children that train, of which some are killed.

Reads one JSON object a line from its standard input and answers each with one: `{"status": …, "seconds": …}`, status as
`os.waitstatus_to_exitcode` has it (−9: killed; 0: the run is finished). An order has

    settings   keywords of `train`, below
    delay      seconds after which the child is killed, or null
    event      the how manieth write, sync, rename or link the child kills itself at, or null
    seed       of where exactly: before it, in the middle of what is written, or after it

No forward pass runs before a fork, and one thread only, so that a child may compute.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="Agg")

import torch
from peft import LoraConfig, PeftModel  # noqa: F401 (both are loaded before the forks)
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from paczero import PACZeroConfig, PACZeroTrainer
from paczero.config import MechanismConfig
from paczero.observers import Diagnostics
from paczero.report import figures  # noqa: F401
from paczero.rundir import RunDirectory

torch.set_num_threads(1)


def train(settings: dict[str, Any]) -> None:
    """Begins the run, or goes on with it where it was begun."""
    given = dict(settings)
    paths = {name: given.pop(name) for name in ("model", "train_dataset", "eval_dataset")}
    peft = given.pop("peft")
    args = PACZeroConfig(**(given | {"mechanism": MechanismConfig(**given["mechanism"])}))
    run = RunDirectory(Path(args.output_dir))
    if run.finished:  # it was killed after its last act
        return
    trainer = PACZeroTrainer(args=args, peft_config=LoraConfig(**peft) if peft else None, **paths)
    trainer.train(resume_from_checkpoint=run.config.is_file())


class Killer:
    """Counts what reaches the file system and kills this process at one of those events."""

    def __init__(self, target: int | None, seed: int):
        self.target, self.count, self.chance = target, 0, random.Random(seed)

    def watch(self) -> None:
        os.write = self.around(os.write, self.torn)
        Diagnostics._write = self.around(Diagnostics._write, self.torn_row)  # type: ignore[method-assign]
        for name in ("fsync", "rename", "replace", "link", "unlink", "mkdir", "ftruncate"):
            setattr(os, name, self.around(getattr(os, name), None))

    def around(self, whole: Callable[..., Any], torn: Callable[..., None] | None) -> Callable[..., Any]:
        def event(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count != self.target:
                return whole(*args, **kwargs)
            if torn is not None:
                torn(whole, *args, **kwargs)
            elif self.chance.random() < 0.5:
                whole(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        return event

    def torn(self, write: Callable[..., Any], descriptor: int, data: bytes) -> None:
        write(descriptor, data[: self.chance.randint(0, len(data))])

    def torn_row(self, write: Callable[..., Any], diagnostics: Diagnostics, **row: Any) -> None:
        text = json.dumps(row) + "\n"
        diagnostics._stream.write(text[: self.chance.randint(0, len(text))])
        diagnostics._stream.flush()


def child(order: dict[str, Any], log: Path) -> None:
    """Never returns."""
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    Killer(order["event"], order["seed"]).watch()
    try:
        train(order["settings"])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def serve(log: Path) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(order, log)
        if order["delay"] is not None:
            time.sleep(order["delay"])
            os.kill(pid, signal.SIGKILL)  # a child that has ended waits for us, so this is never another process
        _, status = os.waitpid(pid, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
