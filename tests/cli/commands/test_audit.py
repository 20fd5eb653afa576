"""`paczero audit`: passes an honest run, names wrong values by their step, and continues after an interruption."""

import json
import stat

import pytest

from paczero.audit import positive_controls
from paczero.mechanism.journal import Journal


def remade(run, change):
    """Changes one entry of the journal and renews its chains, as a forger would."""
    journal = Journal.open(run / "private" / "journal.jsonl")
    entries = [change(dict(entry)) for entry in journal.entries]
    (run / "private" / "journal.jsonl").unlink()
    again = Journal.create(run / "private" / "journal.jsonl", journal.header)
    for entry in entries:
        again.append(entry)


@pytest.fixture
def mi(arguments, paczero, tmp_path):
    run = tmp_path / "mi"
    more = ["--mechanism.name", "mi", "--mechanism.budget", "0.3"]
    given = arguments(run, *more)
    index = given.index("--test_seed")
    code, _, err = paczero(*given[:index], *given[index + 2 :])
    assert code == 0, err
    return run


def test_an_honest_run_passes(paczero, mi, monkeypatch):
    few = tuple(broken for broken in positive_controls.BROKEN if broken.name in ("seeded secret", "honest zpl"))
    monkeypatch.setattr(positive_controls, "BROKEN", few)  # tests/audit has all of them
    code, out, err = paczero("audit", mi, "--parts", "exact,families,exposure,controls,reruns", "--reruns", "40")
    assert code == 0, out + err
    assert (
        "6 steps recomputed, 0 findings" in out
        and "release      verified" in out
        and "control      seeded secret: caught" in out
    )
    assert out.strip().splitlines()[-1] == f"Passed: {mi / 'report' / 'audit' / 'index.html'}"
    document = json.loads((mi / "report" / "audit" / "audit.json").read_text())
    assert document["passed"] and document["left_out"] == ["canaries"]
    assert len(document["reruns"]["attacks"]) == 5 and document["reruns"]["budget"] == 0.3
    exposed = document["exposure"]
    assert (exposed["releases"], exposed["missing"]) == (6, 0) and exposed["unanimous"] == document["exact"][
        "unanimous"
    ]
    assert "exposure     " in out
    kept = {path: path.stat() for path in (mi / "private" / "audit").glob("*/*")}
    assert len(kept) == 40 and {stat.S_IMODE(found.st_mode) for found in kept.values()} == {0o600}
    assert paczero("audit", mi, "--parts", "reruns", "--reruns", "40")[0] == 0
    assert all(path.stat().st_mtime_ns == found.st_mtime_ns for path, found in kept.items()), "made again"


@pytest.mark.parametrize("what", ["charge", "q", "noise"])
def test_what_does_not_follow_is_named_by_its_step(paczero, mi, what):
    key = {"charge": "beta", "q": "q", "noise": "noise"}[what]
    contested = [e["t"] for e in Journal.open(mi / "private" / "journal.jsonl").entries if not e["unanimous"][0]]
    step = contested[0]
    remade(mi, lambda entry: entry | {key: [entry[key][0] * 0.5]} if entry["t"] == step else entry)
    code, out, _ = paczero("audit", mi, "--parts", "exact")
    assert code == 1
    assert f"FAILED       step {step}" in out and "Failed: " in out
    assert "do not rely on this run" in (mi / "report" / "audit" / "index.html").read_text()


@pytest.mark.parametrize("what", ["card", "statement", "gone"])
def test_a_run_whose_release_does_not_verify_does_not_pass(paczero, mi, what):
    assert paczero("audit", mi, "--parts", "families")[0] == 0
    if what == "gone":
        (mi / "release" / "README.md").unlink()
    else:
        path = mi / "release" / {"card": "README.md", "statement": "privacy.json"}[what]
        path.write_bytes(path.read_bytes() + b" ")
    code, out, _ = paczero("audit", mi, "--parts", "families")
    assert code == 1 and "FAILED       release: " in out
    assert not json.loads((mi / "report" / "audit" / "audit.json").read_text())["verified"]


def test_a_mechanism_that_never_reads_the_secret_has_no_re_runs(paczero, finished, arguments, tmp_path):
    run = tmp_path / "none"
    assert paczero(*arguments(run, "--mechanism.name", "none"))[0] == 0
    code, out, err = paczero("audit", run, "--parts", "exact,families,reruns")
    assert code == 0, out + err
    assert json.loads((run / "report" / "audit" / "audit.json").read_text())["left_out"] == [
        "reruns", "controls", "families", "canaries", "exposure"
    ]  # fmt: skip


def test_what_cannot_be_audited(refusal, finished, tmp_path):
    assert "holds no run" in refusal("audit", tmp_path)
    assert "--parts: 'all' was given" in refusal("audit", finished, "--parts", "all")
    assert "--reruns: 3 was given" in refusal("audit", finished, "--reruns", "3")
    assert "--canary_runs: 3 was given" in refusal("audit", finished, "--canary_runs", "3")
    (finished / "private" / "journal.jsonl").write_text("nonsense\n")
    assert "journal" in refusal("audit", finished, "--parts", "exact", code=1)
    (finished / "private").rename(tmp_path / "elsewhere")
    assert "paczero verify" in refusal("audit", finished)
