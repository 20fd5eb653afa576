"""From settings to the release object that they name, and to what the transcript's header says of it."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paczero.baselines.accounting import calibrate
from paczero.baselines.aggzo import AggZO
from paczero.baselines.coin import Coin
from paczero.baselines.dp_sign import DPSign
from paczero.baselines.dpzero import DPZero
from paczero.baselines.full_sign import FullSign
from paczero.baselines.mezo import Mean
from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.mechanism.draws import Draws
from paczero.mechanism.kinds import KINDS
from paczero.mechanism.release import MI, ZPL, HalfSign, Mechanism, Skip
from paczero.mechanism.secret import coins


def mechanism_header(args: PACZeroConfig, units: int) -> dict[str, Any]:
    """What a transcript says of the mechanism; public.

    Of a differentially private one also ε, δ (1/N² where none was given), the sampling rate, and σ in units of the
    clip, which is a function of these, T and K.
    """
    chosen = args.mechanism
    header: dict[str, Any] = {"name": chosen.name, "clip": chosen.clip}
    if chosen.name == "mi":
        header |= {"channel": chosen.channel, "allocation": chosen.allocation}
    if KINDS[chosen.name].private:
        header |= noise(args, units)
    return header


def noise(args: PACZeroConfig, units: int) -> dict[str, float]:
    """ε, δ, sampling rate and σ of a differentially private run on a pool of N units."""
    chosen = args.mechanism
    if chosen.epsilon is None:
        raise PACZeroError(f"mechanism.epsilon: none was given; {chosen.name!r} needs one")
    delta = units**-2.0 if chosen.delta is None else chosen.delta
    sampling = 1.0 if chosen.sampling is None else chosen.sampling
    sigma = calibrate(
        chosen.name, chosen.epsilon, delta=delta, steps=args.steps, directions=args.directions, sampling=sampling
    )
    return {"epsilon": chosen.epsilon, "delta": delta, "sampling": sampling, "sigma": sigma}


def make_mechanism(args: PACZeroConfig, membership: np.ndarray | None, secret: Path, *, units: int) -> Mechanism:
    """The release object that the settings name.

    Args:
        membership: the candidates (N, M), for mechanisms that ask them.
        secret: the file of the secret's number; opened by `mi` and `half-sign` alone.
        units: N.
    """
    chosen, thrown = args.mechanism, coins(args.test_seed)
    if KINDS[chosen.name].candidates:
        return _of_candidates(args, membership, secret)
    if chosen.name == "none":
        return Mean(clip=chosen.clip, directions=args.directions)
    if chosen.name == "coin":
        return Coin(coins=thrown, directions=args.directions)
    clip = _needed("mechanism.clip", chosen.clip, chosen.name)
    if chosen.name == "full-sign":
        return FullSign(clip=clip, directions=args.directions)
    found, draws = noise(args, units), Draws(args.test_seed)
    if chosen.name == "dp-sign":
        return DPSign(clip=clip, sigma=found["sigma"], draws=draws, directions=args.directions)
    make: Any = DPZero if chosen.name == "dpzero" else partial(AggZO, directions=args.directions)
    made: Mechanism = make(clip=clip, sigma=found["sigma"], units=units, draws=draws, sampling=found["sampling"])
    return made


def _of_candidates(args: PACZeroConfig, membership: np.ndarray | None, secret: Path) -> Mechanism:
    chosen = args.mechanism
    members = _needed("candidates", membership, chosen.name)
    shared: dict[str, Any] = {
        "clip": _needed("mechanism.clip", chosen.clip, chosen.name),
        "coins": coins(args.test_seed),
        "directions": args.directions,
    }
    if chosen.name == "mi":
        return MI(
            members,
            **shared,
            budget=chosen.budget if chosen.budget is not None else 0.0,
            steps=args.steps,
            channel=chosen.channel,
            allocation=chosen.allocation,
            secret=secret,
        )
    if chosen.name == "half-sign":
        return HalfSign(members, **shared, secret=secret)
    return {"zpl": ZPL, "skip": Skip}[chosen.name](members, **shared)


def _needed(name: str, value: Any, mechanism: str) -> Any:
    if value is None:
        raise PACZeroError(f"{name}: none was given; {mechanism!r} needs it")
    return value
