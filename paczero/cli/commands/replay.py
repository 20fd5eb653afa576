"""`paczero replay RUN`: rebuilds a run's weights from the base model and the transcript alone.

paczero replay runs/first --verify
paczero replay runs/first --step 100 --output at-100
"""

from argparse import Namespace
from pathlib import Path

from paczero.cli.commands.verify import report
from paczero.cli.console import Live, keep_quiet
from paczero.cli.parser import CommandParser, command_parser
from paczero.errors import PACZeroError

_ABOUT = """
Rebuilds the weights from the base model and the released bits alone; no data is needed. With --verify it checks all
that `paczero verify` checks, the base model against its hash, and every released weight against the rebuilt one, bit
for bit. Exit code 1 means that something differs; one line names it.

  paczero replay runs/first --verify
  paczero replay downloaded/release --verify --model models/small
  paczero replay runs/first --step 100 --output at-100         the weights after 100 steps
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("replay", _ABOUT, usage="RUN (--verify | --output DIR) [OPTIONS]")
    made.add_argument("run", metavar="RUN", help="a finished run, or its release/ alone")
    made.add_argument("--verify", action="store_true", help="compare what was released with what follows from it")
    made.add_argument("--model", metavar="DIR", help="the base model; by default the one that the release names")
    made.add_argument("--step", type=int, metavar="N", help="weights after N steps; the served step by default")
    made.add_argument("--output", metavar="DIR", help="where to save the rebuilt weights")
    return made


def run(namespace: Namespace) -> int:
    _check(namespace)
    keep_quiet()
    if namespace.verify:
        from paczero.release.verify.release import verify_release

        with Live() as live:
            verification = verify_release(namespace.run, with_base=True, model=namespace.model, progress=live.show)
        print(report(verification))
        print("Verified: these weights follow from the base model and the released bits, and from nothing else.")
    if namespace.output is not None:
        from paczero.mechanism.transcript import Transcript
        from paczero.release.publish import save_weights
        from paczero.release.replay import replay_release
        from paczero.release.statement import find_release

        with Live() as live:
            model, tokenizer, weights = replay_release(
                namespace.run, step=namespace.step, model=namespace.model, progress=live.show
            )
        folder = Path(namespace.output)
        header = Transcript.read(find_release(Path(namespace.run)) / "transcript.jsonl").header
        save_weights(model, tokenizer, folder, base=header["base"]["id"])
        step = "the served step" if namespace.step is None else f"step {namespace.step:,}"
        print(f"{folder} holds the weights of {step} (sha256 {weights.fingerprint()})")
    return 0


def _check(namespace: Namespace) -> None:
    if not namespace.verify and namespace.output is None:
        raise PACZeroError("--output: nothing was given; expected where the weights go, or --verify to compare them")
    if namespace.verify and namespace.step is not None:
        raise PACZeroError("--step: given with --verify, which compares the served step; leave one of them out")
    folder = None if namespace.output is None else Path(namespace.output)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PACZeroError(f"--output: {str(folder)!r} exists and is not an empty directory; name another")
