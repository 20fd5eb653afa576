"""Card, task and settings say what follows from header and statement, in every wording that is known."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paczero.release import statement, task_file
from paczero.release.verify.release import verify_release

from ...released_runs import VERSION_1, changed, edit_header, get, leaves, put, refused, rehash, reseal


@pytest.mark.parametrize(
    ("name", "form"),
    [("task.json", {"ensure_ascii": False}), ("adapter/adapter_config.json", {"sort_keys": True})],
)
def test_any_value_of_the_texts(release: Callable[..., Path], name: str, form: dict[str, bool]) -> None:
    folder = release("zpl")
    path = folder / name
    whole = path.read_bytes()
    document = json.loads(whole)
    for keys in leaves(document):
        for value in changed(get(document, keys)):
            new = json.loads(whole)
            put(new, keys, value)
            path.write_text(json.dumps(new, indent=2, **form) + "\n")
            refused(folder)
            reseal(folder)
            if keys not in (("peft_version",), ("task_type",)) and (keys, value) != (("fan_in_fan_out",), True):
                refused(folder)


def test_any_line_of_the_card(release: Callable[..., Path]) -> None:
    """A number edited, a line removed or added, and all hashes made again."""
    folder = release("zpl")
    path = folder / "README.md"
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        edits = [[line, "More."]]
        edits += [[line.replace("0.5", "0.4")]] if "0.5" in line else []
        # The metrics on the development set follow from nothing else.
        edits += [[]] if line.strip() and "| untuned" not in line and "| served (" not in line else []
        for new in edits:
            path.write_text("\n".join([*lines[:number], *new, *lines[number + 1 :]]))
            reseal(folder)
            assert "README.md" in refused(folder)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"lora_alpha": None}, "lora_alpha is 8, but the header makes it 16"),
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


@pytest.mark.parametrize("name", ["release-zpl-lora", "release-mi-full"])
def test_releases_of_version_1(name: str) -> None:
    """Made by the code before `privacy.json` had a version of its wording."""
    texts = dict(verify_release(VERSION_1 / name).lines)["texts"]
    assert "the same" in texts and "wording 1" in texts


@pytest.mark.parametrize(
    "change",
    [
        {"template": "{text}\nIt was {label}"},
        {"template": "{text}  It was {label}"},
        {"template": " {text} It was {label}"},
        {"labels": {"0": "terrible\n\n", "1": "great"}},
        {"labels": {"0": "terrible", "1": "\tgreat"}},
        {"labels": {"0": "terrible", "1 ": "great"}},
    ],
)
def test_white_space_that_a_card_of_version_1_does_not_show(
    old_release: Callable[[str], Path], change: dict[str, Any]
) -> None:
    folder = old_release("release-zpl-lora")
    task = task_file.read(folder)
    assert task is not None
    labels = change.get("labels", task.labels)
    task_file.write(folder, replace(task, template=change.get("template", task.template), labels=labels))
    rehash(folder)
    assert "white space" in refused(folder)


@pytest.mark.parametrize("figure", ["1.2.3", "--5", "9" * 5000, "٥٠"])
@pytest.mark.parametrize("shown", ["58.3 % |\n| untuned", "12 records"])
def test_a_card_of_version_1_with_another_figure(old_release: Callable[[str], Path], shown: str, figure: str) -> None:
    folder = old_release("release-mi-full")
    card = folder / "README.md"
    text = card.read_text()
    assert text.count(shown) == 1
    card.write_text(text.replace(shown, figure + shown[shown.index(" ") :]))
    rehash(folder)
    assert "README.md" in refused(folder)


def test_a_release_of_version_2_in_wording_1(old_release: Callable[[str], Path]) -> None:
    folder = old_release("release-zpl-lora")
    shutil.copy(VERSION_1.parent / "privacy-2-in-wording-1.json", folder / statement.NAME)
    assert "wording 1" in dict(verify_release(folder).lines)["texts"]
    card = folder / "README.md"
    card.write_text(card.read_text().replace("Not hidden: who", "Not hidden: nobody"))
    reseal(folder)
    assert "README.md" in refused(folder)


def test_sentences_from_before_wording_1(old_release: Callable[[str], Path]) -> None:
    """Releases of that time have no `task.json`."""
    folder = old_release("release-zpl-lora")
    (folder / "task.json").unlink()
    (folder / "README.md").write_text("Sentences of an older version.")
    rehash(folder)
    texts = dict(verify_release(folder).lines)["texts"]
    assert "NOT checked: the sentences are from before wording 1" in texts


def test_a_newer_wording(release: Callable[..., Path]) -> None:
    """Its sentences are not known and not vouched for; facts, hashes, bits and weights are checked all the same."""
    folder = release()
    (folder / "README.md").write_text("# Perfect privacy\n")
    rehash(folder, wording=99)
    verification = verify_release(folder)
    assert verification.card_unchecked is not None
    assert "wording 99 is newer" in dict(verification.lines)["texts"]
    rehash(folder, half={"nats": 0.1, "posterior_success": 0.5, "equivalent_epsilon": 0.0})
    assert "half does not agree" in refused(folder)


def test_a_license_line_says_a_license_and_no_more(release: Callable[..., Path]) -> None:
    folder = release()
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("\n---\n", "\nlicense: apache-2.0\n---\n", 1))
    assert verify_release(folder)
    (folder / "README.md").write_text(card.replace("\n---\n", "\nlicense: mit  # epsilon = 0\n---\n", 1))
    assert "README.md" in refused(folder)
