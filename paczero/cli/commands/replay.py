"""`paczero replay RUN`: a run's weights again, from the base model and the transcript alone.

$ paczero replay runs/first --verify
$ paczero replay runs/first --step 100 --output at-100
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from paczero.cli.checks import noise_line, open_release, rebuild_release, verify_weights
from paczero.cli.console import Live, keep_quiet
from paczero.cli.parser import CommandParser, command_parser
from paczero.errors import PACZeroError

_ABOUT = """
Rebuilds the weights from the base model and the released bits alone; no data is needed. With --verify it compares
everything: each file with privacy.json, the statement with the transcript, the base model with its hash, and every
weight that was released with the rebuilt one, bit for bit. Exit code 1 says that something differs, in one line.

  paczero replay runs/first --verify
  paczero replay downloaded/release --verify --model models/small
  paczero replay runs/first --step 100 --output at-100         the weights after 100 steps
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("replay", _ABOUT, usage="RUN (--verify | --output DIR) [OPTIONS]")
    made.add_argument("run", type=str, metavar="RUN", help="a finished run, or its release/ by itself")
    made.add_argument("--verify", action="store_true", help="compare what was released with what follows from it")
    made.add_argument(
        "--model", type=str, metavar="DIR", help="the base model; the one that the release names if left out"
    )
    made.add_argument("--step", type=int, metavar="N", help="weights after N steps; the served step where left out")
    made.add_argument("--output", type=str, metavar="DIR", help="where to save the rebuilt weights")
    return made


def run(namespace: Namespace) -> int:
    _check(namespace)
    release = open_release(Path(namespace.run))
    step = release.statement["chosen_step"] if namespace.step is None else namespace.step
    if not 0 <= step <= len(release.transcript.y):
        raise PACZeroError(f"--step: {step} was given; expected 0 to {len(release.transcript.y)}, the steps that ran")
    keep_quiet()
    with Live() as live:
        model, tokenizer, weights = rebuild_release(release, step=step, model=namespace.model, live=live)
    if namespace.verify:
        count = verify_weights(release, model, weights)
        print(_verified(release.statement, count, noise_line(release.transcript.header)))
    if namespace.output is not None:
        from paczero.release.publish import save_weights

        folder = Path(namespace.output)
        save_weights(model, tokenizer, folder, base=release.transcript.header["base"]["id"])
        print(f"{folder} holds the weights of step {step:,} (sha256 {weights.fingerprint()})")
    return 0


def _check(namespace: Namespace) -> None:
    if not namespace.verify and namespace.output is None:
        raise PACZeroError("--output: nothing was given; expected where the weights go, or --verify to compare them")
    if namespace.verify and namespace.step is not None:
        raise PACZeroError("--step: given with --verify, which compares the served step; leave one of them out")
    folder = None if namespace.output is None else Path(namespace.output)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PACZeroError(f"--output: {str(folder)!r} exists and is not an empty directory; name another")


def _verified(statement: dict[str, Any], tensors: int, noise: str | None) -> str:
    return "\n".join(
        [
            f"files      {len(statement['files'])} as privacy.json has them, which agrees with the transcript",
            f"steps      {statement['steps_run']:,} of {statement['steps']:,}, none missing",
            "base       the model that the transcript names, every weight of it",
            f"weights    {tensors} tensors of step {statement['chosen_step']:,}, equal to the rebuilt ones bit for bit",
            f"sha256     {statement['weights_sha256']}",
            *([] if noise is None else [f"noise      {noise}"]),
            "Verified: these weights follow from the base model and the released bits, and from nothing else.",
        ]
    )
