"""The long form of the audit: every mechanism attacked, many re-runs, one JSON document. An interrupted one continues.

    python benchmarks/audit.py --output audit-long --reruns 2000 --canary_runs 100
    python benchmarks/audit.py --output audit-long --parts alarms --alarms 200
    python benchmarks/audit.py --output audit-long --parts one_run --model models/SmolLM2-135M-Instruct

Five parts. Controls: broken mechanisms, with the small language model. Re-runs: the secret half attacked under `zpl`
with each family and K = 1 and 4, and under `mi` at four budgets and with the Gaussian channel; each needs about 0.13 s
a run on one core. Canaries: membership in the pool attacked under nine mechanisms, about 1.3 s a run for both attackers
together. Alarms: how many of so many honest audits fail, on quadratic losses. One run: 1,000 canaries in one run of
`dp-sign` and of `dpzero`, and of `dp-sign` with half its noise, on critics' snippets and the demo's model (it is made
where it is absent). Finished mechanisms are kept in OUTPUT/long.json.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from paczero.audit.canaries import canaries, canary_settings, label_of
from paczero.audit.losses import Material, ModelLosses
from paczero.audit.one_run_canaries import CANARIES as MANY
from paczero.audit.one_run_canaries import audit_one_run
from paczero.audit.positive_controls import Broken, audited, changed, controls, failed_of
from paczero.audit.reruns import GOOD, rerun
from paczero.audit.simulation import Simulation, settings
from paczero.config import MechanismConfig, TaskConfig
from paczero.data.rotten_tomatoes import read_snippets
from paczero.models.gguf import convert_gguf, find_smollm2
from paczero.training.factory import make_mechanism
from paczero.utils.io import write_whole

FAMILIES = ("random", "paired", "balanced")
RERUNS = (
    *(MechanismConfig(name="zpl", family=family, pilots=16) for family in FAMILIES),
    *(MechanismConfig(name="mi", budget=budget) for budget in (0.01, 0.1, 0.33, 0.68)),
    MechanismConfig(name="mi", budget=0.33, family="balanced", pilots=16),
    MechanismConfig(name="mi", budget=0.33, channel="gaussian"),
    MechanismConfig(name="skip"),
)
SEVERAL = (MechanismConfig(name="zpl"), MechanismConfig(name="zpl", family="balanced", pilots=16))  # with K = 4
HONEST = (
    MechanismConfig(name="zpl", subsets=32),
    MechanismConfig(name="mi", budget=0.33, subsets=32),
    MechanismConfig(name="dp-sign", epsilon=2.0),
)
PARTS = ("controls", "reruns", "canaries", "alarms", "one_run")
TASK = TaskConfig(template="{text} It was {label}", labels={"rotten": "terrible", "fresh": "great"})
LORA = {"r": 8, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [28, 29]}
CANARIES = (
    *(MechanismConfig(name="zpl", family=family, pilots=16) for family in FAMILIES),
    *(MechanismConfig(name="mi", budget=0.33, family=family, pilots=16) for family in FAMILIES),
    MechanismConfig(name="none"),
    MechanismConfig(name="dpzero", epsilon=2.0, clip=1.0),
    MechanismConfig(name="dp-sign", epsilon=2.0, clip=1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="audit-long", help="directory of long.json and of the re-runs' outcomes")
    parser.add_argument("--reruns", type=int, default=1000)
    parser.add_argument("--canary_runs", type=int, default=60)
    parser.add_argument("--alarms", type=int, default=200, help="honest audits of each mechanism")
    parser.add_argument("--one_run_canaries", type=int, default=MANY)
    parser.add_argument("--one_run_steps", type=int, default=300)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    given = parser.parse_args()
    parts = given.parts.split(",")
    root = Path(given.output)
    root.mkdir(parents=True, exist_ok=True)
    path = root / "long.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found = {part: {} for part in PARTS} | found

    def keep(part: str, key: str, value: Any, began: float) -> None:
        found[part][key] = value | {"seconds": round(time.monotonic() - began, 1)}
        write_whole(path, json.dumps(found, indent=1) + "\n")
        print(part, key, f"{found[part][key]['seconds']} s", flush=True)

    if "controls" in parts and not found["controls"]:
        began = time.monotonic()
        rows = {control.name: asdict(control) for control in controls(model=True)}
        keep("controls", "all", rows, began)
    for mechanism, directions in [(m, 1) for m in RERUNS] + [(m, 4) for m in SEVERAL] if "reruns" in parts else []:
        key = f"{label_of(mechanism)}, {mechanism.channel}, K = {directions}, {given.reruns} runs"
        if key not in found["reruns"]:
            began = time.monotonic()
            args = settings(mechanism, directions=directions)
            keep("reruns", key, asdict(rerun(args, root / "outcomes", runs=given.reruns)), began)
    for mechanism in HONEST if "alarms" in parts else ():
        key = f"{label_of(mechanism)}, {given.alarms} audits"
        if key not in found["alarms"]:
            began = time.monotonic()
            keep("alarms", key, alarms(mechanism, given.alarms), began)
    for name, build in (("dp-sign", make_mechanism), ("dpzero", make_mechanism), ("dp-sign", changed(eps0=2.0))):
        key = f"{name}, {'honest' if build is make_mechanism else 'half its noise'}, {given.one_run_steps} steps"
        if "one_run" in parts and key not in found["one_run"]:
            began = time.monotonic()
            keep("one_run", key, one_run(name, build, given), began)
    for mechanism in CANARIES if "canaries" in parts else ():
        label = label_of(mechanism)
        key = f"{label}, {given.canary_runs} runs"
        if key not in found["canaries"]:
            began = time.monotonic()
            result = canaries({label: canary_settings(mechanism)}, runs=given.canary_runs)
            keep("canaries", key, asdict(result), began)


def alarms(mechanism: MechanismConfig, audits: int) -> dict[str, Any]:
    """How many honest audits fail, each with model and secrets of its own, at the stated error and at 100 times it.

    The stated error is 0.001 for each of attacks, channel tests and information. The second count, of channel tests
    alone at 0.1 in all, is one that 200 audits can tell from too many.
    """
    failed: list[str] = []
    loose = tests = 0
    for seed in range(audits):
        honest = Broken("honest", "", mechanism, leaks=False, good=GOOD)
        result = audited(honest, seed=seed)
        failed += [f"{seed}: {name}, {detail}" for name, detail in failed_of(result)]
        tests = len(result.channel)
        loose += any(test.p_value < 0.1 / tests for test in result.channel)
    return {"audits": audits, "failed": failed, "tests": tests, "loose": loose}


def one_run(name: str, build: Any, given: argparse.Namespace) -> dict[str, Any]:
    """The one-run audit on critics' snippets: 128 records that are in the pool, and canaries with random labels."""
    chance = random.Random(0)
    snippets = read_snippets()
    chance.shuffle(snippets)
    rows = [{"text": s.text, "label": s.label} for s in snippets[: 128 + given.one_run_canaries]]
    for row in rows[128:]:
        row["label"] = chance.choice(list(TASK.labels))
    if not Path(given.model).is_dir():
        Path(given.model).parent.mkdir(parents=True, exist_ok=True)
        convert_gguf(find_smollm2(), Path(given.model))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(given.model), AutoTokenizer.from_pretrained(given.model)
    made = settings(MechanismConfig(name=name, epsilon=2.0, delta=1e-6), steps=given.one_run_steps)
    args = replace(made, task=TASK, learning_rate=1e-3)
    losses = ModelLosses(args, Material(model.eval(), tokenizer, rows, LORA))
    return asdict(audit_one_run(Simulation(args, units=len(rows), build=build, losses=losses), 128))


if __name__ == "__main__":
    main()
