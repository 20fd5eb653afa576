"""What a number type costs in signal: the same records and directions in float32, bfloat16 and float16.

    python benchmarks/precision.py
    python benchmarks/precision.py --records 32 --directions 4 --dtypes bfloat16 --mu 1e-2

Two cases: LoRA on q and v of all layers, whose adapters are float32 whatever the model is, and full tuning of the last
layer in the type itself. For each type, compared with float32 over all directions: `records`, the share of records
whose derivative has another sign; `subsets`, the share of the M subset signs that differ; correlation and relative
error (root mean square) of the derivatives; `μ lost` and `η lost`, the share of trained weights that such a move does
not change. `rounded head` is the type with label logits rounded to it, as a head that stays in the type would give.

Half precision is slow on most CPUs: the defaults take minutes. The last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cases import CASES, MODEL, TASK, cut_texts, lengths, texts, where_and_when

from paczero.config import PACZeroConfig
from paczero.data.encoding import context_length, prepare
from paczero.data.metrics import losses
from paczero.errors import PACZeroError
from paczero.mechanism import draw_subsets, subset_signs
from paczero.models.adapters import attach, peft_config_from
from paczero.models.layers import first_trained_layer
from paczero.models.loading import DTYPES, load
from paczero.optim.precision import RoundingModel
from paczero.training.factory import make_scorer, make_weights

TYPES = ("bfloat16", "float16")
TRAINS: dict[str, dict[str, Any]] = {
    "lora-all": {"peft": CASES["lora-all"].peft},
    "full-last": {"train_layers": [-1]},
}


def derivatives(
    trains: dict[str, Any], rows: Sequence[dict[str, str]], model: str, args: PACZeroConfig, directions: int
) -> dict[str, Any]:
    """Derivatives of all records along the first directions (N, K), and what of μ and η the weights' type loses.

    Returns:
        `plain` and `rounded head` (N, K); `mu_lost` and `eta_lost` in [0, 1]; `trained`, the weights' types.
    """
    base, tokenizer = load(model, dtype=args.dtype, device="cpu")
    records = prepare(list(rows), TASK, tokenizer, context=context_length(base), training=True)
    peft = None if trains.get("peft") is None else peft_config_from(dict(trains["peft"]))
    wrapped, trained = attach(base, peft_config=peft, train_layers=trains.get("train_layers"), seed=args.seed)
    weights = make_weights(trained, args)
    first = first_trained_layer(wrapped, list(trained))
    scorer = make_scorer(wrapped, records, args, first_layer=first, cache=None)
    found: dict[str, list[np.ndarray]] = {"plain": [], "rounded head": []}
    for step in range(directions):
        scores = {side: scorer.scores() for side in weights.perturb(step, 0)}
        rounded = {side: _rounded(values, args.dtype) for side, values in scores.items()}
        for name, at in (("plain", scores), ("rounded head", rounded)):
            loss = {side: losses(values, records.encoded.targets) for side, values in at.items()}
            found[name].append((loss[+1] - loss[-1]) / (2 * args.mu))
        print(f"  {args.dtype}: direction {step + 1} of {directions}", file=sys.stderr, flush=True)
    grain, normal = RoundingModel(weights), weights.law.name == "gaussian"
    return {
        **{name: np.stack(columns, axis=1) for name, columns in found.items()},
        "mu_lost": grain.lost_fraction(args.mu, normal=normal),
        "eta_lost": grain.lost_fraction(args.learning_rate, normal=normal),
        "trained": sorted({row[1] for row in weights.layout()}),
    }


def _rounded(scores: np.ndarray, dtype: str) -> np.ndarray:
    return torch.from_numpy(scores).to(DTYPES[dtype]).double().numpy()


def compared(got: np.ndarray, exact: np.ndarray, membership: np.ndarray, clip: float) -> dict[str, float]:
    """How derivatives (N, K) differ from the exact ones."""
    signs = [np.stack([subset_signs(column, membership, clip=clip) for column in values.T]) for values in (got, exact)]
    scale = float(np.sqrt(np.mean(exact**2)))
    moving = bool(np.ptp(got) > 0)
    return {
        "record_signs_differ": float(np.mean(np.sign(got) != np.sign(exact))),
        "subset_signs_differ": float(np.mean(signs[0] != signs[1])),
        "correlation": float(np.corrcoef(got.ravel(), exact.ravel())[0, 1]) if moving else 0.0,
        "relative_error": float(np.sqrt(np.mean((got - exact) ** 2))) / scale,
    }


def measure(
    case: str, dtypes: Sequence[str], rows: Sequence[dict[str, str]], model: str, args: PACZeroConfig, directions: int
) -> list[dict[str, Any]]:
    """The rows of one case's table."""
    membership = draw_subsets(len(rows), args.mechanism.subsets, seed=args.seed)
    clip = args.mechanism.clip if args.mechanism.clip is not None else np.inf
    exact = derivatives(TRAINS[case], rows, model, replace(args, dtype="float32"), directions)
    table = []
    for dtype in dtypes:
        found = derivatives(TRAINS[case], rows, model, replace(args, dtype=dtype), directions)
        for head in ("plain", "rounded head"):
            row = {"case": case, "dtype": dtype, "head": head, "trained": found["trained"]}
            row |= compared(found[head], exact["plain"], membership, clip)
            table.append(row | {"mu_lost": found["mu_lost"], "eta_lost": found["eta_lost"]})
            _show(table[-1])
    return table


def _show(row: dict[str, Any]) -> None:
    what = row["dtype"] + (", rounded head" if row["head"] != "plain" else "")
    print(
        f"{row['case']:<12}{what:<24}{row['record_signs_differ']:>10.3f}{row['subset_signs_differ']:>10.3f}"
        f"{row['correlation']:>10.3f}{row['relative_error']:>10.2f}{row['mu_lost']:>9.3f}{row['eta_lost']:>9.3f}",
        flush=True,
    )


def main() -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=sorted(TRAINS), default=list(TRAINS), help="what trains")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", *TYPES], default=list(TYPES), help="types")
    parser.add_argument("--records", type=int, default=32, help="records (default 32; from 32 on)")
    parser.add_argument("--directions", type=int, default=2, help="directions (default 2)")
    parser.add_argument("--mu", type=float, default=1e-3, help="half the distance of the two sides (default 1e-3)")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="η, for what is lost of it (default 1e-3)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--model", default=str(MODEL), help="model directory or hub id (default: the demo's model)")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    args = PACZeroConfig(max_steps=given.directions, task=TASK, learning_rate=given.learning_rate, mu=given.mu)
    print(f"{given.records} records, {given.directions} directions, μ = {given.mu:g}, η = {given.learning_rate:g}")
    columns = f"{'records':>10}{'subsets':>10}{'correl.':>10}{'rel. err':>10}{'μ lost':>9}{'η lost':>9}"
    print(f"{'case':<12}{'against float32':<24}{columns}")
    try:
        _, tokenizer = load(given.model, dtype="float32", device="cpu")
        rows = cut_texts(texts(), lengths(given.records), tokenizer)
        table = [
            row
            for case in given.cases
            for row in measure(case, given.dtypes, rows, given.model, args, given.directions)
        ]
    except PACZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = {"records": given.records, "directions": given.directions, "mu": given.mu, "eta": given.learning_rate}
    print(json.dumps({"rows": table, "subsets": args.mechanism.subsets, **settings, **where_and_when()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
