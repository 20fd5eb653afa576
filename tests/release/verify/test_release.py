"""A change is found, in one line, unless all files are changed consistently: then it is another release."""

import contextlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.release import plots, statement
from paczero.release.verify.release import check_served, verify_release
from paczero.release.verify.weights import replay_adapter
from paczero.utils.io import canonical

from ...released_runs import RUNS, changed, edit_lines, get, leaves, put, refused, rehash, reseal

WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.mark.parametrize("name", list(RUNS))
def test_what_a_run_released_passes(release: Callable[..., Path], name: str) -> None:
    checked = verify_release(release(name))
    assert checked.signed is None
    assert checked.replayed == (name != "full")
    assert dict(checked.lines)["transcript"].startswith("6 of 6 steps")


def test_any_byte_of_any_file(release: Callable[..., Path]) -> None:
    folder, rng = release(), random.Random(1)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        broken = [b"", whole[: len(whole) // 2], whole[:-1], whole + b"\n"]
        for index in {0, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(4))}:
            flipped = whole[index] ^ (1 << rng.randrange(8))
            broken.append(whole[:index] + bytes([flipped]) + whole[index + 1 :])
        for data in broken:
            path.write_bytes(data)
            refused(folder)
        path.unlink()
        refused(folder)
        path.mkdir()
        refused(folder)
        path.rmdir()
        path.write_bytes(whole)
    verify_release(folder)


def step_changes(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Each thing that can be done to one step, for every step."""
    for t in range(1, len(lines)):
        entry = json.loads(lines[t])
        for k, value in enumerate(entry["y"]):
            other = value + 0.5 if isinstance(value, float) else -value
            y = [*entry["y"][:k], other, *entry["y"][k + 1 :]]
            yield f"step {t - 1} value {k}", [*lines[:t], canonical(entry | {"y": y}), *lines[t + 1 :]]
        yield f"step {t - 1} removed", [*lines[:t], *lines[t + 1 :]]
        yield f"step {t - 1} twice", [*lines[: t + 1], *lines[t:]]
        if t + 1 < len(lines):
            yield f"steps {t - 1} and {t} swapped", [*lines[:t], lines[t + 1], lines[t], *lines[t + 2 :]]
            renumbered = [canonical(json.loads(lines[t + i]) | {"t": t - 1 + 1 - i}) for i in (1, 0)]
            if renumbered != lines[t : t + 2]:
                yield f"values of {t - 1} and {t} swapped", [*lines[:t], *renumbered, *lines[t + 2 :]]
    yield "one more", [*lines, canonical(json.loads(lines[-1]) | {"t": len(lines) - 1})]
    yield "one less", lines[:-1]


@pytest.mark.parametrize("name", ["zpl", "mi", "none", "dp-sign"])
@pytest.mark.parametrize("sealed", [False, True])
def test_any_change_of_the_steps(release: Callable[..., Path], name: str, sealed: bool) -> None:
    """After a new seal the card still has another chain, and the weights do not follow from the values."""
    folder = release(name)
    path = folder / "transcript.jsonl"
    whole, seal = path.read_bytes(), (folder / statement.NAME).read_bytes()
    for what, lines in step_changes(whole.split(b"\n")[:-1]):
        edit_lines(folder, lambda _, new=lines: new)
        if sealed:
            with contextlib.suppress(PACZeroError):  # no transcript any more, so nothing to seal
                reseal(folder)
        assert refused(folder), what
        path.write_bytes(whole), (folder / statement.NAME).write_bytes(seal)
    verify_release(folder)


def test_a_step_after_the_served_one(release: Callable[..., Path]) -> None:
    """Every hash of a file is made again; the chain in the statement binds the step, whatever the figures show."""
    folder = release("zpl")
    rehash(folder)
    verify_release(folder)
    edit_lines(folder, lambda lines: [*lines[:-1], canonical({"t": 5, "y": [-json.loads(lines[-1])["y"][0]]})])
    rehash(folder)
    assert "steps_sha256" in refused(folder)
    for name in ("released", "posterior"):
        (folder / "figures" / f"{name}.png").unlink()
    rehash(folder)
    assert "steps_sha256" in refused(folder)


@pytest.mark.parametrize("name", ["zpl", "none"])
def test_any_value_of_the_statement(release: Callable[..., Path], name: str) -> None:
    """Sealed again or not."""
    folder = release(name)
    path = folder / statement.NAME
    whole = path.read_bytes()
    document = json.loads(whole)
    missed = []
    for keys in leaves(document):
        for value, sealed in itertools.product(changed(get(document, keys)), (False, True)):
            new = json.loads(whole)
            put(new, keys, value)
            path.write_bytes(statement.render(statement.seal(new) if sealed else new))
            if sealed and keys == ("sha256",):
                continue  # it was made again
            with contextlib.suppress(IntegrityError):
                assert "NOT checked: wording" in dict(verify_release(folder).lines)["texts"]
                missed.append(keys)
    assert set(missed) <= {("wording",)}, "a newer wording is said to be unknown, and everything else is checked"
    path.write_bytes(whole.replace(b'"steps": 6,', b'"steps": 6,\n  "steps": 6,', 1))
    refused(folder)
    path.write_bytes(whole)
    verify_release(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"[" * 100_000,
        b'"' + b"x" * 1000,
        b"1e999",
    ],
)
@pytest.mark.parametrize("name", ["privacy.json", "transcript.jsonl", "task.json", "adapter/adapter_config.json"])
def test_what_is_no_document(release: Callable[..., Path], name: str, text: bytes) -> None:
    for end in (b"", b"\n"):
        folder = release()
        (folder / name).write_bytes(text + end)
        refused(folder)


def test_a_forgery_that_is_consistent_everywhere_is_not_found(release: Callable[..., Path]) -> None:
    """Bits, weights, card, figures, statement and hashes are made again. Only a signature tells this release apart."""
    folder = release("mi")
    edit_lines(folder, lambda lines: [lines[0], canonical({"t": 0, "y": [1, 1]}), *lines[2:]])
    edit_lines(folder, lambda lines: [*lines[:2], canonical({"t": 1, "y": [-1, -1]}), *lines[3:]])
    transcript = Transcript.read(folder / "transcript.jsonl")
    weights = replay_adapter(transcript, until=6)
    old = json.loads((folder / statement.NAME).read_bytes())["weights_sha256"]
    forged = {f"base_model.model.{name}": tensor.detach().clone() for name, tensor in weights.parameters.items()}
    save_file(forged, folder / WEIGHTS, metadata={"format": "pt"})
    card, chain = folder / "README.md", json.loads((folder / statement.NAME).read_bytes())["steps_sha256"]
    card.write_text(card.read_text().replace(old, weights.fingerprint()).replace(chain, transcript.chain()))
    for name, data in plots.public(transcript.header, transcript.y, None, None).items():
        (folder / "figures" / name).write_bytes(data)
    reseal(folder, weights_sha256=weights.fingerprint())
    assert verify_release(folder).replayed


FORESEEN = (IntegrityError("x: was changed"), PACZeroError("x: cannot be read"))
OF_A_LIBRARY: tuple[Exception, ...] = (
    *(ArithmeticError("a"), ZeroDivisionError("a"), OverflowError("a"), AssertionError("a"), AttributeError("a")),
    *(LookupError("a"), KeyError("a"), IndexError("a"), RecursionError("a"), TypeError("a"), ValueError("a\nb" * 500)),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "a"),
)
OF_THE_MACHINE = (OSError("a"), MemoryError(), KeyboardInterrupt(), RuntimeError("CUDA error"))


@pytest.mark.parametrize("check", [verify_release, check_served])
@pytest.mark.parametrize("error", [*FORESEEN, *OF_A_LIBRARY, *OF_THE_MACHINE], ids=lambda error: type(error).__name__)
def test_an_error_that_no_check_foresees_is_a_refusal_in_a_line(
    release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, check: Callable[[Path], object], error: Exception
) -> None:
    """Whatever a library raises on a file of a stranger, the release does not pass; the machine's errors stay."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("paczero.release.verify.release.check_task", broken)
    with pytest.raises(BaseException) as caught:
        check(release("zpl"))
    if error in OF_A_LIBRARY:
        text = str(caught.value)
        assert type(caught.value) is IntegrityError and caught.value.__cause__ is error
        assert f"cannot be checked, so it does not pass ({type(error).__name__}: " in text
        assert "\n" not in text and len(text) < 500
    else:
        assert caught.value is error
