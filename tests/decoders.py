"""Tiny random decoders of five families, wide enough apart that a wrong shortcut cannot hide."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 60
SHARED = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}
WIDE = {"initializer_range": 0.4, "intermediate_size": 32, "num_key_value_heads": 2}
DECODERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SHARED, **SIZES, **WIDE),
    "opt": lambda: OPTConfig(
        **(SHARED | {"pad_token_id": 1}), **SIZES, ffn_dim=32, init_std=0.4, word_embed_proj_dim=16
    ),
    "gpt2": lambda: GPT2Config(**SHARED, n_embd=16, n_layer=3, n_head=4, n_positions=64, initializer_range=0.4),
    "qwen2": lambda: Qwen2Config(**SHARED, **SIZES, **WIDE),
    "qwen3": lambda: Qwen3Config(**SHARED, **SIZES, **WIDE, head_dim=8),
}


def make_decoder(kind: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model in evaluation mode whose every parameter, biases and norms too, has something to say."""
    config = DECODERS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def stir(parameters: dict[str, nn.Parameter], seed: int = 1, size: float = 0.3) -> None:
    """Adds noise, so that an adapter's B is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
