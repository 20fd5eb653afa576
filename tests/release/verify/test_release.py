"""Every change that is not repeated everywhere is found, in one line; one that is makes another release."""

import contextlib
import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.models.layers import plain_name
from paczero.optim.parameters import fingerprint_tensors
from paczero.release import plots, statement
from paczero.release.verify.release import verify_release
from paczero.release.verify.weights import ReleasedTensors, replay_adapter, weights_folder
from paczero.utils.io import canonical

from ...released_runs import RUNS, edit_header, edit_lines, reseal

WEIGHTS = "adapter/adapter_model.safetensors"


def refused(folder: Path) -> str:
    """The one line in which a release is refused."""
    with pytest.raises(IntegrityError) as caught:
        verify_release(folder)
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 700
    return text


@pytest.mark.parametrize("name", list(RUNS))
def test_what_a_run_released_passes(release: Callable[..., Path], name: str) -> None:
    checked = verify_release(release(name))
    assert checked.signed is None
    assert checked.replayed == (name != "full")
    assert dict(checked.lines)["transcript"].startswith("6 of 6 steps")


def test_any_byte_of_any_file(release: Callable[..., Path]) -> None:
    folder, chance = release(), random.Random(1)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole = path.read_bytes()
            for place in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(4))}:
                path.write_bytes(
                    whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :]
                )
                refused(folder)
            for cut in (b"", whole[: len(whole) // 2], whole[:-1], whole + b"\n"):
                path.write_bytes(cut)
                refused(folder)
            path.unlink()
            refused(folder)
            path.mkdir()
            refused(folder)
            path.rmdir()
            path.write_bytes(whole)
    verify_release(folder)


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
    assert "move it away" in (line := refused(folder)) or "no release" in line or "folder" in line or "name" in line


def test_links_lead_nowhere(release: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("task.json", WEIGHTS, "adapter", "figures"):
        folder = release()
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        assert "is a link" in refused(folder)
        (tmp_path / "elsewhere").rename(tmp_path / f"was-{name.replace('/', '-')}")


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
    """Sealed again, the weights still tell, which are made of these values. Those after the served step made none."""
    folder = release(name)
    path = folder / "transcript.jsonl"
    whole, seal = path.read_bytes(), (folder / statement.NAME).read_bytes()
    chosen = json.loads(seal)["chosen_step"]
    for what, lines in step_changes(whole.split(b"\n")[:-1]):
        edit_lines(folder, lambda _, new=lines: new)
        if sealed:
            with contextlib.suppress(PACZeroError):  # no transcript any more, so nothing to seal
                reseal(folder)
        if sealed and lines[: chosen + 1] == whole.split(b"\n")[: chosen + 1]:
            with contextlib.suppress(IntegrityError):
                assert "bound by their hash alone" in dict(verify_release(folder).lines)["transcript"]
        else:
            assert refused(folder), what
        path.write_bytes(whole), (folder / statement.NAME).write_bytes(seal)
    verify_release(folder)


def changed(value: Any) -> list[Any]:
    """Other values that one could take for this one, and some that one could not."""
    return [other for other in _changed(value) if json.dumps(other) != json.dumps(value)]


def _changed(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None:
        return [not value, 1, "x"]
    if isinstance(value, int):
        return [value + 1, value - 1, -value or 7, float(value), 10**30, "1"]
    if isinstance(value, float):
        return [value / 2, value + 0.25, -1.0, str(value), 0]
    if isinstance(value, str):
        return [value + "x", "", value.upper() if value.upper() != value else "other", 3]
    if isinstance(value, list):
        return [value[:-1], [*value, *value[-1:]], list(reversed(value)) if len(value) > 1 else [None], {}]
    return [{}, None, [], value | {"more": 1}]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within a document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def get(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


# What no other place in a release speaks of: only the base model's owner, or a signature, can tell.
SPOKEN_OF_ONCE = {("device_kind",)}


@pytest.mark.parametrize("name", ["zpl", "mi", "dp-sign", "full"])
def test_any_value_of_the_header(release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The header changed, all hashes and the statement made again from it: card, settings or weights still differ."""
    folder = release(name)
    whole, seal = (folder / "transcript.jsonl").read_bytes(), (folder / statement.NAME).read_bytes()
    header = json.loads(whole.partition(b"\n")[0])
    missed = []
    for path in leaves(header):
        if path[0] == "parameters" and len(path) > 1 and path[1] > 0:
            continue  # one parameter stands for all
        for value in changed(get(header, path)):
            edit_header(folder, lambda new, path=path, value=value: put(new, path, value))
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError):
                reseal(folder)  # where a statement can be made of it at all
            try:
                verify_release(folder)
                missed.append(path)
            except IntegrityError as error:
                assert "\n" not in str(error)
            (folder / "transcript.jsonl").write_bytes(whole)
            (folder / statement.NAME).write_bytes(seal)
    assert set(missed) <= SPOKEN_OF_ONCE
    for key in header:
        edit_header(folder, lambda new, key=key: new.pop(key))
        refused(folder)
        (folder / "transcript.jsonl").write_bytes(whole)


@pytest.mark.parametrize("name", ["zpl", "none"])
def test_any_value_of_the_statement(release: Callable[..., Path], name: str) -> None:
    """Sealed again or not."""
    folder = release(name)
    path = folder / statement.NAME
    whole = path.read_bytes()
    document = json.loads(whole)
    missed = []
    for place in leaves(document):
        for value, sealed in itertools.product(changed(get(document, place)), (False, True)):
            new = json.loads(whole)
            put(new, place, value)
            path.write_bytes(statement.render(statement.seal(new) if sealed else new))
            if sealed and place == ("sha256",):
                continue  # it was made again
            with contextlib.suppress(IntegrityError):
                assert "NOT checked: wording" in dict(verify_release(folder).lines)["texts"]
                missed.append(place)
    assert set(missed) <= {("wording",)}, "a newer wording is said to be unknown, and everything else is checked"
    path.write_bytes(whole.replace(b'"steps": 6,', b'"steps": 6,\n  "steps": 6,', 1))
    refused(folder)
    path.write_bytes(whole)
    verify_release(folder)


@pytest.mark.parametrize("name", ["zpl", "full"])
def test_any_weight(release: Callable[..., Path], name: str) -> None:
    folder = release(name)
    path = folder / (WEIGHTS if name == "zpl" else "model/model.safetensors")
    names = [row[0] for row in json.loads((folder / "transcript.jsonl").read_bytes().partition(b"\n")[0])["parameters"]]
    tensors, whole = load_file(path), path.read_bytes()
    for key in tensors:
        new = {name: tensor.clone() for name, tensor in tensors.items()}
        flat = new[key].view(-1).view(torch.int32)
        flat[-1] ^= 1  # the last bit of the last weight
        save_file(new, path, metadata={"format": "pt"})
        reseal(folder)
        trained = any(key.endswith(name.removeprefix("model.")) for name in names) or name == "zpl"
        if trained:
            assert "hash" in refused(folder)
            reseal(folder, weights_sha256=fingerprint_of(folder, names))
            assert "weights" in refused(folder)
        path.write_bytes(whole)
        reseal(folder, weights_sha256=fingerprint_of(folder, names))


def fingerprint_of(folder: Path, names: list[str]) -> str:
    released = ReleasedTensors.read(weights_folder(folder)).locations
    return fingerprint_tensors(ReleasedTensors({name: released[plain_name(name)] for name in names}))


@pytest.mark.parametrize("name", ["task.json", "adapter/adapter_config.json"])
def test_any_value_of_the_texts(release: Callable[..., Path], name: str) -> None:
    folder = release("zpl")
    path = folder / name
    whole = path.read_bytes()
    document = json.loads(whole)
    for place in leaves(document):
        for value in changed(get(document, place)):
            new = json.loads(whole)
            put(new, place, value)
            if name == "task.json":
                text = json.dumps(new, indent=2, ensure_ascii=False) + "\n"
            else:
                text = json.dumps(new, indent=2, sort_keys=True) + "\n"
            path.write_text(text)
            refused(folder)
            reseal(folder)
            try:
                verify_release(folder)
                free = place in (("peft_version",), ("task_type",)) or (place, value) == (("fan_in_fan_out",), True)
                assert free, (place, value)
            except IntegrityError as error:
                assert "\n" not in str(error)
    path.write_bytes(whole)


def test_any_line_of_the_card(release: Callable[..., Path]) -> None:
    """A number edited, a line removed or added, and all hashes made again."""
    folder = release("zpl")
    path = folder / "README.md"
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        for new in ([], [line, "More."], [line.replace("0.5", "0.4")] if "0.5" in line else []):
            if new == [] and not line.strip():
                continue
            text = "\n".join([*lines[:number], *new, *lines[number + 1 :]])
            path.write_text(text)
            reseal(folder)
            in_section = "| untuned" in line or "| served (" in line
            if not (in_section and not new):  # what it says of the dev set follows from nothing else
                assert "README.md" in refused(folder)


def test_a_picture_of_any_size(release: Callable[..., Path]) -> None:
    """A small file can unpack to billions of pixels. Other pixels, as another matplotlib draws them, are no fault."""
    import zlib

    folder = release()
    path = folder / "figures" / "released.png"

    def draw(width: int, height: int) -> bytes:
        parts = ((b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"),
                 (b"IDAT", zlib.compress(b"\0" * (width + 1) * min(height, 9))), (b"IEND", b""))  # fmt: skip
        chunks = (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
                  for kind, data in parts)  # fmt: skip
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    for size, fine in (((9, 9), True), ((60_000, 9), False), ((9, 60_000), False), ((0, 9), False)):
        path.write_bytes(draw(*size))
        reseal(folder)
        if fine:
            verify_release(folder)
        else:
            assert "pixels" in refused(folder)


def test_what_the_hub_adds(release: Callable[..., Path]) -> None:
    folder = release()
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    assert ".gitattributes and .cache of the Hub" in dict(verify_release(folder).lines)["folder"]
    (folder / ".gitattributes").unlink()
    (folder / ".gitattributes").symlink_to("/etc/passwd")
    assert "is no part of a release" in refused(folder)


def test_names_under_which_peft_looks_for_tensors(release: Callable[..., Path]) -> None:
    """Other names would pass for the same tensors, and PEFT would serve the untuned model."""
    folder = release()
    tensors = load_file(folder / WEIGHTS)
    for old, new in (("base_model.model.", ""), (".lora_A.", ".lora_A.default.")):
        save_file({name.replace(old, new): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
        reseal(folder)
        assert "is not the name of a released tensor" in refused(folder)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"lora_alpha": None}, "lora_alpha is '8', but the header makes it 16"),
        ({"to_dict": 1}, "is no key that PEFT knows"),
        ({"__class__": "x"}, "is no key that PEFT knows"),
        ({"runtime_config": {}}, "is no key that PEFT knows"),
    ],
)
def test_settings_that_peft_would_fill_in(release: Callable[..., Path], change: dict[str, Any], line: str) -> None:
    folder = release()
    edit_header(folder, lambda header: header["peft"].update(lora_alpha=16))
    path = folder / "adapter" / "adapter_config.json"
    content = json.loads(path.read_text()) | {"lora_alpha": 16} | change
    content = {key: value for key, value in content.items() if value is not None or key != "lora_alpha"}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    reseal(folder)
    assert line in refused(folder)


def test_a_release_within_a_release(release: Callable[..., Path]) -> None:
    """What is checked is what PEFT would load from the folder that was named."""
    folder = release()
    shutil.copytree(folder, folder / "release")
    assert "release: is a folder that no release has" in refused(folder)


def test_code_that_hides_in_a_long_settings_file(release: Callable[..., Path]) -> None:
    folder = release("full")
    path = folder / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({"a": "x" * 2**24, "inner": [{"auto_map": {}}]}))
    reseal(folder)
    assert "auto_map" in refused(folder)


FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.mark.parametrize("name", ["release-zpl-lora", "release-mi-full"])
def test_releases_of_version_1(name: str) -> None:
    """Made by the code before `privacy.json` had a version of its wording."""
    texts = dict(verify_release(FIXTURES / "before-restructure" / name).lines)["texts"]
    assert "the same" in texts and "wording 1" in texts


@pytest.mark.parametrize("figure", ["1.2.3", "--5", "9" * 5000, "٥٠"])
@pytest.mark.parametrize("shown", ["58.3 % |\n| untuned", "12 records"])
def test_a_card_of_version_1_with_another_figure(tmp_path: Path, shown: str, figure: str) -> None:
    folder = Path(shutil.copytree(FIXTURES / "before-restructure" / "release-mi-full", tmp_path / "release"))
    card, document = folder / "README.md", json.loads((folder / statement.NAME).read_bytes())
    text = card.read_text()
    assert text.count(shown) == 1
    card.write_text(text.replace(shown, figure + shown[shown.index(" ") :]))
    document["files"]["README.md"] = statement.file_hash(card)
    (folder / statement.NAME).write_bytes(statement.render(statement.seal(document)))
    assert "README.md" in refused(folder)


def test_a_release_of_version_2_in_wording_1(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "before-restructure" / "release-zpl-lora", tmp_path / "release"))
    shutil.copy(FIXTURES / "privacy-2-in-wording-1.json", folder / statement.NAME)
    assert "wording 1" in dict(verify_release(folder).lines)["texts"]
    card = folder / "README.md"
    card.write_text(card.read_text().replace("Not hidden: who", "Not hidden: nobody"))
    reseal(folder)
    assert "README.md" in refused(folder)


def test_sentences_from_before_wording_1(tmp_path: Path) -> None:
    """Releases of that time have no `task.json`."""
    folder = Path(shutil.copytree(FIXTURES / "before-restructure" / "release-zpl-lora", tmp_path / "release"))
    (folder / "task.json").unlink()
    (folder / "README.md").write_text("Sentences of an older version.")
    document = json.loads((folder / statement.NAME).read_bytes())
    document["files"] = {name: statement.file_hash(folder / name) for name in statement.released_files(folder)}
    (folder / statement.NAME).write_bytes(statement.render(statement.seal(document)))
    texts = dict(verify_release(folder).lines)["texts"]
    assert "NOT checked: the sentences are from before wording 1" in texts


def test_a_newer_wording(release: Callable[..., Path]) -> None:
    """It is said that its sentences are unknown; facts, hashes, bits and weights are checked all the same."""
    folder = release()
    document = json.loads((folder / statement.NAME).read_bytes()) | {"wording": 99}
    (folder / "README.md").write_text("Sentences of a newer version.")
    (folder / statement.NAME).write_bytes(statement.render(statement.seal(document)))
    reseal(folder)
    assert "wording 99 is newer" in dict(verify_release(folder).lines)["texts"]
    reseal(folder, half=document["half"] | {"nats": 0.1})
    assert "half does not agree" in refused(folder)


def test_a_picture_carries_nothing_else(release: Callable[..., Path]) -> None:
    folder = release()
    path = folder / "figures" / "released.png"
    whole = path.read_bytes()
    chunk = (5).to_bytes(4, "big") + b"tEXt" + b"hello" + b"\0\0\0\0"
    for data in (whole[:33] + chunk + whole[33:], whole + b"more", b"no picture"):
        path.write_bytes(data)
        reseal(folder)
        assert "released.png" in refused(folder)


def test_a_head_that_promises_terabytes(release: Callable[..., Path]) -> None:
    """Nothing is allocated for what is not there."""
    for header in (
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 4]}},
        {"__metadata__": {"format": "pt", "code": "x"}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    ):
        folder = release()
        head = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(len(head).to_bytes(8, "little") + head + b"\0\0\0\0")
        reseal(folder)
        refused(folder)
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    reseal(folder)
    refused(folder)


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
    """Bits, weights, card, figures, statement and hashes, all made again: another release, which a signature tells."""
    folder = release("mi")
    edit_lines(folder, lambda lines: [lines[0], canonical({"t": 0, "y": [1, 1]}), *lines[2:]])
    edit_lines(folder, lambda lines: [*lines[:2], canonical({"t": 1, "y": [-1, -1]}), *lines[3:]])
    transcript = Transcript.read(folder / "transcript.jsonl")
    weights = replay_adapter(transcript, until=6)
    old = json.loads((folder / statement.NAME).read_bytes())["weights_sha256"]
    forged = {f"base_model.model.{name}": tensor.detach().clone() for name, tensor in weights.parameters.items()}
    save_file(forged, folder / WEIGHTS, metadata={"format": "pt"})
    card = folder / "README.md"
    card.write_text(card.read_text().replace(old, weights.fingerprint()))
    for name, data in plots.public(transcript.header, transcript.y, None, None).items():
        (folder / "figures" / name).write_bytes(data)
    reseal(folder, weights_sha256=weights.fingerprint())
    assert verify_release(folder).replayed


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


def test_what_the_hub_writes_is_let_through(release: Callable[..., Path]) -> None:
    folder = release()
    cache = folder / ".cache" / "huggingface"
    (cache / "download").mkdir(parents=True)
    (cache / ".gitignore").write_text("*")
    (cache / "download" / "README.md.lock").touch()
    (cache / "download" / "README.md.metadata").write_text(f"{'0a' * 20}\n{'1b' * 20}\n1764234567.12\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    assert verify_release(folder).card_unchecked is None


def test_a_license_line_says_a_license_and_no_more(release: Callable[..., Path]) -> None:
    folder = release()
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("\n---\n", "\nlicense: apache-2.0\n---\n", 1))
    assert verify_release(folder)
    (folder / "README.md").write_text(card.replace("\n---\n", "\nlicense: mit  # epsilon = 0\n---\n", 1))
    assert "README.md" in refused(folder)


def test_a_card_in_an_unknown_wording_is_not_vouched_for(release: Callable[..., Path]) -> None:
    folder = release()
    (folder / "README.md").write_text("# Perfect privacy\n")
    reseal(folder, wording=99)
    assert verify_release(folder).card_unchecked is not None
