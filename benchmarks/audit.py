"""The long form of the audit: every mechanism attacked, many re-runs, one JSON document. An interrupted one continues.

    python benchmarks/audit.py --output audit-long --reruns 2000 --canary_runs 100

Two parts. Re-runs: the secret half attacked under `zpl` with each family and under `mi` at four budgets and with the
Gaussian channel; each needs about 0.13 s a run on one core. Canaries: membership in the pool attacked under nine
mechanisms, about 1.3 s a run for both attackers together. Finished mechanisms are kept in OUTPUT/long.json.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paczero.audit.canaries import canaries, canary_settings, label_of
from paczero.audit.positive_controls import controls
from paczero.audit.reruns import rerun
from paczero.audit.simulation import settings
from paczero.config import MechanismConfig
from paczero.utils.io import write_whole

FAMILIES = ("random", "paired", "balanced")
RERUNS = (
    *(MechanismConfig(name="zpl", family=family, pilots=16) for family in FAMILIES),
    *(MechanismConfig(name="mi", budget=budget) for budget in (0.01, 0.1, 0.33, 0.68)),
    MechanismConfig(name="mi", budget=0.33, family="balanced", pilots=16),
    MechanismConfig(name="mi", budget=0.33, channel="gaussian"),
    MechanismConfig(name="skip"),
)
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
    given = parser.parse_args()
    root = Path(given.output)
    root.mkdir(parents=True, exist_ok=True)
    path = root / "long.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"reruns": {}, "canaries": {}}

    def keep(part: str, key: str, value: Any, began: float) -> None:
        found[part][key] = value | {"seconds": round(time.monotonic() - began, 1)}
        write_whole(path, json.dumps(found, indent=1) + "\n")
        print(part, key, f"{found[part][key]['seconds']} s", flush=True)

    if "controls" not in found:
        began = time.monotonic()
        rows = {control.name: asdict(control) for control in controls()}
        found["controls"] = {}
        keep("controls", "all", rows, began)
    for mechanism in RERUNS:
        key = f"{label_of(mechanism)}, {mechanism.channel}, {given.reruns} runs"
        if key not in found["reruns"]:
            began = time.monotonic()
            keep("reruns", key, asdict(rerun(settings(mechanism), root / "outcomes", runs=given.reruns)), began)
    for mechanism in CANARIES:
        label = label_of(mechanism)
        key = f"{label}, {given.canary_runs} runs"
        if key not in found["canaries"]:
            began = time.monotonic()
            result = canaries({label: canary_settings(mechanism)}, runs=given.canary_runs)
            keep("canaries", key, asdict(result), began)


if __name__ == "__main__":
    main()
