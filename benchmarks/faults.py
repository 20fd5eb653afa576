"""The long form of the fault tests: hundreds of kills, and the last write torn at every byte. Goes on where it was.

    python benchmarks/faults.py --output faults-long

Three parts, each on the tiny model of the tests, whose runs are forked from one process that has everything loaded.

    kills   `kill -9` at random moments, 200 times (--kills): half at a write that is left half done, half by the clock.
            Every run that was killed is gone on with until it is finished.
    tears   every write of a short run, torn at every byte of what it writes (of more than 1,200 bytes, which are files
            that get their name when they are whole, at 60 of them), and a kill before and after every other event
            (fsync, rename, link, mkdir, …). Goes on at the event where it was.
    denied  no space on the device, or no access, at every event.

What is compared: every file of the release, journal, transcript, candidates and configuration, bit for bit with those
of a run that nothing happened to. A difference ends the program with exit code 1. Counts go to OUTPUT/faults.json.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import save_tiny_model, write_tiny_csv  # noqa: E402
from tests.faults.test_kill import RUNS, left  # noqa: E402

MORE: dict[str, dict[str, Any]] = {
    "bit": {"peft": RUNS["adapter"]["peft"], "mechanism": {"name": "mi", "subsets": 8, "budget": 0.3}},
    "private": {"peft": RUNS["adapter"]["peft"], "mechanism": {"name": "dp-sign", "epsilon": 2.0}, "directions": 2},
}
EVERY = 1200  # bytes; more than any line that a short run appends
SOME = 60  # torn offsets of a longer write


class Zygote:
    """The process that forks runs."""

    def __init__(self, log: Path):
        command = [sys.executable, str(ROOT / "tests" / "faults" / "zygote.py"), str(log)]
        self.log = log
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def order(self, settings: dict[str, Any], **more: Any) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        line = {"settings": settings, "delay": None, "event": None, "seed": 0} | more
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        status = int(json.loads(self.process.stdout.readline())["status"])
        if status not in (0, 2, -9):
            sys.exit(f"a run failed: {self.log.read_text()[-3000:]}")
        return status


class Bench:
    """Runs, counts and compares."""

    def __init__(self, root: Path, output: Path):
        self.root, self.path = root, output / "faults.json"
        self.zygote = Zygote(root / "log")
        self.model = save_tiny_model(root / "model")
        self.pool = write_tiny_csv(root / "pool.csv", 48, seed=1)
        self.dev = write_tiny_csv(root / "dev.csv", 20, seed=2)
        self.found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def settings(self, kind: str, *, short: bool) -> dict[str, Any]:
        shared = {
            "model": str(self.model),
            "train_dataset": str(self.pool),
            "eval_dataset": str(self.dev),
            "output_dir": str(self.root / f"run-{kind}"),
            "max_steps": 10,
            "eval_steps": 3,
            "learning_rate": 0.05,
            "batch_tokens": 256,
            "test_seed": 11,
        }
        shared |= (RUNS | MORE)[kind]
        return shared | (
            {"max_steps": 2, "eval_dataset": None, "metric_for_best_model": None, "threshold": "none"} if short else {}
        )

    def whole(self, settings: dict[str, Any], **more: Any) -> dict[str, bytes]:
        """What an undisturbed run leaves."""
        self.zygote.order(settings, **more)
        run = Path(settings["output_dir"])
        found = left(run)
        shutil.rmtree(run)
        return found

    def same(self, settings: dict[str, Any], expected: dict[str, bytes], what: str) -> None:
        """Ends the program where the finished run differs; removes it."""
        run = Path(settings["output_dir"])
        found = left(run)
        if found != expected:
            names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
            sys.exit(f"{what}: {', '.join(names)} differ from those of an undisturbed run")
        shutil.rmtree(run)

    def keep(self, part: str, **counts: Any) -> None:
        self.found[part] = counts
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
        print(part, counts, flush=True)

    def kills(self, wanted: int) -> None:
        chance, began = random.Random(1), time.monotonic()
        count, runs = 0, 0
        wholes = {kind: self.whole(self.settings(kind, short=False)) for kind in RUNS | MORE}
        while count < wanted:
            kind = sorted(wholes)[runs % len(wholes)]
            settings = self.settings(kind, short=False)
            for attempt in range(12):
                if count % 2:
                    how: dict[str, Any] = {"delay": chance.uniform(0.0, 1.5)}
                else:
                    far = attempt % 3 == 2  # to where the release is written
                    event = chance.randint(30, 90) if far else chance.randint(1, 12)
                    how = {"event": event, "seed": chance.randint(0, 2**30)}
                if self.zygote.order(settings, **how) == 0:
                    break
                count += 1
                if count >= wanted:
                    break
            self.zygote.order(settings)
            self.same(settings, wholes[kind], f"after {count} kills, {kind}")
            runs += 1
        self.keep("kills", kills=count, runs=runs, kinds=sorted(wholes), seconds=round(time.monotonic() - began))

    def tears(self, kind: str) -> None:
        settings, log, began = self.settings(kind, short=True), self.root / "events", time.monotonic()
        log.unlink(missing_ok=True)
        expected = self.whole(settings, plain=True, log=str(log))
        events = [line.split() for line in log.read_text().splitlines()]
        none = {
            "events": len(events),
            "done": 0,
            "writes": 0,
            "bytes": 0,
            "torn": 0,
            "others": 0,
            "kills": 0,
            "seconds": 0,
        }
        counts = self.found.get(f"tears {kind}", none)
        for number, (name, size) in enumerate(events, start=1):
            if number <= counts["done"]:
                continue
            offsets, length = torn_at(name, int(size), number), int(size)
            for byte in offsets:
                self.zygote.order(settings, event=number, plain=True, byte=byte)
                self.zygote.order(settings, plain=True)
                self.same(settings, expected, f"{kind}, event {number} ({name}, {length} bytes) torn at {byte}")
            for key, more in {
                "done": 1,
                "writes": int(length > 0),
                "bytes": length,
                "torn": len(offsets) if length else 0,
                "others": int(length == 0),
                "kills": len(offsets),
                "seconds": round(time.monotonic() - began),
            }.items():
                counts[key] += more
            began = time.monotonic()
            self.keep(f"tears {kind}", **counts)

    def denied(self, kind: str, how: str) -> None:
        settings, log, began = self.settings(kind, short=True), self.root / "events", time.monotonic()
        log.unlink(missing_ok=True)
        expected = self.whole(settings, plain=True, log=str(log))
        events = len(log.read_text().splitlines())
        refused = 0
        for number in range(1, events + 1):
            refused += self.zygote.order(settings, event=number, how=how, plain=True) == 2
            self.zygote.order(settings, plain=True)
            self.same(settings, expected, f"{kind}, {how} at event {number}")
        self.keep(f"denied {how} {kind}", events=events, refused=refused, seconds=round(time.monotonic() - began))


def torn_at(name: str, length: int, seed: int) -> list[int]:
    """After how many bytes a write is torn; of another event whether it happens before the kill."""
    if name not in ("write", "row"):
        return [0, 1]
    if length <= EVERY:
        return list(range(length + 1))
    return sorted({0, length, *random.Random(seed).sample(range(length), SOME - 2)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="faults-long", help="directory of faults.json")
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args()
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="paczero-faults-", dir=memory if memory.is_dir() else None))
    try:
        bench = Bench(root, Path(given.output))
        if "kills" not in bench.found:
            bench.kills(given.kills)
        for kind, torn in (("bit", True), ("private", False)):
            for how in ("full", "forbidden"):
                if f"denied {how} {kind}" not in bench.found:
                    bench.denied(kind, how)
            if torn:
                bench.tears(kind)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
