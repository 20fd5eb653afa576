"""`paczero match`: the settings of every mechanism at the same posterior success.

$ paczero match --success 0.55
$ paczero match --epsilon 2 --units 1000 --steps 1000 --directions 64 --sampling 0.064 --json
"""

import dataclasses
import json
from argparse import Namespace
from collections.abc import Sequence

from paczero.cli.parser import CommandParser, command_parser
from paczero.mechanism.matching import Matched, matched
from paczero.release.guarantee import rounded_up
from paczero.release.wording.labels import HIDES

_ABOUT = """
Prints the settings at which every mechanism has the same p: the highest probability of a right guess about one unit, by
an adversary to whom both answers are equally likely before. One of --success, --nats and --epsilon sets p.

  paczero match --success 0.55
  paczero match --nats 0.33 --units 4000 --steps 600
  paczero match --epsilon 2 --steps 1000 --directions 64 --sampling 0.064 --json
"""

_SHOWN = ("mechanism.name", "max_steps", "directions")  # settings that stand in the heading or in the first column

_HEADS = ("mechanism", "p", "nats", "ε", "noise", "hides")

_FOOT = """
p of mi, zpl and skip is about which half a unit was in, on average over releases. They do not hide who is
in the pool. p of dpzero, dp-aggzo and dp-sign is about whether a unit was in the pool, for an adversary who
knows all other units. none and full-sign never read the secret half: about it alone they have I = 0 and
p = 0.5, and about the pool they bound nothing. An ε in brackets has the same p at δ = 0. It is for comparison
and promises no differential privacy. The noise is σ, in clips, or ε₀, by which one unit can move the log-odds
of a bit.{large}"""

_LARGE = """
Attention: the noise of this p has ε = {:.3g}. p bounds an average guess only: from ε = 8 on, rare releases may
tell a unit for certain. Choose ε instead, such as --epsilon 2."""

_LARGE_EPSILON = 8

_LARGE_DELTA = """
Attention: δ = {:.3g} is 1/N or more (N = {:,} units), which a mechanism that publishes one random unit keeps
too: this δ promises little."""

_NEARLY_CERTAIN = """
Attention: this p lets a guess be right nearly always, so it promises next to nothing."""

_CERTAIN = 0.995


def parser() -> CommandParser:
    made: CommandParser = command_parser("match", _ABOUT, usage="(--success P | --nats B | --epsilon E) [OPTIONS]")
    target = made.add_mutually_exclusive_group(required=True)
    for name, metavar, text in (
        ("success", "P", "p, the probability of a right guess, between 0.5 and 1"),
        ("nats", "B", "the budget of mi, below ln 2"),
        ("epsilon", "E", "ε of the differentially private ones"),
    ):
        target.add_argument(f"--{name}", type=float, metavar=metavar, help=text)
    made.add_argument(
        "--delta", type=float, metavar="D", help="δ of the differentially private ones; 1e-6 or 1/N² where left out"
    )
    for name, default, metavar, text in (
        ("units", 1000, "N", "units in the pool"),
        ("steps", 1000, "T", "steps of a run"),
        ("directions", 1, "K", "directions a step; dpzero always has 1"),
    ):
        made.add_argument(f"--{name}", type=int, default=default, metavar=metavar, help=text)
    made.add_argument(
        "--sampling",
        type=float,
        default=1.0,
        metavar="Q",
        help="Poisson rate of the differentially private ones; 1: the whole pool",
    )
    made.add_argument("--json", action="store_true", help="print the rows as JSON")
    return made


def run(namespace: Namespace) -> int:
    names = ("success", "nats", "epsilon", "units", "delta", "steps", "directions")
    rows = matched(**{name: getattr(namespace, name) for name in names}, sampling_prob=namespace.sampling)
    if namespace.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0
    delta = next(row.delta for row in rows if row.delta is not None)
    print(
        f"N = {namespace.units:,} units, δ = {delta:.3g}, T = {namespace.steps:,} steps, K = {namespace.directions:,}, "
        f"sampling {namespace.sampling:g}\n"
    )
    print(table([_HEADS, *map(_cells, rows)]))
    print("\n" + table([("mechanism", "settings"), *((row.name, flags) for row in rows if (flags := _flags(row)))]))
    largest = max(row.epsilon or 0.0 for row in rows if row.hides == "pool")
    lines = [_LARGE.format(largest)] if largest >= _LARGE_EPSILON else []
    lines += [_LARGE_DELTA.format(delta, namespace.units)] if delta * namespace.units >= 1 else []
    lines += [_NEARLY_CERTAIN] if max(row.success for row in rows if row.success < 1) >= _CERTAIN else []
    print(_FOOT.format(large="".join(lines)))
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cells(row: Matched) -> tuple[str, ...]:
    private = row.hides == "pool"
    epsilon = "-" if row.epsilon is None else f"{row.epsilon:g}" if private else f"({row.epsilon:.4g})"
    return (
        row.name,
        rounded_up(row.success) if row.success < 1 else "no bound",
        "-" if row.nats is None else f"{row.nats:g}",
        epsilon,
        f"σ {row.sigma:g}" if row.sigma else f"ε₀ {row.eps0:.4g}" if row.eps0 else "-",
        HIDES[row.hides],
    )


def _flags(row: Matched) -> str:
    return " ".join(f"--{key} {value:g}" for key, value in row.settings.items() if key not in _SHOWN)
