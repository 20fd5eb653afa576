"""Nothing that lies in a downloaded folder is run: no pickle is opened and no code of its own is imported."""

import contextlib
import io
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from paczero.cli.main import main
from paczero.inference.loading import load_target

MARK = "PACZERO_RAN"
CODE = f"import os\nos.environ[{MARK!r}] = 'code'\n"


class Trap:
    """A pickle that leaves a mark when it is opened."""

    def __reduce__(self):
        return exec, (CODE.replace("code", "pickle"),)


@pytest.fixture(autouse=True)
def unmarked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(MARK, raising=False)
    yield
    assert MARK not in os.environ, "something of the folder was run"
    monkeypatch.delenv(MARK, raising=False)


def refused(*given: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main([str(argument) for argument in given])
    lines = [line for line in said.getvalue().splitlines() if line.startswith("paczero: error: ")]
    assert code in (1, 2) and len(lines) == 1 and "Traceback" not in said.getvalue(), said.getvalue()
    return lines[0]


COMMANDS = (
    ("verify", "{folder}"),
    ("replay", "{folder}", "--verify", "--model", "{model}"),
    ("predict", "{folder}", "--input", "{pool}", "--output", "{out}", "--model", "{model}"),
    ("eval", "{folder}", "--data", "{pool}", "--model", "{model}"),
)


def commands(**places: Path) -> list[list[str]]:
    return [[argument.format(**places) for argument in command] for command in COMMANDS]


@pytest.mark.parametrize("beside", [True, False])
def test_a_pickled_adapter(release, tmp_path, tiny_model_dir, tiny_pool_csv, beside: bool) -> None:
    """Instead of the safetensors file, or beside it."""
    folder: Path = release("zpl")
    (folder / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    if not beside:
        (folder / "adapter" / "adapter_model.safetensors").unlink()
    for given in commands(folder=folder, model=tiny_model_dir, pool=tiny_pool_csv, out=tmp_path / "out.csv"):
        assert refused(*given)


def test_a_pickled_model(release: Callable[..., Path], tmp_path: Path, tiny_pool_csv: Path) -> None:
    folder = release("full")
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert refused("predict", folder, "--input", tiny_pool_csv, "--output", tmp_path / "out.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on the pickle's protocol
        train = ["train", "--model", folder / "model", "--data.train", tiny_pool_csv, "--output_dir", tmp_path / "run"]
        assert "are a pickle that holds more than tensors" in refused(*train)
    assert not (tmp_path / "run").exists() and not (tmp_path / "out.csv").exists()


def test_a_model_with_code_of_its_own(release: Callable[..., Path], tmp_path: Path, tiny_pool_csv: Path) -> None:
    folder = release("full")
    config = folder / "model" / "config.json"
    content = json.loads(config.read_text()) | {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"},
    }
    config.write_text(json.dumps(content))
    (folder / "model" / "mine.py").write_text(CODE)
    assert "mine.py" in refused("verify", folder)
    assert refused("predict", folder, "--input", tiny_pool_csv, "--output", tmp_path / "out.csv")
    (folder / "model" / "mine.py").unlink()
    assert refused("verify", folder)


def test_what_is_loaded_is_what_the_test_means() -> None:
    """The trap works where pickles are opened, so that silence above says something."""
    pickle.loads(pickle.dumps(Trap()))
    assert os.environ.pop(MARK) == "pickle"
    assert callable(load_target)
