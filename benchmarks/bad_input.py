"""The long form of the fuzzer: a hundred thousand broken inputs, none of which may end in more than one clear line.

    python benchmarks/bad_input.py --output bad-input-long --quick 100000 --whole 3000

`quick` targets call the function that reads the thing (journal, transcript, secret, statement, task, records,
settings, flags, sweep); `whole` ones go through the command line on a whole run, and load a model where they come so
far. Case number n of a target is a function of the target's name and n, so a failure comes again by --only TARGET:N.
Counts go to OUTPUT/bad_input.json now and then, from where a later call goes on; every problem is kept there with its
number.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

from paczero.cli.main import main as command  # noqa: E402
from tests.bad_input.targets import Targets  # noqa: E402
from tests.conftest import save_tiny_model, write_tiny_csv  # noqa: E402

MEMORY = 12 * 1024**3  # bytes that a broken input may make us ask for
WEIGHTS = {"config": 0.35, "flags": 0.35, "sweep": 0.35}  # these take a hundred times as long as the other quick ones


def made(root: Path) -> Targets:
    """A finished run of the tiny model, to be broken."""
    model, pool = save_tiny_model(root / "model"), write_tiny_csv(root / "pool.csv", 40, seed=1)
    lora = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]
    short = ["--max_steps", "4", "--mechanism.subsets", "8", "--mechanism.name", "mi", "--mechanism.budget", "0.3"]
    given = ["train", "--model", model, "--data.train", pool, *lora, *short, "--output_dir", root / "made"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as output:
        code = command([str(argument) for argument in given])
    assert code == 0, output.getvalue()
    (root / "fuzz").mkdir()
    return Targets(root / "fuzz", model, root / "made", pool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="bad-input-long", help="directory of bad_input.json")
    parser.add_argument("--quick", type=int, default=100_000, help="cases in all")
    parser.add_argument("--whole", type=int, default=3_000, help="cases in all")
    parser.add_argument("--only", metavar="TARGET:N", help="one case, with what came of it")
    given = parser.parse_args()
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="paczero-bad-", dir=memory if memory.is_dir() else None))
    try:
        targets = made(root)
        if given.only:
            name, _, number = given.only.partition(":")
            print(targets.by_name[name](random.Random(f"{name}:{number}")))
            return
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
        path = Path(given.output) / "bad_input.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        parts = sum(WEIGHTS.get(name, 1) for name in targets.quick)
        for name in targets.by_name:
            share = WEIGHTS.get(name, 1) / parts if name in targets.quick else 1 / len(targets.whole)
            _fuzz(targets, name, round(share * (given.quick if name in targets.quick else given.whole)), found, path)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    problems = sum(len(row["problems"]) for row in found.values())
    print(f"{sum(row['cases'] for row in found.values()):,} cases, {problems} problems")
    sys.exit(1 if problems else 0)


def _fuzz(targets: Targets, name: str, wanted: int, found: dict[str, Any], path: Path) -> None:
    """Tries the cases of one target that were not tried yet."""
    row = found.setdefault(name, {"cases": 0, "codes": {}, "problems": [], "seconds": 0.0})
    codes, began, before = Counter(row["codes"]), time.monotonic(), row["seconds"]
    while row["cases"] < wanted:
        number = row["cases"]
        result = targets.by_name[name](random.Random(f"{name}:{number}"))
        codes[str(result.code)] += 1
        row["cases"] += 1
        if result.problem is not None:
            row["problems"].append({"case": number, "problem": result.problem[-1500:]})
            print(f"{name}:{number}: {result.problem.splitlines()[0][:200]}", flush=True)
        if row["cases"] % 200 == 0 or row["cases"] == wanted:
            row |= {"codes": dict(codes), "seconds": round(before + time.monotonic() - began, 1)}
            path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{name}: {row['cases']:,} cases, exit codes {dict(codes)}, {row['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
