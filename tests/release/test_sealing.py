"""A license is stated before the release is sealed, or added by sealing it anew; nothing else changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from paczero.cli.main import main
from paczero.config import PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.release import statement
from paczero.release.sealing import seal
from paczero.release.verify.release import verify_release

from ..released_runs import old_release, refused, reseal  # noqa: F401

COMMENT = "# license: yours to add; it must agree with the base model's"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_license_of_the_settings(make_trainer: Callable[..., object], tmp_path: Path) -> None:
    make_trainer(tmp_path / "run", dev=None, max_steps=2, license="apache-2.0").train()  # type: ignore[attr-defined]
    folder = tmp_path / "run" / "release"
    assert verify_release(folder).document["license"] == "apache-2.0"
    text = (folder / "README.md").read_text()
    assert "\nlicense: apache-2.0\n---\n" in text and COMMENT not in text
    (folder / "README.md").write_text(text.replace("license: apache-2.0", "license: mit"))
    assert "README.md" in refused(folder), "a sealed license is not to be changed"
    reseal(folder)
    assert "README.md" in refused(folder)


@pytest.mark.parametrize("wrong", ["", "a b", "mit\n# x", "-", "x" * 97, "é"])
def test_what_is_no_license(release: Callable[..., Path], wrong: str) -> None:
    with pytest.raises(PACZeroError, match="license"):
        PACZeroConfig(license=wrong)
    if wrong:
        folder = release()
        before = contents(folder)
        with pytest.raises(PACZeroError, match="license"):
            seal(folder, wrong)
        assert contents(folder) == before


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_license_is_added(release: Callable[..., Path], by_hand: bool) -> None:
    folder = release()
    before, card = contents(folder), folder / "README.md"
    if by_hand:
        card.write_text(card.read_text().replace(COMMENT, "license: mit"))
    assert main(["seal", str(folder), *([] if by_hand else ["--license", "mit"])]) == 0
    after = contents(folder)
    assert {name for name in after if before.get(name) != after[name]} == {"README.md", "privacy.json"}
    assert verify_release(folder).document["license"] == "mit"
    assert main(["seal", str(folder), "--license", "apache-2.0"]) == 0
    assert verify_release(folder).document["license"] == "apache-2.0"


def test_what_cannot_be_sealed(release: Callable[..., Path], old_release: Callable[[str], Path]) -> None:  # noqa: F811
    folder = release()
    with pytest.raises(PACZeroError, match="--license"):
        seal(folder)
    (folder / statement.SIGNATURE).write_text("{}")
    with pytest.raises(PACZeroError, match="is signed"):
        seal(folder, "mit")
    (folder / statement.SIGNATURE).unlink()
    card = folder / "README.md"
    card.write_text(card.read_text().replace("Not hidden", "Hidden"))
    with pytest.raises(IntegrityError):
        seal(folder, "mit")


def test_a_release_of_version_1_is_not_sealed(old_release: Callable[[str], Path]) -> None:  # noqa: F811
    with pytest.raises(PACZeroError, match="another version"):
        seal(old_release("release-zpl-lora"), "mit")
