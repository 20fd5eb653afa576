"""Nothing outside private/ tells of the secret, the coins or the flips, and nothing released tells more than it must.

The runs use the operating system's randomness, of which a spy keeps what was drawn; afterwards everything that was
written, printed or logged is searched for it.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PrinterCallback

from paczero.mechanism import randomness
from paczero.mechanism.channels import BitChannel, GaussianChannel

MakeTrainer = Callable[..., Any]
MECHANISMS: dict[str, dict[str, Any]] = {
    "zpl": {"name": "zpl", "family": "balanced", "pilots": 2},
    "bit": {"name": "mi", "budget": 0.3, "family": "paired"},
    "gaussian": {"name": "mi", "budget": 0.3, "channel": "gaussian", "allocation": "uniform"},
    "none": {"name": "none"},
    "sampled": {"name": "dp-aggzo", "epsilon": 2.0, "sampling_prob": 0.5},
}
SUBSETS = 64


def png_texts(data: bytes) -> Iterator[bytes]:
    """Text chunks of a PNG, decompressed, and every other chunk that is not its picture."""
    place = 8
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        place += 12 + size
        if kind in (b"zTXt", b"iTXt"):
            _, _, rest = body.partition(b"\0")
            yield body
            for start in range(min(len(rest), 40)):
                try:
                    yield zlib.decompress(rest[start:])
                except zlib.error:
                    continue
        elif kind not in (b"IDAT", b"IHDR", b"IEND", b"pHYs"):
            yield kind + body


def everything(run: Path, released_only: bool = False) -> dict[str, bytes]:
    """Name -> bytes of what is not private: files, their names, and the texts inside pictures."""
    found: dict[str, bytes] = {}
    for path in sorted((run / "release" if released_only else run).rglob("*")):
        name = str(path.relative_to(run))
        if path.is_relative_to(run / "private"):
            continue
        found[f"name of {name}"] = name.encode()
        if path.is_file():
            found[name] = path.read_bytes()
            if path.suffix == ".png":
                for number, text in enumerate(png_texts(found[name])):
                    found[f"{name} text {number}"] = text
    return found


class Spy:
    """Keeps what was drawn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.words: list[int] = []
        self.flips: list[int] = []
        draw = secrets.randbits
        monkeypatch.setattr(
            randomness.secrets, "randbits", lambda bits: self.words.append(draw(bits)) or self.words[-1]
        )
        for channel in (BitChannel, GaussianChannel):
            sample = channel.sample

            def watched(sign: int, noise: float, word: int, sample: Any = sample) -> float:
                output = float(sample(sign, noise, word))
                self.flips.append(int((output >= 0) != (sign > 0)))
                return output

            monkeypatch.setattr(channel, "sample", staticmethod(watched))


@pytest.fixture(scope="module", params=list(MECHANISMS))
def finished(
    request: pytest.FixtureRequest, make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Spy, str, str]]:
    """A run, what was drawn in it, what it printed and logged, and the mechanism's name."""
    run = tmp_path_factory.mktemp("leak") / "run"
    capture = request.config.pluginmanager.getplugin("capturemanager")
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(lambda record: record.name != "matplotlib.font_manager")  # which lists all fonts with an index
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    capture.read_global_capture()
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            spy = Spy(monkeypatch)
            trainer = make_trainer(
                run,
                mechanism={"subsets": SUBSETS} | MECHANISMS[request.param],
                test_seed=None,
                directions=2,
                max_steps=12,
                metric_for_best_model="loss",
                report_to=["tensorboard"],
                callbacks=[PrinterCallback],
            )
            result = trainer.train()
            print(trainer, result, trainer.evaluate(), trainer.estimate(), vars(trainer.run), trainer.notes)
            trainer.save_model(run / "saved")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    printed = "\n".join([*capture.read_global_capture(), *records])
    yield run, spy, printed, request.param


def secret_forms(run: Path) -> dict[str, bytes]:
    """Ways in which S* may be told apart from the other candidates."""
    content = (run / "private" / "secret.json").read_bytes()
    index = json.loads(content)["index"]
    forms = {"the file": content.strip(), "its hash": hashlib.sha256(content).hexdigest().encode()}
    for key in ("index", "s_star", "secret_index", "s_secret"):
        forms[key] = key.encode()
    candidates = run / "private" / "candidates.npz"
    if candidates.exists():
        with np.load(candidates) as stored:
            members = np.unpackbits(stored["packed"], axis=1, count=SUBSETS)[:, index].astype(bool)
        row = np.packbits(members)
        indices = np.flatnonzero(members).tolist()
        forms |= {
            "packed": row.tobytes(),
            "hex": row.tobytes().hex().encode(),
            "hash": hashlib.sha256(row.tobytes()).hexdigest().encode(),
            "members": json.dumps(indices)[1:-1].encode(),
            "tight members": json.dumps(indices, separators=(",", ":"))[1:-1].encode(),
            "bits": "".join("01"[int(member)] for member in members).encode(),
        }
    return forms


def coin_forms(spy: Spy) -> dict[str, bytes]:
    forms: dict[str, bytes] = {}
    for number, word in enumerate(spy.words):
        for kind, form in {
            "decimal": str(word).encode(),
            "hex": f"{word:x}".encode(),
            "little": word.to_bytes(8, "little"),
            "big": word.to_bytes(8, "big"),
            "unit": repr(word / 2**64).encode(),
        }.items():
            if len(form) >= 8:
                forms[f"word {number} {kind}"] = form
    for name, values in {"flips": spy.flips, "reversed flips": [1 - flip for flip in spy.flips]}.items():
        if len(values) >= 8 and len(set(values)) == 2:  # others are anywhere
            for joint in ("", ",", ", ", "\n"):
                forms[f"{name} {joint!r}"] = joint.join(map(str, values)).encode()
            forms[f"{name} words"] = ", ".join(str(bool(value)) for value in values).encode()
    return forms


