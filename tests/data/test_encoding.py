"""How many tokens a model can read."""

from pathlib import Path

from transformers import AutoModelForCausalLM, BloomConfig

from paczero.data.encoding import context_length


def test_context_length(tiny_model_dir: Path) -> None:
    assert context_length(AutoModelForCausalLM.from_pretrained(tiny_model_dir)) == 128
    bloom = AutoModelForCausalLM.from_config(BloomConfig(hidden_size=8, n_layer=1, n_head=1, vocab_size=9))
    assert context_length(bloom) > 10**9, "its positions have no end"
