"""How long the mechanism takes a step: from N derivatives to the released bit, without any model.

    python benchmarks/mechanism.py --units 10000 --subsets 128

One row for each pool size: quantising, exact sums and signs, the posterior, the calibration of the channel, and a whole
step of each mechanism (`mi` opens its secret too); then the families of candidates, once a run. Times are medians of
one process; set OPENBLAS_NUM_THREADS=1 for one core. The last line is JSON with the same figures (milliseconds a step,
seconds a family).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paczero.mechanism.channels import channel
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.release import MI, ZPL
from paczero.mechanism.secret import SystemCoins, create_secret
from paczero.mechanism.signs import quantise, subset_sums
from paczero.mechanism.subsets import draw_subsets

CLIP = 25.0


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def parts(units: int, subsets: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each part of a contested step."""
    rng = np.random.default_rng(0)
    derivatives = 10 * rng.standard_normal((units, 1))
    membership = draw_subsets(units, subsets, seed=0)
    quantised, _ = quantise(derivatives, clip=CLIP)
    signs = np.where(subset_sums(quantised, membership)[0] >= 0, 1, -1).astype(np.int8)
    posterior = Posterior.uniform(subsets).observed(rng.standard_normal(subsets))
    evidence = rng.standard_normal(subsets)
    row = {
        "quantise": milliseconds(lambda: quantise(derivatives, clip=CLIP), repeats),
        "signs": milliseconds(lambda: subset_sums(quantised, membership), repeats),
        "posterior": milliseconds(lambda: (posterior.minority(signs), posterior.observed(evidence)), repeats),
    }
    for name in ("bit", "gaussian"):
        calibrate = channel(name).calibrate
        row[f"calibrate {name}"] = milliseconds(lambda calibrate=calibrate: calibrate(0.3, 1e-4), repeats)
    return row | steps(derivatives, membership, repeats)


def steps(derivatives: np.ndarray, membership: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds of whole steps, the derivatives given."""
    row = {}
    with tempfile.TemporaryDirectory() as directory:
        secret = Path(directory) / "secret.json"
        create_secret(secret, subsets=membership.shape[1])
        common = {"clip": CLIP, "coins": SystemCoins()}
        budget = {"budget": 0.33, "steps": repeats + 1, "secret": secret}
        for name, mechanism in (
            ("zpl", ZPL(membership, **common)),
            ("mi bit", MI(membership, channel="bit", **common, **budget)),
            ("mi gaussian", MI(membership, channel="gaussian", **common, **budget)),
        ):
            numbers = iter(range(repeats + 1))
            row[f"step {name}"] = milliseconds(
                lambda mechanism=mechanism, numbers=numbers: mechanism.release(next(numbers), derivatives), repeats
            )
    return row


def families(units: int, subsets: int, width: int) -> dict[str, float]:
    """Seconds to draw each family, features of two labels and 64 pilots given."""
    rng = np.random.default_rng(0)
    given = {
        "features": rng.standard_normal((units, width), dtype=np.float32),
        "labels": rng.integers(0, 2, units),
        "pilots": rng.standard_normal((units, 64), dtype=np.float32),
    }
    row = {}
    for family in ("random", "paired", "balanced"):
        start = time.perf_counter()
        draw_subsets(units, subsets, seed=0, family=family, **given)
        row[family] = time.perf_counter() - start
    return row


def main() -> None:
    """Prints two tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="pool sizes N")
    parser.add_argument("--subsets", type=int, default=128, help="candidates M (default 128)")
    parser.add_argument("--repeats", type=int, default=30, help="timed calls of each part (default 30)")
    parser.add_argument("--family-units", type=int, default=10_000, help="pool size of the families; 0 leaves them out")
    parser.add_argument("--width", type=int, default=576, help="features a unit (default 576, SmolLM2-135M's)")
    arguments = parser.parse_args()
    rows = {units: parts(units, arguments.subsets, arguments.repeats) for units in arguments.units}
    names = list(next(iter(rows.values())))
    print(f"milliseconds, M = {arguments.subsets}")
    print(f"{'N':>9}" + "".join(f"{name:>20}" for name in names))
    for units, row in rows.items():
        print(f"{units:>9}" + "".join(f"{row[name]:>20.3f}" for name in names))
    result: dict[str, object] = {"subsets": arguments.subsets, "milliseconds": rows}
    if arguments.family_units:
        drawn = families(arguments.family_units, arguments.subsets, arguments.width)
        print(f"\nseconds to draw a family, N = {arguments.family_units}, M = {arguments.subsets}")
        print("".join(f"{name:>12}" for name in drawn) + "\n" + "".join(f"{value:>12.2f}" for value in drawn.values()))
        result |= {"family_units": arguments.family_units, "family_seconds": drawn}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
