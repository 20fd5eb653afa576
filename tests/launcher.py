"""A launcher for tests: imports everything once and forks the ranks, so that a world of processes starts in a moment.

Reads one JSON object a line from its standard input and answers each with one. An order has

    what     a function of this file, called on every rank
    given    its arguments
    size     how many ranks
    place    a directory: each rank's standard output and error go to `out0`, `err0`, … there
    agent    whether the store is another process's, as with torchrun; rank 0's otherwise
    patch    "module:name" -> value, set on every rank (such as a time limit)
    attempts how often the ranks are started, as by `torchrun --max_restarts`; the store stays, the last start counts
    strike   null, or [rank, signal, file, lines]: the signal for that rank once the file has so many lines

The answer holds `status` of each rank, as `os.waitstatus_to_exitcode` has it, `results`, what the functions returned,
and `seconds`, from the strike (or the start) to the last rank's end. What is stopped is killed at the end.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="Agg")
os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command line has it

import numpy as np
import torch
import torch.distributed as dist
from peft import LoraConfig, PeftModel  # noqa: F401 (loaded before the forks)
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from paczero import PACZeroConfig, PACZeroTrainer
from paczero.cli import (
    main,
    training,  # noqa: F401
)
from paczero.cli.commands import train  # noqa: F401
from paczero.config import EngineConfig, MechanismConfig
from paczero.distributed import (
    gloo,  # noqa: F401
    join,
)
from paczero.distributed.base import RankLostError, RemoteRankError
from paczero.errors import IntegrityError, PACZeroError
from paczero.optim.parameters import PerturbedParameters
from paczero.release import plots

torch.set_num_threads(1)

# -- what the ranks do -------------------------------------------------------------------------------------------------


def exchange(sizes: list[int]) -> dict[str, Any]:
    """Everything that travels, once, with what must come of it looked at here."""
    group = join()
    said: dict[str, Any] = {"device": group.device("cpu")}
    odd = np.array([-0.0, np.nan, np.inf, 5e-324, 1.5, -np.nan]).view(np.int64)
    odd[1] += 7  # a NaN of its own kind
    values = np.zeros((group.size, 6), dtype=np.int64)
    values[group.rank] = odd
    said["sum"] = bool((group.sum(values.view(np.float64)).view(np.int64) == odd).all())
    said["small"] = group.sum(np.full((2, 1), float(group.is_main), dtype=np.float32)).tolist()
    said["long"] = [len(group.broadcast_from_main(lambda: "x" * size)) for size in sizes]  # noqa: B023
    said["share"] = group.broadcast_from_main(lambda: {"from": group.rank})
    said["keep"] = group.on_main(lambda: group.rank + 10)
    said["mine"] = group.shard([3, 1, 2, 2])
    for _ in range(2):  # a refusal reaches all, and they go on
        try:
            group.broadcast_from_main(lambda: _refuse("no such file"))
        except PACZeroError as error:
            said["refused"] = [type(error).__name__, str(error), error.exit_code]
    group.assert_equal({"pool": "same", "model": "same"})
    try:
        group.assert_equal({"pool": str(group.rank == 1), "model": "same", "settings": str(min(group.rank, 1))})
    except IntegrityError as error:
        said["agree"] = str(error)
    group.check_weights(lambda: "same", 3)
    group.close()
    return said


def _refuse(message: str) -> None:
    raise IntegrityError(message)


def fail(rank: int) -> dict[str, Any]:
    """One rank fails by itself while the others wait for it."""
    group = join()
    try:
        if group.rank == rank:
            raise OSError("disk full")
        group.sum(np.zeros(3))
    except (OSError, RemoteRankError, RankLostError) as error:
        reported = group.abort(error)
        return {"said": [type(reported).__name__, str(reported)], "code": getattr(reported, "exit_code", 1)}
    return {}


def fail_once() -> list[float]:
    """Rank 1 fails in the first attempt, after an exchange; the next one is whole."""
    group = join()
    try:
        total = group.sum(np.full(1, float(group.is_main))).tolist()
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and group.rank == 1:
            raise OSError("disk full")
        total += group.sum(np.full(2, float(group.is_main))).tolist()
    except (OSError, RemoteRankError, RankLostError) as error:
        group.abort(error)
        raise
    group.close()
    return total


def trained(cases: list[dict[str, Any]]) -> list[str]:
    """Trains each of these; the hash of the weights that are served."""
    prints = []
    for case in cases:
        given = dict(case)
        peft = given.pop("peft")
        paths = {name: given.pop(name) for name in ("model", "train_dataset", "eval_dataset")}
        given["mechanism"] = MechanismConfig(**given["mechanism"])
        given["engine"] = EngineConfig(check_steps=2)
        trainer = PACZeroTrainer(args=PACZeroConfig(**given), peft_config=LoraConfig(**peft) if peft else None, **paths)
        trainer.train()
        evaluated = trainer.evaluate()
        assert trainer.predict(paths["eval_dataset"]).shape == (20, 2)
        assert trainer.save_model().is_dir()
        prints.append(f"{trainer.weights.fingerprint()} {evaluated}")
    join().close()
    return prints


def command(arguments: list[list[str]], diverge: int | None) -> int:
    """`paczero` with these arguments, one list a rank; `diverge`: rank 1's weights change by a hair after that step."""
    mine = arguments[int(os.environ["RANK"]) % len(arguments)]
    if diverge is not None and os.environ["RANK"] == "1":
        update = PerturbedParameters.update

        def wrong(self: PerturbedParameters, step: int, rate: float, y: Any) -> None:
            update(self, step, rate, y)
            if step == diverge:
                next(iter(self.parameters.values())).data.view(-1)[0] += 1e-6

        PerturbedParameters.update = wrong  # type: ignore[method-assign]
    return main.main(mine)