def test_what_is_not_private_does_not_tell_of_secret_coins_and_flips(finished: tuple[Path, Spy, str, str]) -> None:
    run, spy, printed, name = finished
    contested = [not flag for entry in journal(run) for flag in entry["unanimous"]]
    coinless = name in ("none", "sampled")
    assert len(spy.words) == len(spy.flips) == (0 if coinless else sum(contested))
    assert coinless or sum(contested) >= 4, "the search has something to look for"
    places = everything(run) | {"printed": printed.encode()}
    places |= {str(path): path.read_bytes() for path in (run / "private" / "trackers").rglob("*") if path.is_file()}
    assert any(place.endswith("README.md") for place in places)
    for form_name, form in (secret_forms(run) | coin_forms(spy)).items():
        for place, data in places.items():
            assert form not in data, f"{form_name} is in {place}"
    (secret_path, journal_path) = (run / "private" / "secret.json", run / "private" / "journal.jsonl")
    assert secret_forms(run)["the file"] in secret_path.read_bytes(), "the search would find it"
    assert all(f'"y":[{entry["y"][0]}'.encode() in journal_path.read_bytes() for entry in journal(run))


def journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "private" / "journal.jsonl").read_text().splitlines()[1:]]


def private_numbers(run: Path) -> set[str]:
    """Figures of the journal and the diagnostics that no other file holds by chance, as Python writes them."""
    numbers: set[float] = set()
    for entry in journal(run):
        for key in ("q", "beta", "noise", "output"):
            numbers |= {value for value in entry[key] or () if isinstance(value, float)}
    for line in (run / "private" / "diagnostics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "step":
            numbers |= {row["spent"], row["loss"]}
    return {repr(value) for value in numbers if len(repr(value).strip("-0.").replace(".", "")) >= 7}


def test_a_release_does_not_tell_what_stays_private(finished: tuple[Path, Spy, str, str]) -> None:
    run = finished[0]
    numbers = private_numbers(run)
    assert len(numbers) >= 12  # every step's loss at least
    entries = journal(run)
    signs = {packed for entry in entries for packed in entry["signs"]}
    keys = ("unanimous", "unanimity", "q", "beta", "noise", "spent", "loss", "nonfinite", "output", "signs", "index")
    for place, data in everything(run, released_only=True).items():
        text = data.decode("latin-1")
        for number in numbers:
            assert number not in text and number[:10] not in text, f"{number} is in {place}"
        assert not [packed for packed in signs if packed in text], place
        if place.endswith((".json", ".jsonl")):
            found = {key for key in keys if re.search(rf'"[a-z_]*\b{key}\b[a-z_]*"\s*:', text)}
            assert not found, f"{found} in {place}"
        assert "private" not in text or place.endswith((".md", "privacy.json")), place
        assert str(run / "private") not in text, place
    allowed = {"README.md", "adapter", "figures", "privacy.json", "task.json", "transcript.jsonl"}
    assert {path.name for path in (run / "release").iterdir()} == allowed
    lines = (run / "release" / "transcript.jsonl").read_text().splitlines()[1:]
    assert all(set(json.loads(line)) == {"t", "y"} for line in lines) and len(lines) == len(entries)


def test_texts_of_the_pool_are_nowhere(finished: tuple[Path, Spy, str, str], tiny_pool_csv: Path) -> None:
    run, _, printed, _ = finished
    texts = [line.split(",")[0] for line in tiny_pool_csv.read_text().splitlines()[1:]]
    for place, data in (everything(run) | {"printed": printed.encode()}).items():
        assert not [text for text in texts if text.encode() in data], place
    assert not (run / "private" / "cache").exists()


def test_trackers_are_told_public_figures_only(finished: tuple[Path, Spy, str, str]) -> None:
    run, _, _, _ = finished
    files = [path.read_bytes() for path in (run / "private" / "trackers").rglob("events*")]
    assert any(b"dev/accuracy" in data for data in files)
    for data in files:
        for word in (b"unanim", b"spent", b"train/loss", b"pool"):
            assert word not in data


PUBLIC = ("transcript.jsonl", ".transcript.jsonl.new")  # staged for release


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_private_files_are_the_owners_from_the_first_moment(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """Looked at after every system call that may make a file or change a mode."""
    seen: set[str] = set()

    def look() -> None:
        for private in tmp_path.glob("*/private"):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
            for path in private.iterdir():
                if path.name in PUBLIC or path.is_dir():
                    continue
                seen.add(path.name)
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = function(*args, **kwargs)
            look()
            return answer

        return call

    for name in ("open", "rename", "replace", "link", "unlink", "write", "fsync"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    monkeypatch.setattr("builtins.open", watched(open))
    before = os.umask(umask)
    try:
        if umask == 0o777 and os.getuid() != 0:
            pytest.skip("only root can work with files that no user may open")
        make_trainer(tmp_path / "run", mechanism={"name": "mi", "budget": 0.2}, cache_bytes=0, max_steps=3).train()
    finally:
        os.umask(before)
    assert {"secret.json", "journal.jsonl", "candidates.npz", "diagnostics.jsonl", "lock"} <= seen
    for path in (tmp_path / "run" / "release").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
