"""The candidate subsets of a run: measured, drawn, kept.

Pilot derivatives: what every unit says of some public directions at the base model, for the `balanced` family.

Each direction costs as much as a step, and nothing in it depends on the mechanism, so runs that share a `cache_dir`
measure them once.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paczero.config import PACZeroConfig
from paczero.data.encoding import EncodedDataset
from paczero.errors import IntegrityError
from paczero.mechanism.registry import spec_of
from paczero.mechanism.subsets import draw_subsets
from paczero.optim.derivatives import Objective
from paczero.optim.parameters import PerturbedParameters
from paczero.training.factory import make_weights
from paczero.utils.io import canonical, write_whole

BuildProgress = Callable[[str, int, int], None]


def find_candidates(
    path: Path,
    args: PACZeroConfig,
    objective: Objective,
    weights: dict[str, nn.Parameter],
    records: EncodedDataset,
    progress: BuildProgress,
    base: str,
) -> Callable[[], np.ndarray] | None:
    """Gives rank 0 its candidates (N, M), once all ranks have measured for them; None where the mechanism uses none.

    Args:
        path: where a run that goes on finds them, and a new one keeps them.
    """
    if not spec_of(args.mechanism.name).candidates:
        return None
    if objective.scorer.group.broadcast_from_main(path.exists):
        return partial(read_candidates, path)
    draw = measured_candidates(args, objective, weights, records, progress, base)
    return lambda: keep_candidates(path, draw())


def measured_candidates(
    args: PACZeroConfig,
    objective: Objective,
    weights: dict[str, nn.Parameter],
    records: EncodedDataset,
    progress: BuildProgress,
    base: str = "",
) -> Callable[[], np.ndarray]:
    """What draws the candidate subsets (N, M) of the run's family, from public values and the base model.

    Measuring is done here, by all ranks together; drawing when it is called, by one. Features are the hidden states at
    the end of each prompt; `balanced` also measures pilot directions.
    """
    family, units = args.mechanism.family, objective.units
    draw = partial(draw_subsets, units, args.mechanism.subsets, seed=args.seed, family=family)
    if family == "random":
        return draw
    owners = records.dataset.unit_of_record
    counts = np.bincount(owners, minlength=units)[:, None]
    per_record = objective.scorer.features()
    features = np.zeros((units, per_record.shape[1]))
    np.add.at(features, owners, per_record)
    labels = np.zeros(units, dtype=np.int64)
    labels[owners[::-1]] = records.encoded.targets[::-1]  # a unit's first record speaks for it
    pilots = None
    if family == "balanced":
        pilot = make_weights(weights, args, purpose="pilot")
        pilots = pilot_derivatives(args, objective, pilot, progress, base=base, pool=records.dataset.hash())
    return partial(draw, features=features / counts, labels=labels, pilots=pilots)


def candidates_hash(membership: np.ndarray) -> str:
    """SHA-256 of the candidates (N, M), as a journal names it."""
    return hashlib.sha256(np.packbits(membership).tobytes()).hexdigest()


def read_candidates(path: Path) -> np.ndarray:
    """The run's candidates (N, M) from `private/`.

    Raises:
        IntegrityError: the file was damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return np.unpackbits(stored["packed"], axis=1, count=int(stored["subsets"])).astype(bool)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"candidates: {str(path)!r} cannot be read; delete it to draw them again") from error


def keep_candidates(path: Path, membership: np.ndarray) -> np.ndarray:
    """Writes the run's candidates to `private/`, from where a resumed run takes them; returns them."""
    stream = io.BytesIO()
    np.savez(stream, packed=np.packbits(membership, axis=1), subsets=membership.shape[1])
    write_whole(path, stream.getvalue(), mode=0o600)
    return membership


Progress = Callable[[str, int, int], None]


def pilot_derivatives(
    args: PACZeroConfig, objective: Objective, pilot: PerturbedParameters, progress: Progress, *, base: str, pool: str
) -> np.ndarray:
    """Derivatives of every unit along the run's pilot directions, clipped as in training: float64 (N, P).

    Args:
        objective: the pool's losses.
        pilot: the trained weights at their start, under the law of pilot directions; they stand there afterwards too.
        progress: called with (what, done, of).
        base, pool: hashes of the base model and of the pool, by which a `cache_dir` knows them.
    """
    group = objective.scorer.group
    place = (
        None
        if args.cache_dir is None
        else Path(args.cache_dir).expanduser() / _name(args, objective, pilot, base, pool)
    )
    wanted = (objective.units, args.mechanism.pilots)
    values = None if place is None else group.broadcast_from_main(partial(_read, place, wanted))
    if values is None:
        values = _measured(args, objective, pilot, progress)
        if place is not None:
            group.on_main(partial(_keep, place, values))
    clip = args.mechanism.number_of_clip
    return values if clip is None else np.clip(values, -clip, clip)


def _name(args: PACZeroConfig, objective: Objective, pilot: PerturbedParameters, base: str, pool: str) -> str:
    """A file's name, made of all that pilot derivatives depend on."""
    key = {
        "base": base,
        "pool": pool,
        "partition": objective.scorer.partition(),
        "start": pilot.fingerprint(),
        "task": asdict(args.task),
        "law": [args.direction_law, args.seed, args.mu, args.restore, args.mechanism.pilots],
        "engine": [args.dtype, asdict(args.engine), torch.get_num_threads(), torch.__version__],
    }
    return f"{hashlib.sha256(canonical(key)).hexdigest()[:32]}.pilots.npz"


def _measured(args: PACZeroConfig, objective: Objective, pilot: PerturbedParameters, progress: Progress) -> np.ndarray:
    start = pilot.snapshot()
    columns = []
    for index in range(args.mechanism.pilots):
        columns.append(objective.derivatives(pilot, index, 1).values[:, 0])
        progress("pilot directions", index + 1, args.mechanism.pilots)
    pilot.load(start)  # `restore: arithmetic` drifts
    return np.stack(columns, axis=1)


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What an earlier run kept; None where there is nothing whole, so that it is measured again."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            values: np.ndarray = stored["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return values if values.shape == shape and values.dtype == np.float64 else None


def _keep(path: Path, values: np.ndarray) -> None:
    stream = io.BytesIO()
    np.savez(stream, values=values)
    write_whole(path, stream.getvalue(), mode=0o600)