# -- the launcher ------------------------------------------------------------------------------------------------------


def rank_main(order: dict[str, Any], rank: int, port: int) -> None:
    """Never returns."""
    place = Path(order["place"])
    for standard, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / f"{name}{rank}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), standard)
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": order["size"], "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in world.items()} | {"MASTER_ADDR": "127.0.0.1"})
    if order["agent"]:
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    for name, value in order["patch"].items():
        module, _, attribute = name.partition(":")
        setattr(importlib.import_module(module), attribute, value)
    plots.png = lambda *_, **__: b"a picture"  # type: ignore[assignment]  # most of a tiny run's time
    result = globals()[order["what"]](**order["given"])
    (place / f"result{rank}").write_text(json.dumps(result))
    sys.exit(result if isinstance(result, int) else 0)


def launch(order: dict[str, Any]) -> dict[str, Any]:
    place = Path(order["place"])
    place.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agent = fork(host, port) if order["agent"] else None
    for attempt in range(order["attempts"]):
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(attempt)
        pids = [fork(rank_main, order, rank, port) for rank in range(order["size"])]
        if attempt + 1 < order["attempts"]:
            list(map(wait, pids))
    began = time.monotonic()
    if order["strike"] is not None:
        rank, number, file, lines = order["strike"]
        while not (Path(file).exists() and len(Path(file).read_bytes().splitlines()) >= lines):
            time.sleep(0.02)
        began = time.monotonic()
        os.kill(pids[rank], number)
    left = set(range(order["size"])) - ({order["strike"][0]} if order["strike"] else set())
    status = {rank: wait(pids[rank]) for rank in left}
    seconds = time.monotonic() - began
    if order["strike"] is not None:  # one that was stopped neither ends nor waits
        os.kill(pids[rank], signal.SIGKILL)
        status[rank] = wait(pids[rank])
    if agent is not None:
        os.kill(agent, signal.SIGKILL)
        wait(agent)
    results = [json.loads(path.read_text()) for path in sorted(place.glob("result*"))]
    return {"status": [status[rank] for rank in range(order["size"])], "results": results, "seconds": seconds}


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork(run: Callable[..., None], *arguments: Any) -> int:
    """A child that ends as a program does, when `run` ends or exits."""
    pid = os.fork()
    if pid == 0:
        run(*arguments)
        sys.exit(0)
    return pid


def host(port: int) -> None:
    """Holds the store until it is killed."""
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    signal.pause()
    del store


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(launch(json.loads(line))), flush=True)
