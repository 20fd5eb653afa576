"""What is fuzzed: each target breaks one thing that a user may give, and tries it.

    targets = Targets(root, model, release)
    targets.by_name["journal"](random.Random(1)).problem

`quick` targets call the function that reads the thing. `whole` targets go through the command line, and may load a
model.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paczero.cli.main import COMMANDS, main
from paczero.config import TaskConfig
from paczero.mechanism.journal import Journal
from paczero.mechanism.secret import open_secret
from paczero.mechanism.transcript import Transcript
from paczero.release import statement, task_file

from .harness import Attempt, attempt
from .mutations import NASTY, anything, edited, mutated

CONFIG = """model: {model}
data: {{train: {pool}, dev: {dev}}}
peft: {{r: 2, target_modules: [q_proj, v_proj], layers_to_transform: [2]}}
task:
  template: "{{text}} It was {{label}}"
  labels: {{"0": terrible, "1": great}}
mechanism:
  name: mi
  budget: 0.33
  family: random
  subsets: 8
max_steps: 4
learning_rate: 0.01
output_dir: {out}
"""
SWEEP = """base: {config}
output_dir: {out}
seeds: [0, 1]
cells:
  one: {{learning_rate: 0.01}}
  two: {{learning_rate: 0.02}}
"""
TASK = TaskConfig(labels={"0": "terrible", "1": "great"})
Target = Callable[[random.Random], Attempt]


class Targets:
    """All targets, over one finished run and its records.

    Args:
        root: an own directory.
        model: a model's directory.
        run: a finished run of it, which is copied.
        pool: a csv of 32 units or more, with columns text and label.
    """

    def __init__(self, root: Path, model: Path, run: Path, pool: Path) -> None:
        self.root, self.model, self.run = root, model, Path(shutil.copytree(run, root / "run"))
        self.work = root / "work"
        self.work.mkdir()
        self.pool, self.dev = Path(shutil.copy(pool, root / "pool.csv")), Path(shutil.copy(pool, root / "dev.csv"))
        self.out = self.work / "out"
        self.config = CONFIG.format(model=model, pool=self.pool, dev=self.dev, out=self.out).encode()
        (root / "good.yaml").write_bytes(self.config)
        self.files = {
            name: (self.run / name).read_bytes()
            for name in (
                "private/journal.jsonl",
                "private/secret.json",
                "release/transcript.jsonl",
                "release/privacy.json",
                "release/task.json",
                "release/README.md",
                "release/adapter/adapter_config.json",
                "release/adapter/adapter_model.safetensors",
            )
        }
        self.quick: dict[str, Target] = {
            "journal": self.journal,
            "transcript": self.transcript,
            "secret": self.secret,
            "statement": self.statement,
            "task": self.task,
            "data": self.data,
            "config": self.settings,
            "flags": self.flags,
            "sweep": self.sweep,
        }
        self.whole: dict[str, Target] = {"release": self.release, "commands": self.commands, "run": self.broken_run}
        self.by_name = self.quick | self.whole

    def _broken(self, name: str, chance: random.Random) -> Path:
        """A file of the run, changed: as bytes, or as a document that is written as it should be."""
        data, path = self.files[name], self.work / Path(name).name
        if chance.random() < 0.4 and name.endswith((".json", ".jsonl")):
            lines = data.split(b"\n") if name.endswith(".jsonl") else [data]
            number = chance.randrange(len(lines))
            document = edited(json.loads(lines[number]), chance) if lines[number].strip() else anything(chance)
            style: dict[str, Any] = {"indent": 2, "ensure_ascii": False} if len(lines) == 1 else {}
            style |= {} if len(lines) == 1 else {"sort_keys": True, "separators": (",", ":")}
            try:
                lines[number] = json.dumps(document, **style).encode("utf-8", "surrogatepass")
            except TypeError:  # keys of several types cannot be sorted
                lines[number] = json.dumps(anything(chance)).encode("utf-8", "surrogatepass")
            data = b"\n".join(lines)
        else:
            data = mutated(data, chance)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
        return path

    def _clear(self) -> None:
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    # -- quick: the function that reads the thing

    def journal(self, chance: random.Random) -> Attempt:
        path = self._broken("private/journal.jsonl", chance)
        return attempt(lambda: Journal.open(path))

    def transcript(self, chance: random.Random) -> Attempt:
        path = self._broken("release/transcript.jsonl", chance)
        return attempt(lambda: Transcript.read(path))

    def secret(self, chance: random.Random) -> Attempt:
        path = self._broken("private/secret.json", chance)
        return attempt(lambda: open_secret(path))

    def statement(self, chance: random.Random) -> Attempt:
        path = self._broken("release/privacy.json", chance)
        return attempt(lambda: statement.read(path))

    def task(self, chance: random.Random) -> Attempt:
        self._broken("release/task.json", chance)
        return attempt(lambda: task_file.read(self.work))

    def data(self, chance: random.Random) -> Attempt:
        """Records as csv, tsv, jsonl, json or parquet, broken, or with another ending than they have."""
        from paczero.data.encoding import read_dataset

        ending = chance.choice(["csv", "csv", "tsv", "jsonl", "json", "parquet", "txt", ""])
        text = self.pool.read_bytes()
        if chance.random() < 0.5:
            rows = [dict(zip(("text", "label"), line.split(","), strict=False)) for line in text.decode().split("\n")]
            rows[chance.randrange(len(rows))] = edited(rows[1], chance)
            text = "\n".join(json.dumps(row) for row in rows).encode("utf-8", "surrogatepass")
        path = self.work / f"records{'.' * bool(ending)}{ending}"
        path.write_bytes(mutated(text, chance))
        return attempt(lambda: read_dataset(str(path), TASK, training=True))

    def settings(self, chance: random.Random) -> Attempt:
        path = self.work / "config.yaml"
        path.write_bytes(mutated(self.config, chance))
        return attempt(lambda: main(["train", "--config", str(path), "--print_settings"]), watched=[self.work])

    def flags(self, chance: random.Random) -> Attempt:
        given = ["train", "--config", str(self.root / "good.yaml"), "--print_settings"]
        for _ in range(chance.randint(1, 3)):
            given.append(f"--{chance.choice(FLAGS)}")
            if chance.random() < 0.9:
                given.append(_value(chance))
        return attempt(lambda: main(given), watched=[self.work])

    def sweep(self, chance: random.Random) -> Attempt:
        path = self.work / "sweep.yaml"
        path.write_bytes(mutated(SWEEP.format(config=self.root / "good.yaml", out=self.out).encode(), chance))
        return attempt(lambda: main(["sweep", str(path), "--dry_run"]), watched=[self.work])

    # -- whole: through the command line

    def release(self, chance: random.Random) -> Attempt:
        """A release with one file broken, as `verify`, `replay --verify`, `predict` and `eval` find it."""
        self._clear()
        name = chance.choice([name for name in self.files if name.startswith("release/")])
        folder = Path(shutil.copytree(self.run / "release", self.work / "release"))
        if chance.random() < 0.1:
            (folder / chance.choice(["x", "a.bin", "figures/x.png", ".x", "model"])).write_bytes(b"x")
        else:
            shutil.move(self._broken(name, chance), self.work / "broken")
            shutil.move(self.work / "broken", self.work / name)
        out = str(self.work / "decided.csv")
        command = chance.choice(
            [
                ["verify", str(folder)],
                ["verify", str(folder), "--model", str(self.model)],
                ["replay", str(folder), "--verify", "--model", str(self.model)],
                ["predict", str(folder), "--input", str(self.pool), "--output", out, "--model", str(self.model)],
                ["eval", str(folder), "--data", str(self.pool), "--model", str(self.model)],
            ]
        )
        return attempt(lambda: main(command), watched=[self.work])

    def broken_run(self, chance: random.Random) -> Attempt:
        """A run with one private file broken, as `report`, `audit`, `train --resume` and `results` find it."""
        self._clear()
        name = chance.choice(list(self.files))
        run = Path(shutil.copytree(self.run, self.work / "run"))
        shutil.move(self._broken(name, chance), self.work / "broken")
        shutil.move(self.work / "broken", run / name)
        if chance.random() < 0.3:
            (run / "config.yaml").write_bytes(mutated((run / "config.yaml").read_bytes(), chance))
        command = chance.choice(
            [["report"], ["audit", "--parts", "exact"], ["train", "--resume"], ["results"], ["verify"]]
        )
        if command[0] == "train" and chance.random() < 0.5:
            shutil.rmtree(run / "release", ignore_errors=True)
        return attempt(lambda: main([command[0], *command[1:], str(run)]))

    def commands(self, chance: random.Random) -> Attempt:
        """Any command with arguments out of place."""
        self._clear()
        name = chance.choice([name for name in COMMANDS if name != "demo"])
        places = [str(self.run), str(self.model), str(self.pool), str(self.root / "good.yaml"), str(self.work)]
        given = [name]
        for _ in range(chance.randint(0, 4)):
            what = chance.random()
            if what < 0.3:
                given.append(chance.choice(places))
            elif what < 0.6:
                given.append(f"--{chance.choice(OPTIONS)}")
            else:
                given.append(_value(chance))
        if name in ("train", "audit", "results", "sweep"):  # these may do what they were asked for, for minutes
            given.append("--no_such_option")
        return attempt(lambda: main(given), watched=[self.work])


def _value(chance: random.Random) -> str:
    what = chance.random()
    text = NASTY[chance.randrange(len(NASTY))] if what < 0.7 else json.dumps(anything(chance))
    return text.replace("\x00", "")  # no command line can hold one


FLAGS = (
    "model", "data", "data.train", "data.dev", "data.test", "data.train_records", "data.shots", "peft", "peft.r",
    "peft.target_modules", "peft.layers_to_transform", "task", "task.kind", "task.template", "task.labels",
    "task.label_column", "task.unit_column", "task.max_length", "task.stop", "mechanism", "mechanism.name",
    "mechanism.budget", "mechanism.subsets", "mechanism.family", "mechanism.clip", "mechanism.channel",
    "mechanism.epsilon", "mechanism.delta", "mechanism.sampling_prob", "mechanism.pilots", "max_steps",
    "learning_rate", "lr_scheduler_type", "mu", "directions", "restore", "ema_decay", "seed", "batch_tokens",
    "units_per_step", "eval_steps", "metric_for_best_model", "threshold", "dtype", "device", "train_layers",
    "cache_bytes", "cache_dir", "engine", "engine.packing", "engine.offload", "engine.max_memory", "report_to",
    "test_seed", "force", "output_dir", "config", "base", "resume", "secret",
)  # fmt: skip
OPTIONS = (
    *("verify", "model", "step", "output", "data", "input", "key", "parts", "reruns", "open", "config", "success"),
    *("nats", "epsilon", "predictions", "from", "choose", "baseline", "task.labels", "dry_run", "limit", "device"),
)
