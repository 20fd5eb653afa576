"""A target's weights, as a user of a release loads them: by PEFT or transformers, not by our replay; and its scores.

>>> model, tokenizer = load_target(find_target(namespace))                          # doctest: +SKIP
>>> records = prepare(pool, target.args.task, tokenizer, context=context_length(plain(model)))       # doctest: +SKIP
>>> scores_of(model, records, target.args, progress=print).shape                    # doctest: +SKIP
(872, 2)
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paczero.cli.target import Target
from paczero.config import PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from paczero.data.encoding import EncodedDataset

_UNSAFE = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".so"})
_AT_ONCE = 512  # records between two lines of progress


def load_target(target: Target, *, base: bool = False) -> tuple["nn.Module", "PreTrainedTokenizerBase"]:
    """The model in evaluation mode with its tokenizer; with `base` the untuned one.

    Raises:
        PACZeroError: the base model or the adapter cannot be loaded, or they do not fit each other.
        IntegrityError: the base model is another than the one that the release was trained on.
    """
    from paczero.models.loading import load

    _refuse_pickles(target)
    loaded = partial(load, dtype=target.args.dtype, device=target.args.device, engine=target.args.engine)
    if target.model is not None and not base:
        return loaded(target.model)
    if target.base is None:
        what = "the adapter names no base model" if target.adapter else "it is a full model, whose base nobody names"
        raise PACZeroError(f"--model: none was given, and of {target.name!r} {what}; add --model DIR_OR_ID")
    try:
        model, tokenizer = loaded(target.base)
    except PACZeroError as error:
        if Path(target.base).exists() or not str(error).startswith("model: "):
            raise
        raise PACZeroError(
            f"model: {target.name!r} names the base {target.base!r}, which is neither here nor on the hub; "
            "add --model with the directory where it lies"
        ) from error
    _check_base(target, model)
    return (model if base or target.adapter is None else _adapted(model, target.adapter, target.base)), tokenizer


def _refuse_pickles(target: Target) -> None:
    """A release and an adapter may be a stranger's: their weights are safetensors, and nothing in them is code.

    A model that is named by itself is the user's own choice; torch opens its weights without running what is in them.
    """
    folders = [target.adapter] if target.adapter is not None else []
    if target.header is not None and target.model is not None:
        folders.append(Path(target.model))
    for folder in folders:
        odd = sorted(path.name for path in folder.iterdir() if path.suffix in _UNSAFE) if folder.is_dir() else []
        if odd:
            raise IntegrityError(
                f"{folder / odd[0]}: is a pickle or code, which could run when it is loaded; expected safetensors alone"
            )


def scores_of(
    model: "nn.Module", records: "EncodedDataset", args: PACZeroConfig, *, progress: Callable[[int, int], None]
) -> "np.ndarray":
    """Mean token log-probability of every label word, up to a constant a record, float64 (R, C).

    Args:
        model: in evaluation mode.
        records: encoded for it.
        args: engine and micro-batches.
        progress: called with (records scored, records) now and then, where there are many.

    Raises:
        PACZeroError: the architecture does something that the fast paths do not reproduce, or it overflows.
    """
    import numpy as np

    from paczero.training.factory import make_scorer

    parts, count = [], len(records.dataset)
    for begin in range(0, count, _AT_ONCE):
        if begin:
            progress(begin, count)
        part = _part(records, slice(begin, begin + _AT_ONCE))
        scorer = make_scorer(model, part, args, first_layer=0, cache=None)
        if begin == 0:
            scorer.check()
        parts.append(scorer.scores())
    return np.concatenate(parts)


def _part(records: "EncodedDataset", which: slice) -> "EncodedDataset":
    return replace(records, encoded=records.encoded.part(which))


def _check_base(target: Target, model: "PreTrainedModel") -> None:
    """Refuses another base model than the release's, where the release says which and the type is the same."""
    if target.header is None or target.header["base"]["dtype"] != target.args.dtype:
        return
    from paczero.models.loading import base_fingerprint

    stated, found = target.header["base"]["sha256"], base_fingerprint(model)
    if found != stated:
        raise IntegrityError(
            f"base model: the weights of {target.base!r} have the hash {found[:12]}…, but {target.name!r} was trained "
            f"on {stated[:12]}…; give the model that it names ({target.header['base']['id']})"
        )


def _adapted(model: "PreTrainedModel", adapter: Path, base: str) -> "nn.Module":
    """The base model with its adapter; every weight of the adapter must have found its place."""
    from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
    from safetensors import SafetensorError

    from paczero.models.offload import is_placed, load_adapter

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # refused below
            alone = not is_placed(model)
            wrapped = PeftModel.from_pretrained(model, str(adapter)) if alone else load_adapter(model, adapter)
        there = load_peft_weights(str(adapter), device="cpu").keys()
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PACZeroError(
            f"the adapter in {str(adapter)!r} cannot be loaded on the base {base!r}; expected the base that it was "
            f"trained on: {reason}"
        ) from error
    here = get_peft_model_state_dict(wrapped, save_embedding_layers=False).keys()
    astray = sorted({name for name in there - here if "lora_" in name} | (here - there))
    if astray:
        raise PACZeroError(
            f"the adapter in {str(adapter)!r} belongs to another base than {base!r}: {len(astray)} of its weights, "
            f"such as {astray[0]!r}, have no place there; add --model with the base that it was trained on"
        )
    return wrapped.eval()
