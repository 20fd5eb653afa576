"""The page: whole by itself, true at any moment of a run, and deaf to what a label may try."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import SPECS
from paczero.report.html import write_report
from paczero.run_directory import RunDirectory

Build = Callable[..., RunDirectory]
EVIL = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """Collects start tags and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page(run: RunDirectory) -> str:
    return write_report(run).read_text(encoding="utf-8")


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.S)).split())


def test_a_finished_run(finished: Build) -> None:
    run = finished("mi")
    text = page(run)
    shown = words(text)
    for expected in ("56.8 %", "67.4 %", "71.7 %", "73.0 %", "0.8819", "0.33 nats", "2 min 13 s", "4.3 points above"):
        assert expected in shown
    assert "is not finished" not in shown and "paczero replay" in shown
    pictures = {path.name: path.read_bytes() for path in run.report.glob("*.png")}
    assert set(pictures) == {"boundary.png", "unanimity.png", "development.png", "posterior.png", "released.png"}
    sources = [attributes["src"] or "" for tag, attributes in tags(text) if tag == "img"]
    assert len(sources) == 5 and all(source.startswith("data:image/png;base64,") for source in sources)


def test_it_needs_no_network(finished: Build) -> None:
    found = tags(page(finished()))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found}
    for _, attributes in found:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


@pytest.mark.parametrize(
    ("name", "changes", "banner"),
    [
        ("zpl", {}, "right with probability above 0.5."),
        ("zpl", {"test_seed": 3}, "VOID: test coins"),
        ("mi", {"budget": 0.8}, "No privacy is promised"),
        ("none", {}, "No privacy is promised"),
        ("full-sign", {}, "No privacy is promised"),
        ("half-sign", {}, "No privacy is promised"),
        ("coin", {}, "nothing was learned from any record"),
        ("skip", {}, "right with probability above 0.5."),
        ("dp-sign", {}, "ε = 2 and δ = 2.78e-06"),
        ("dpzero", {"test_seed": 3}, "VOID: test coins"),
    ],
)
def test_the_banner(build: Build, name: str, changes: dict[str, object], banner: str) -> None:
    shown = words(page(build(name, **changes)))
    assert banner in shown
    assert ("No guess is right" in shown) == (name in ("zpl", "skip", "dp-sign") and not changes)


@pytest.mark.parametrize("done", [0, 1, 13])
def test_an_unfinished_run(build: Build, done: int) -> None:
    run = build("mi", done=done)
    journal = run.journal.read_bytes() + b'{"t":99,"half a li'
    run.journal.write_bytes(journal)
    shown = words(page(run))
    assert f"not finished: {done} of 40 steps" in shown and "train --resume" in shown
    assert run.journal.read_bytes() == journal  # a report never touches what a process may be writing


def test_before_the_first_step(build: Build) -> None:
    run = build(done=0, extras=False)
    run.staged_transcript.unlink()
    run.journal.unlink()
    assert "no step has been taken" in words(page(run))


@pytest.mark.parametrize("name", SPECS)
def test_without_diagnostics_and_summary(build: Build, name: str) -> None:
    shown = words(page(build(name, extras=False)))
    assert "40 of 40 steps" in shown and "not known" not in shown


def test_a_release_alone(build: Build) -> None:
    run = build("mi")
    for path in sorted(run.private.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    run.private.rmdir()
    assert "0.8819" in words(page(run))


def test_a_changed_statement_is_said(build: Build) -> None:
    run = build()
    path = run.release / "privacy.json"
    path.write_bytes(path.read_bytes().replace(b'"steps": 40', b'"steps":  40'))
    assert "Do not rely on it" in words(page(run))


def test_everything_foreign_is_escaped(build: Build) -> None:
    run = build(folder="a " + EVIL.replace("/", "-"), base={"id": EVIL, "sha256": EVIL, "dtype": EVIL}, family=EVIL)
    run.config.write_text(json.dumps({"task": {"labels": {EVIL: EVIL}}, EVIL: [EVIL]}))
    text = page(run)
    assert "<script" not in text and "&lt;script&gt;" in text


def test_a_second_report_removes_figures_that_are_no_longer_drawn(build: Build) -> None:
    run = build("none", extras=False)
    run.report.mkdir()
    (run.report / "unanimity.png").write_bytes(b"old")
    write_report(run)
    assert not (run.report / "unanimity.png").exists()


def test_refusals_are_one_line(build: Build, tmp_path: Path) -> None:
    with pytest.raises(PACZeroError, match="holds no run"):
        write_report(RunDirectory(tmp_path / "nothing"))
    run = build()
    for path, content in (
        (run.diagnostics, "not json\n"),
        (run.diagnostics, "[]\n"),
        (run.root / "summary.json", "{"),
        (run.config, "a: [\n"),
    ):
        before = path.read_text()
        path.write_text(content)
        with pytest.raises(IntegrityError) as caught:
            write_report(run)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        path.write_text(before)


def test_what_attacks_reached_stands_beside_the_promise(finished):
    """Of a run that was audited; of one that was not, nothing."""
    run = finished("zpl")
    assert "What attacks have reached" not in write_report(run).read_text(encoding="utf-8")
    interval = {"estimate": 0.512, "low": 0.4, "high": 0.6}
    attack = {"title": "Best <attacker>", "interval": interval, "trials": 300, "bound": 0.5}
    rows = [{"label": "zpl", "meaning": "Somebody tells."}, {"label": "none", "meaning": "Somebody else tells."}]
    document = {"passed": True, "reruns": {"attacks": [attack]}, "canaries": {"rows": rows}}
    (run.report / "audit").mkdir()
    (run.report / "audit" / "audit.json").write_text(json.dumps(document))
    text = write_report(run).read_text(encoding="utf-8")
    assert "Best &lt;attacker&gt;: right in 51.2 % of 300 re-runs, allowed 50.0 %." in text
    assert "zpl: Somebody tells." in text and "Somebody else" not in text
