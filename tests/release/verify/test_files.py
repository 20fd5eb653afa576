"""A release holds known plain files and nothing else, and nothing in a downloaded folder is run."""

import contextlib
import io
import json
import os
import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from paczero.cli.main import main
from paczero.inference.loading import load_target
from paczero.release import plots
from paczero.release.statement import Development
from paczero.release.verify.files import picture_size
from paczero.release.verify.release import verify_release

from ...released_runs import WEIGHTS, refused, reseal
from ...written_runs import make_header

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


def command_refused(*given: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as output:
        code = main([str(argument) for argument in given])
    lines = [line for line in output.getvalue().splitlines() if line.startswith("paczero: error: ")]
    assert code in (1, 2) and len(lines) == 1 and "Traceback" not in output.getvalue(), output.getvalue()
    return lines[0]


COMMANDS = (
    ("verify", "{folder}"),
    ("replay", "{folder}", "--verify", "--model", "{model}"),
    ("predict", "{folder}", "--input", "{pool}", "--output", "{out}", "--model", "{model}"),
    ("eval", "{folder}", "--data", "{pool}", "--model", "{model}"),
)


def commands(**paths: Path) -> list[list[str]]:
    return [[argument.format(**paths) for argument in command] for command in COMMANDS]


@pytest.mark.parametrize("beside", [True, False])
def test_a_pickled_adapter(release, tmp_path, tiny_model_dir, tiny_pool_csv, beside: bool) -> None:
    """Instead of the safetensors file, or beside it."""
    folder: Path = release("zpl")
    (folder / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    if not beside:
        (folder / "adapter" / "adapter_model.safetensors").unlink()
    for given in commands(folder=folder, model=tiny_model_dir, pool=tiny_pool_csv, out=tmp_path / "out.csv"):
        assert command_refused(*given)


def test_a_pickled_model(release: Callable[..., Path], tmp_path: Path, tiny_pool_csv: Path) -> None:
    folder = release("full")
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert command_refused("predict", folder, "--input", tiny_pool_csv, "--output", tmp_path / "out.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on the pickle's protocol
        train = ["train", "--model", folder / "model", "--data.train", tiny_pool_csv, "--output_dir", tmp_path / "run"]
        assert "are a pickle that holds more than tensors" in command_refused(*train)
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
    assert "mine.py" in command_refused("verify", folder)
    assert command_refused("predict", folder, "--input", tiny_pool_csv, "--output", tmp_path / "out.csv")
    (folder / "model" / "mine.py").unlink()
    assert command_refused("verify", folder)


def test_what_is_loaded_is_what_the_test_means() -> None:
    """The trap works where pickles are opened, so that silence above says something."""
    pickle.loads(pickle.dumps(Trap()))
    assert os.environ.pop(MARK) == "pickle"
    assert callable(load_target)


ADDED = (
    *("notes.txt", ".hidden", "private/secret.json", "adapter/adapter_model.bin", "adapter/.cache", "a\nb"),
    *("figures/more.png", "model/pytorch_model.bin", "adapter/modeling.py", "journal.jsonl", "figures/deep/er.png"),
)


@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_that_has_no_place_there(release: Callable[..., Path], name: str, sealed: bool) -> None:
    folder = release()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if sealed:
        reseal(folder)
    assert any(reason in refused(folder) for reason in ("move it away", "no release", "folder", "name"))


def test_links_lead_nowhere(release: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("task.json", WEIGHTS, "adapter", "figures"):
        folder = release()
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        assert "is a link" in refused(folder)
        (tmp_path / "elsewhere").rename(tmp_path / f"was-{name.replace('/', '-')}")


def test_a_release_within_a_release(release: Callable[..., Path]) -> None:
    """PEFT loads from the folder that is named, so no other folder may pass the checks in its stead."""
    folder = release()
    shutil.copytree(folder, folder / "release")
    assert "release: is a folder that no release has" in refused(folder)


def test_a_picture_of_any_size(release: Callable[..., Path]) -> None:
    """A small file can unpack to billions of pixels. Other pixels, as another matplotlib draws them, are no fault."""

    folder = release()
    path = folder / "figures" / "released.png"

    def draw(width: int, height: int) -> bytes:
        parts = ((b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"),
                 (b"IDAT", zlib.compress(b"\0" * (width + 1) * min(height, 999))), (b"IEND", b""))  # fmt: skip
        chunks = (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
                  for kind, data in parts)  # fmt: skip
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    values = 6
    size = picture_size("figures/released.png", values)
    path.write_bytes(draw(*size))
    reseal(folder)
    verify_release(folder)
    for other in ((60_000, 9), (9, 60_000), (0, 9), (9, 9), (size[0], 9), size[::-1]):
        path.write_bytes(draw(*other))
        reseal(folder)
        assert "pixels" in refused(folder)
    whole = draw(*size)
    for packed in (b"", b"no", zlib.compress(b"\0" * 9), zlib.compress(b"\7" * (size[0] + 1) * size[1]),
                   zlib.compress(b"\0" * 2**27)):  # fmt: skip
        content = b"IDAT" + packed
        chunk = len(packed).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
        path.write_bytes(whole[:33] + chunk + whole[-12:])
        reseal(folder)
        assert "cannot be read" in refused(folder)


@pytest.mark.parametrize("directions", [1, 3])
@pytest.mark.usefixtures("drawn_figures")
@pytest.mark.parametrize("steps", [1, 24, 100, 5000])
def test_the_sizes_are_those_that_are_drawn(steps: int, directions: int) -> None:
    header = make_header("mi", steps=steps, directions=directions)
    for name, data in plots.public(header, [(1,) * directions] * steps, Development((0, 1), (0.5, 0.6)), 1).items():
        size = tuple(int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
        assert size == picture_size(f"figures/{name}", steps * directions)


def test_a_picture_carries_nothing_else(release: Callable[..., Path]) -> None:
    folder = release()
    path = folder / "figures" / "released.png"
    whole = path.read_bytes()
    chunk = (5).to_bytes(4, "big") + b"tEXt" + b"hello" + b"\0\0\0\0"
    for data in (whole[:33] + chunk + whole[33:], whole + b"more", b"no picture"):
        path.write_bytes(data)
        reseal(folder)
        assert "released.png" in refused(folder)


def test_what_the_hub_adds(release: Callable[..., Path]) -> None:
    folder = release()
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    assert ".gitattributes and .cache of the Hub" in dict(verify_release(folder).lines)["folder"]
    (folder / ".gitattributes").unlink()
    (folder / ".gitattributes").symlink_to("/etc/passwd")
    assert "is no part of a release" in refused(folder)


def test_what_the_hub_writes_is_let_through(release: Callable[..., Path]) -> None:
    folder = release()
    cache = folder / ".cache" / "huggingface"
    (cache / "download").mkdir(parents=True)
    (cache / ".gitignore").write_text("*")
    (cache / "download" / "README.md.lock").touch()
    (cache / "download" / "README.md.metadata").write_text(f"{'0a' * 20}\n{'1b' * 20}\n1764234567.12\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    assert verify_release(folder).card_unchecked is None


@pytest.mark.parametrize(
    "name",
    [".cache/secret.json", ".cache/huggingface/x.py", ".gitattributes", ".cache/huggingface/download/a.metadata"],
)
def test_nothing_of_a_run_hides_in_the_hub_s_files(release: Callable[..., Path], name: str) -> None:
    folder = release()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"index": 7, "subsets": 8}\n')
    assert "remove it" in refused(folder)
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert "remove it" in refused(folder)
