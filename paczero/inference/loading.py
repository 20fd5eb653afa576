"""Loads the weights of a target with PEFT or transformers, as any user of a release does.

    model, tokenizer = load_target(find_target("runs/first/release"))

Adapters and releases may come from strangers: only safetensors are opened, and no code in them runs.
"""

import warnings
from functools import partial
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from paczero.errors import IntegrityError, PACZeroError
from paczero.inference.target import Target
from paczero.models.loading import base_fingerprint, load
from paczero.models.offload import is_placed, load_adapter

_UNSAFE = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".so"})


def load_target(target: Target, *, base: bool = False) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """The model in evaluation mode, and its tokenizer.

    Args:
        target: what to load.
        base: load the untuned base model instead.

    Raises:
        PACZeroError: the base model or the adapter cannot be loaded, or they do not fit each other.
        IntegrityError: the folder holds a pickle or code, or the base model is not the one of the release.
    """
    _refuse_unsafe_files(target)
    load_model = partial(load, dtype=target.args.dtype, device=target.args.device, engine=target.args.engine)
    if target.model is not None and not base:
        return load_model(target.model)
    if target.base is None:
        reason = "the adapter names no base model" if target.adapter else "its base model is not known"
        raise PACZeroError(f"model: none was given, and of {target.name!r} {reason}; give its directory or hub id")
    try:
        model, tokenizer = load_model(target.base)
    except PACZeroError as error:
        if Path(target.base).exists() or not str(error).startswith("model: "):
            raise
        raise PACZeroError(
            f"model: {target.name!r} names the base {target.base!r}, which is neither here nor on the hub; "
            "give the directory where it lies as model"
        ) from error
    _check_base(target, model)
    return (model if base or target.adapter is None else _with_adapter(model, target.adapter, target.base)), tokenizer


def _refuse_unsafe_files(target: Target) -> None:
    """Refuses pickles and code in an adapter or a release.

    A model that the user names alone is the user's choice; torch opens its weights without running code in them.
    """
    folders = [target.adapter] if target.adapter is not None else []
    if target.header is not None and target.model is not None:
        folders.append(Path(target.model))
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        if path.suffix in _UNSAFE:
            raise IntegrityError(f"{path}: is a pickle or code, which could run when loaded; expected safetensors only")


def _check_base(target: Target, model: PreTrainedModel) -> None:
    """Refuses a base model other than the release's; in another dtype the hashes cannot be compared."""
    if target.header is None or target.header["base"]["dtype"] != target.args.dtype:
        return
    stated, found = target.header["base"]["sha256"], base_fingerprint(model)
    if found != stated:
        raise IntegrityError(
            f"base model: the weights of {target.base!r} have the hash {found[:12]}…, but {target.name!r} was trained "
            f"on {stated[:12]}…; give the model that it names ({target.header['base']['id']})"
        )


def _with_adapter(model: PreTrainedModel, adapter: Path, base: str) -> nn.Module:
    """The base model with its adapter; each weight of the file must match a weight of the model."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # refused below
            placed = is_placed(model)
            wrapped = load_adapter(model, adapter) if placed else PeftModel.from_pretrained(model, str(adapter))
        in_file = load_peft_weights(str(adapter), device="cpu").keys()
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PACZeroError(
            f"the adapter in {str(adapter)!r} cannot be loaded on the base {base!r}; expected the base that it was "
            f"trained on: {reason}"
        ) from error
    in_model = get_peft_model_state_dict(wrapped, save_embedding_layers=False).keys()
    unmatched = sorted({name for name in in_file - in_model if "lora_" in name} | (in_model - in_file))
    if unmatched:
        raise PACZeroError(
            f"the adapter in {str(adapter)!r} belongs to another base than {base!r}: {len(unmatched)} of its weights, "
            f"such as {unmatched[0]!r}, do not exist there; give the base that it was trained on as model"
        )
    return wrapped.eval()
