"""Layers are assigned to devices; a model with offloaded layers computes, hashes, trains and is saved like another.

A model whose weights exceed a limit on memory trains under it, to the same bits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from paczero.config import EngineConfig
from paczero.errors import PACZeroError
from paczero.models import offload
from paczero.models.adapters import attach
from paczero.models.layers import find_layers
from paczero.models.loading import DTYPES, base_fingerprint, load

Decoder = Callable[..., PreTrainedModel]
IDS = torch.tensor([[3, 14, 15, 9, 26, 5]])
FAMILIES = ("llama", "opt", "gpt2", "qwen2", "qwen3")


# -- where layers go -------------------------------------------------------------------------------------------------


@given(
    layers=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    outside=st.integers(0, 50),
    rooms=st.lists(st.integers(0, 300), min_size=1, max_size=3),
    waiting=st.sampled_from(["none", "cpu", "disk"]),
    keep=st.sets(st.integers(0, 11), max_size=3),
)
def test_no_device_takes_more_than_it_may(
    layers: list[int], outside: int, rooms: list[int], waiting: str, keep: set[int]
) -> None:
    keep = {index for index in keep if index < len(layers)}
    named: dict[offload.Device, int] = dict(enumerate(rooms))
    try:
        places = offload.assign_layers(layers, outside, named, offload=waiting, keep=keep)
    except PACZeroError as error:
        assert "engine.max_memory" in str(error) and "\n" not in str(error)
        assert sum(layers) + outside > rooms[0]
        return
    waits = [index for index, place in enumerate(places) if place == waiting]
    taken = {place: sum(size for size, at in zip(layers, places, strict=True) if at == place) for place in named}
    taken[0] += outside + max((layers[index] for index in waits), default=0)
    assert all(taken[place] <= room for place, room in named.items())
    assert not keep & set(waits)
    assert waiting != "none" or not waits


def test_the_last_layers_stay_and_the_first_wait() -> None:
    assert offload.assign_layers([10] * 5, 5, {0: 35}, offload="cpu") == ["cpu", "cpu", "cpu", 0, 0]
    assert offload.assign_layers([10] * 5, 5, {0: 35}, offload="cpu", keep={0}) == [0, "cpu", "cpu", "cpu", 0]
    assert offload.assign_layers([10] * 5, 5, {0: 35, 1: 20}, offload="none") == [0, 0, 0, 1, 1]
    assert offload.assign_layers([10] * 5, 5, {0: 55, 1: 20}, offload="none") == [0] * 5


# -- a model whose layers wait ---------------------------------------------------------------------------------------


@pytest.fixture
def saved(decoder: Decoder, tiny_model_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """`saved(kind, dtype)`: a directory with a random decoder and some tokenizer."""

    def save(kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
        place = tmp_path / f"{kind}-{dtype}"
        decoder(kind).to(dtype).save_pretrained(place, **options)  # type: ignore[arg-type]
        AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(place)
        return place

    return save


def engine_for(place: Path, layers: float, dtype: str = "float32", **more: Any) -> EngineConfig:
    """Room for what lies outside the layers and for so many of the three layers, the passing one included."""
    model = AutoModelForCausalLM.from_pretrained(place, dtype=DTYPES[dtype])
    found = find_layers(model)
    one = sum(p.numel() * p.element_size() for p in found.layers[0].parameters())
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    return EngineConfig(offload="disk", max_memory=int(whole - (3 - layers) * one), **more)


def both(place: Path, layers: float, dtype: str = "float32", keep: tuple[int, ...] = ()) -> Iterator[PreTrainedModel]:
    """The model in memory, and the model with room for so many layers."""
    for engine in (None, engine_for(place, layers, dtype)):
        yield load(str(place), dtype=dtype, device="cpu", engine=engine, keep=keep)[0]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_same_output_and_hash(saved: Callable[..., Path], kind: str, dtype: str) -> None:
    here, waits = both(saved(kind, torch.bfloat16), 2, dtype)  # each is converted on loading
    assert not offload.is_placed(here) and offload.is_offloaded(waits)
    assert [offload.is_offloaded(layer) for layer in find_layers(waits).layers] == [True, True, False]
    assert base_fingerprint(here) == base_fingerprint(waits)
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(here(input_ids=IDS).logits, waits(input_ids=IDS).logits)
    assert all(p.is_meta for p in find_layers(waits).layers[0].parameters())  # gone again
    assert offload.resident_bytes(waits) < offload.resident_bytes(here)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_adapter_is_here_and_starts_the_same(saved: Callable[..., Path], kind: str) -> None:
    targets = ["q_proj", "down_proj"] if kind == "llama" else ["c_attn", "c_proj"]
    results = []
    for model in both(saved(kind, torch.float16), 1.5, "bfloat16"):
        wrapped, trained = attach(
            model, peft_config=LoraConfig(r=2, target_modules=targets, fan_in_fan_out=kind == "gpt2"), seed=5
        )
        assert {(p.device.type, p.dtype) for p in trained.values()} == {("cpu", torch.float32)}
        with torch.inference_mode():
            for parameter in trained.values():
                parameter.add_(0.1)
            results.append((sorted(trained), wrapped(input_ids=IDS).logits))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_chosen_layers_stay(saved: Callable[..., Path]) -> None:
    place = saved("llama")
    model, _ = load(str(place), dtype="float32", device="cpu", engine=engine_for(place, 2), keep=[-3])
    _, trained = attach(model, train_layers=[-3])
    waits = [offload.is_offloaded(layer) for layer in find_layers(model).layers]
    assert waits == [False, True, True]
    assert not any(parameter.is_meta for parameter in trained.values())
    with pytest.raises(PACZeroError, match="into which what trains must fit"):
        load(str(place), dtype="float32", device="cpu", engine=engine_for(place, 2), keep=[0, 1, 2])


def test_all_weights_may_train_from_mapped_files(saved: Callable[..., Path]) -> None:
    here, waits = both(saved("llama", torch.float16), 1)
    with torch.inference_mode():
        for model in (here, waits):
            _, trained = attach(model)
            for parameter in trained.values():
                parameter.mul_(1.5)
        assert torch.equal(here(input_ids=IDS).logits, waits(input_ids=IDS).logits)
    assert not offload.is_placed(waits)
    mapped = find_layers(waits).layers[0].get_parameter("mlp.up_proj.weight")
    assert mapped.is_contiguous() and mapped.untyped_storage().is_shared()


def test_weights_that_train_cannot_wait_for_a_gpu(saved: Callable[..., Path]) -> None:
    _, waits = both(saved("llama"), 1)
    for module in waits.modules():
        for hook in offload._hooks(module):
            hook.execution_device = "cuda:0"
    with pytest.raises(PACZeroError, match=r"weights of .* train, but wait elsewhere"):
        attach(waits)


def test_weights_of_no_safetensors_file(saved: Callable[..., Path]) -> None:
    place = saved("llama")
    here = AutoModelForCausalLM.from_pretrained(place)
    engine = engine_for(place, 1)
    (place / "model.safetensors").unlink()
    torch.save(here.state_dict(), place / "pytorch_model.bin")
    waits, _ = load(str(place), dtype="float32", device="cpu", engine=engine)
    assert offload.is_offloaded(waits)
    assert base_fingerprint(waits) == base_fingerprint(here)


def test_nothing_waits_where_all_fits(saved: Callable[..., Path]) -> None:
    for engine in (EngineConfig(offload="disk"), EngineConfig(devices="all")):
        model, _ = load(str(saved("llama")), dtype="float32", device="cpu", engine=engine)
        assert not offload.is_placed(model)


def test_refusals(saved: Callable[..., Path]) -> None:
    place = str(saved("llama"))
    for engine, said in (
        (EngineConfig(offload="disk", max_memory=1000), "engine.max_memory: 1e-06 GB on cpu for"),
        (EngineConfig(devices="all", max_memory=1000), "let frozen layers wait"),
        (EngineConfig(offload="cpu"), "computes on the CPU already"),
    ):
        with pytest.raises(PACZeroError, match=said):
            load(place, dtype="float32", device="cpu", engine=engine)
    given_model = AutoModelForCausalLM.from_pretrained(place)
    with pytest.raises(PACZeroError, match="expected a directory or hub id"):
        load(given_model, dtype="float32", device="cpu", engine=EngineConfig(offload="disk"))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), OSError("Cannot allocate memory")]
)
def test_what_no_memory_looks_like(
    error: Exception, saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = saved("llama")

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(PACZeroError, match=r"does not fit into memory as float32; .*--engine.offload disk"):
        load(str(place), dtype="float32", device="cpu")


# -- whole runs ------------------------------------------------------------------------------------------------------


def released(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "release").rglob("*")) if p.is_file()}


@pytest.mark.parametrize("peft", ["q_proj", None])
def test_a_run_releases_the_same_bytes(
    peft: str | None, make_trainer: Callable[..., Any], tiny_model_dir: Path, tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {"train_layers": [1]} if peft is None else {}
    for name, engine in (
        ("here", EngineConfig(merge=False)),
        ("waits", engine_for(tiny_model_dir, 2, merge=False)),
    ):
        trainer = make_trainer(
            tmp_path / name, peft=peft and {"r": 2, "target_modules": [peft]}, engine=engine, max_steps=3, **chosen
        )
        assert offload.is_offloaded(trainer.model) == (name == "waits")
        trainer.train()
    assert released(tmp_path / "here") == released(tmp_path / "waits")
    journals = [(tmp_path / name / "private" / "journal.jsonl").read_bytes() for name in ("here", "waits")]
    assert journals[0] == journals[1]


def test_a_released_adapter_over_waiting_layers(
    make_trainer: Callable[..., Any], tiny_model_dir: Path, tmp_path: Path
) -> None:
    make_trainer(tmp_path / "run", peft={"r": 2, "target_modules": ["q_proj", "up_proj"]}, max_steps=2).train()
    here, waits = both(tiny_model_dir, 1.5)
    adapter = tmp_path / "run" / "release" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 2
    with torch.inference_mode():
        usual = PeftModel.from_pretrained(here, str(adapter)).eval()(input_ids=IDS).logits
        assert torch.equal(usual, offload.load_adapter(waits, adapter)(input_ids=IDS).logits)


# -- a model whose weights exceed a limit on memory ------------------------------------------------------------------

MB = 2**20
LAYERS = 12
LIMIT = 190 * MB  # beyond what a process has after all imports
LARGE_LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


def save_large_model(path: Path, tiny: Path) -> int:
    """A Llama of many layers, in float16 and in pieces as large models are, with the tiny one's tokenizer.

    Returns:
        Bytes of its weights in float32.
    """
    config = LlamaConfig.from_pretrained(tiny)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 768, 2048, LAYERS
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 8, 4, 96
    config.initializer_range = 0.05
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    model.half().save_pretrained(path, max_shard_size="32MB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((tiny / name).read_bytes())
    return size


def order(model: Path, out: Path, **changes: Any) -> dict[str, Any]:
    rows = [
        {"text": f"a {word} {n}", "label": label} for n in range(16) for word, label in (("dud", "0"), ("gem", "1"))
    ]
    args = {"output_dir": str(out), "max_steps": 2, "learning_rate": 0.01, "test_seed": 7, "restore": "arithmetic"}
    made = {"args": args, "model": str(model), "rows": rows, "peft": LARGE_LORA, "limit": None}
    return made | {"engine": {"merge": False}} | changes


def results(orders: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    (folder / "orders.json").write_text(json.dumps(orders))
    command = [sys.executable, str(Path(__file__).parents[1] / "limited.py"), str(folder / "orders.json")]
    # The C library gives memory of more than 32 MiB back at once, and keeps less for later; weights of a model that is
    # really large are of the first kind, these are made so.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**21)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(orders), done.stderr[-3000:]
    return lines


def files_of(run: Path) -> dict[str, bytes]:
    """What was released and measured; the statement is left out, since it has a hash of each of these."""
    release = {p.name: p.read_bytes() for p in (run / "release" / "adapter").iterdir()}
    return release | {
        "transcript": (run / "release" / "transcript.jsonl").read_bytes(),
        "journal": (run / "private" / "journal.jsonl").read_bytes(),
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and counts memory as Linux does")
def test_weights_beyond_the_limit_train_to_the_same_bits(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "large"
    weights = save_large_model(model, tiny_model_dir)
    assert weights > 1.5 * LIMIT
    streamed = {"merge": False, "offload": "disk", "max_memory": 50 * MB}
    whole, fails, fits = results(
        [
            order(model, tmp_path / "whole"),
            order(model, tmp_path / "fails", limit=LIMIT),
            order(model, tmp_path / "fits", limit=LIMIT, engine=streamed),
        ],
        tmp_path,
    )
    assert "does not fit into memory" in fails["error"] and "--engine.offload disk" in fails["error"]
    assert "error" not in fits, fits
    assert fits["sha256"] == whole["sha256"]
    assert files_of(tmp_path / "fits") == files_of(tmp_path / "whole")
