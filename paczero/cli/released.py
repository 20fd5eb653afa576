"""The released weights of a run, as a user of the release loads them: by PEFT or transformers, not by our replay.

>>> run, settings = finished_run("runs/first")                     # doctest: +SKIP
>>> model, tokenizer = released_model(run, settings)               # doctest: +SKIP
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paczero.cli.settings import RunSettings, load_settings
from paczero.errors import PACZeroError
from paczero.rundir import RunDirectory

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def finished_run(given: str) -> tuple[RunDirectory, RunSettings]:
    """A finished run and its settings.

    Raises:
        PACZeroError: there is no run, or it is not finished.
    """
    run = RunDirectory(Path(given))
    if not run.config.is_file():
        raise PACZeroError(
            f"{given!r} holds no run; expected a directory that `paczero train` made, with config.yaml in it"
        )
    if not run.finished:
        raise PACZeroError(f"{given!r} is not finished; go on with `paczero train --resume {given}`")
    return run, load_settings(run.config)


def released_model(
    run: RunDirectory, settings: RunSettings, *, base: bool = False
) -> tuple["nn.Module", "PreTrainedTokenizerBase"]:
    """The released model in evaluation mode with its tokenizer; with `base` the untuned one.

    Raises:
        PACZeroError: the base model or what was released cannot be loaded.
    """
    from paczero.zeroth.models import load
    from paczero.zeroth.offload import is_placed, load_adapter

    args = settings.args
    loaded = partial(load, dtype=args.dtype, device=args.device, engine=args.engine)
    if not base and (run.release / "model").is_dir():
        return loaded(str(run.release / "model"))
    model, tokenizer = loaded(settings.model)
    if base:
        return model, tokenizer
    from peft import PeftModel

    adapter = run.release / "adapter"
    try:
        wrapped = load_adapter(model, adapter) if is_placed(model) else PeftModel.from_pretrained(model, str(adapter))
        return wrapped.eval(), tokenizer
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PACZeroError(f"release: the adapter in {str(adapter)!r} cannot be loaded: {reason}") from error
