"""A process that imports everything once and forks children that train, of which some are killed.

Reads one JSON object a line from its standard input and answers each with one: `{"status": …, "seconds": …}`. The
status is that of `os.waitstatus_to_exitcode` (−9: killed; 0: the run is finished; 2: refused, in one line on the log),
the seconds are the child's processor time. An order has

    settings   keywords of `train`, below
    delay      seconds of the child's processor time after which it is killed, or null
    event      number of the write, sync, rename or link at which the fault happens, from 1, or null
    how        the fault: "kill" (default), "full" (no space on the device, from then on), "forbidden" (no access)
    seed       chooses the exact moment: before the event, in the middle of what is written, or after it
    byte       number of bytes of a write that are written before the child is killed, instead of the seed's choice;
               for another event, whether it is done (0 or 1)
    plain      whether plots are replaced by a constant, so that a run takes a third of the time
    humble     whether the child gives up root's capabilities, so that file modes hold
    log        a file to which the events are written, one a line: kind and number of bytes

No forward pass runs before a fork, and one thread only, so that a child may compute.
"""

import ctypes
import errno
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
from paczero.cli.main import mendable
from paczero.config import MechanismConfig
from paczero.errors import PACZeroError
from paczero.release import plots
from paczero.run_directory import RunDirectory
from paczero.training.callbacks import Diagnostics

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


class Fault:
    """Counts what reaches the file system, and lets something happen at one of those events."""

    def __init__(self, order: dict[str, Any]):
        self.target, self.how = order["event"], order.get("how") or "kill"
        self.chance, self.byte, self.count = random.Random(order["seed"]), order.get("byte"), 0
        log = order.get("log")
        self.log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND) if log else None

    def watch(self) -> None:
        self.write = os.write
        os.write = self.around("write", os.write, self.torn)
        Diagnostics._write = self.around("row", Diagnostics._write, self.torn_row)  # type: ignore[method-assign]
        for name in ("fsync", "rename", "replace", "link", "unlink", "mkdir", "ftruncate"):
            setattr(os, name, self.around(name, getattr(os, name), None))

    def around(self, kind: str, whole: Callable[..., Any], torn: Callable[..., None] | None) -> Callable[..., Any]:
        def event(*args: Any, **kwargs: Any) -> Any:
            if kind == "write" and args[0] in (1, 2):
                return whole(*args, **kwargs)
            self.count += 1
            if self.log is not None:
                size = len(args[1]) if kind == "write" else len(json.dumps(kwargs)) + 1 if kind == "row" else 0
                self.write(self.log, f"{kind} {size}\n".encode())
            if self.target is None or self.count < self.target or (self.how != "full" and self.count > self.target):
                return whole(*args, **kwargs)
            if self.how != "kill":
                if kind in ("unlink", "ftruncate"):  # tidying up works on a full disk
                    return whole(*args, **kwargs)
                number = errno.ENOSPC if self.how == "full" else errno.EACCES
                # As of the system itself: of a descriptor it does not say which file it is.
                named = () if kind in ("write", "fsync") else (str(getattr(args[0], "path", args[0])),)
                raise OSError(number, os.strerror(number), *named)
            if torn is not None:
                torn(whole, *args, **kwargs)
            elif self.chance.random() < 0.5 if self.byte is None else self.byte:
                whole(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        return event

    def torn(self, write: Callable[..., Any], descriptor: int, data: bytes) -> None:
        write(descriptor, data[: self.chance.randint(0, len(data)) if self.byte is None else self.byte])

    def torn_row(self, write: Callable[..., Any], diagnostics: Diagnostics, **row: Any) -> None:
        text = json.dumps(row) + "\n"
        diagnostics._stream.write(text[: self.chance.randint(0, len(text)) if self.byte is None else self.byte])
        diagnostics._stream.flush()


def humble() -> None:
    """Without capabilities modes hold for root too; capset(2), version 3, nothing effective, permitted or inherited."""
    if os.getuid() == 0 and ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
        raise OSError("capset was refused")


def child(order: dict[str, Any], log: Path) -> None:
    """Never returns."""
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    if order.get("humble"):
        humble()
    if order.get("plain"):
        plots.png = lambda draw, width, height: b"a stand-in"
    Fault(order).watch()
    try:
        train(order["settings"])
    except BaseException as error:
        said = str(error) if isinstance(error, PACZeroError) else mendable(error)
        if said is not None:
            print(said, flush=True)
            os._exit(2)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def serve(log: Path) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order, log)
        clock = ~pid << 3 | 2  # of the child's processor time, as clock_getcpuclockid(3) makes it
        running = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while order["delay"] is not None and os.waitid(os.P_PID, pid, running) is None:
            if time.clock_gettime(clock) >= order["delay"]:
                os.kill(pid, signal.SIGKILL)  # the child is not reaped yet, so this is never another process
                break
            time.sleep(0.001)
        _, status, usage = os.wait4(pid, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "seconds": usage.ru_utime + usage.ru_stime}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
