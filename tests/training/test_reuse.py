"""A secret that is used again: the runs form a chain, and each states what all of them together tell."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.audit.journal.recompute import recompute
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.journal import Journal
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.secret import read_record
from paczero.release.guarantee import rounded_up
from paczero.release.verify.release import verify_release
from paczero.utils.io import canonical

from ..interruptions import Stop, StopAt
from ..released_runs import edit_header, refused, reseal

MakeTrainer = Callable[..., Any]

FIRST, SECOND = {"name": "mi", "budget": 0.2}, {"name": "mi", "budget": 0.3}


def secret_of(run: Path) -> Path:
    return run / "private" / "secret.json"


def header_of(run: Path) -> Any:
    return json.loads((run / "release" / "transcript.jsonl").read_bytes().split(b"\n")[0])


def journal_of(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "private" / "journal.jsonl").read_bytes().splitlines()]


@pytest.fixture(scope="module")
def runs(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a` of 0.2 nats, then `b` of 0.3 nats and `c` of zpl on the same secret; copy them."""
    root = tmp_path_factory.mktemp("chain")
    make_trainer(root / "a", mechanism=FIRST, test_seed=None).train()
    make_trainer(root / "b", mechanism=SECOND, test_seed=None, secret=secret_of(root / "a")).train()
    make_trainer(root / "c", test_seed=None, secret=secret_of(root / "b")).train()
    return root


@pytest.fixture
def chain(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs, tmp_path / "chain"))


@pytest.fixture
def first(runs: Path, tmp_path: Path) -> Path:
    """A copy of `a` as it was before its secret was used again."""
    run = Path(shutil.copytree(runs / "a", tmp_path / "first"))
    (run / "private" / "reused.json").unlink()
    return run


def test_headers_and_statements_name_the_secret_and_the_budgets(runs: Path) -> None:
    headers = {name: header_of(runs / name) for name in "abc"}
    assert len({header["secret_id"] for header in headers.values()}) == 1
    assert [headers[name]["prior_budgets"] for name in "abc"] == [[], [0.2], [0.2, 0.3]]
    for name, total in (("a", 0.2), ("b", 0.5), ("c", 0.5)):
        document = verify_release(runs / name).document
        assert document["secret_id"] == headers["a"]["secret_id"]
        assert document["prior_budgets"] == headers[name]["prior_budgets"]
        assert document["half"]["nats"] == total
        assert document["half"]["posterior_success"] == float(posterior_success(total))
    for name in "bc":
        card = (runs / name / "release" / "README.md").read_text(encoding="utf-8")
        prior = " + ".join(f"{nats:g}" for nats in headers[name]["prior_budgets"])
        assert headers["a"]["secret_id"] in card and f"with budgets of {prior} nats" in card
        p = rounded_up(float(posterior_success(0.5)))
        assert f"p = {p}" in card and "together leak at most 0.5 nats" in card


def test_a_run_starts_from_what_the_one_before_left(runs: Path) -> None:
    left = recompute(runs / "a").posterior
    assert max(left) > 1 / 8 + 1e-3
    for name in "bc":
        earlier = read_record(secret_of(runs / name)).earlier
        assert earlier is not None and journal_of(runs / name)[0]["header"]["earlier"] == earlier.to_json()
        after = left if name == "b" else recompute(runs / "b").posterior
        assert Posterior.from_json(earlier.log_weights).probabilities == pytest.approx(after, rel=1e-9)
    entry = journal_of(runs / "b")[1]
    signs = np.unpackbits(np.frombuffer(bytes.fromhex(entry["signs"][0]), dtype=np.uint8)).astype(bool)
    assert entry["q"][0] == pytest.approx(np.array(left)[signs].sum())


def test_all_runs_pass_the_audit_of_their_journals(runs: Path) -> None:
    for name, total in (("a", 0.2), ("b", 0.5), ("c", 0.5)):
        found = recompute(runs / name)
        assert found.passed, found.findings
        assert found.success_bound == pytest.approx(float(posterior_success(total)))


def test_the_audit_finds_another_start(chain: Path) -> None:
    def rechain(run: Path, change: Callable[[Any], None]) -> None:
        lines = journal_of(run)
        change(lines[0]["header"])
        (run / "private" / "journal.jsonl").unlink()
        journal = Journal.create(run / "private" / "journal.jsonl", lines[0]["header"])
        for line in lines[1:]:
            journal.append({key: value for key, value in line.items() if key != "chain"})

    def found(run: Path) -> set[str]:
        return {finding.what for finding in recompute(run).findings}

    shutil.copytree(chain / "b", chain / "other")
    rechain(chain / "other", lambda header: header["earlier"].update(log_weights=[-float(np.log(8))] * 8))
    assert "earlier runs" in found(chain / "other")
    shutil.copytree(chain / "c", chain / "third")
    rechain(chain / "third", lambda header: header["earlier"].update(log_weights=[-float(np.log(8))] * 8))
    assert found(chain / "third") == {"earlier runs"}
    shutil.rmtree(chain / "a")
    assert found(chain / "b") == {"earlier runs"}
    assert found(chain / "c") == {"earlier runs"}


def test_a_second_run_from_the_same_secret_is_refused(make_trainer: MakeTrainer, chain: Path) -> None:
    with pytest.raises(PACZeroError, match=r"used again by '.*/b' already; expected the secret of the last run"):
        make_trainer(chain / "d", mechanism=SECOND, test_seed=None, secret=secret_of(chain / "a"))


def test_of_two_runs_that_begin_at_the_same_time_one_goes_on(
    make_trainer: MakeTrainer, first: Path, tmp_path: Path
) -> None:
    one, two = (
        make_trainer(tmp_path / name, mechanism=SECOND, test_seed=None, secret=secret_of(first)) for name in "de"
    )
    two.train()
    with pytest.raises(PACZeroError, match=r"used again by '.*/e' already"):
        one.train()
    assert not (tmp_path / "d" / "private" / "journal.jsonl").exists()
    with pytest.raises(PACZeroError, match=r"used again by '.*/e' already"):
        make_trainer(tmp_path / "d", mechanism=SECOND, test_seed=None).train(resume_from_checkpoint=True)


def test_a_run_that_was_killed_after_it_took_the_secret_goes_on(
    make_trainer: MakeTrainer, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that the earlier run names, so it may begin."""

    def killed(*_: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "create", killed)
        with pytest.raises(Stop):
            make_trainer(tmp_path / "b", mechanism=SECOND, test_seed=None, secret=secret_of(first)).train()
    assert (first / "private" / "reused.json").exists()
    make_trainer(tmp_path / "b", mechanism=SECOND, test_seed=None).train(resume_from_checkpoint=True)
    assert header_of(tmp_path / "b")["prior_budgets"] == [0.2] and recompute(tmp_path / "b").passed


def test_a_resumed_run_starts_from_the_same_posterior(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """With test coins: the released bytes are those of a run that was not interrupted."""
    make_trainer(tmp_path / "a", mechanism=FIRST).train()
    shutil.copytree(tmp_path / "a", tmp_path / "same" / "a")
    secret = secret_of(tmp_path / "a")
    make_trainer(tmp_path / "whole", mechanism=SECOND, secret=secret).train()
    shutil.rmtree(tmp_path / "a")
    shutil.move(tmp_path / "same" / "a", tmp_path / "a")
    with pytest.raises(Stop):
        make_trainer(tmp_path / "parts", mechanism=SECOND, secret=secret, observers=[StopAt(2)]).train()
    make_trainer(tmp_path / "parts", mechanism=SECOND).train(resume_from_checkpoint=True)
    whole, parts = (tmp_path / name / "release" for name in ("whole", "parts"))
    for path in whole.rglob("*"):
        if path.is_file():
            assert (parts / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert journal_of(tmp_path / "whole")[1:-1] != []
    strip = [{k: v for k, v in line.items() if k != "chain"} for line in journal_of(tmp_path / "parts")[1:]]
    assert strip == [{k: v for k, v in line.items() if k != "chain"} for line in journal_of(tmp_path / "whole")[1:]]


def test_a_start_that_was_changed_is_refused_on_resume(make_trainer: MakeTrainer, first: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        make_trainer(
            tmp_path / "b", mechanism=SECOND, test_seed=None, secret=secret_of(first), observers=[StopAt(2)]
        ).train()
    path = secret_of(tmp_path / "b")
    content = json.loads(path.read_bytes())
    for earlier, wrong in (
        (None, r"differs in earlier, transcript"),
        (content["earlier"] | {"log_weights": [-float(np.log(8))] * 8}, r"differs in earlier;"),
        (content["earlier"] | {"budgets": [0.1]}, r"differs in earlier, transcript"),
    ):
        path.write_bytes(canonical(content | {"earlier": earlier}) + b"\n")
        with pytest.raises(IntegrityError, match=wrong):
            make_trainer(tmp_path / "b", mechanism=SECOND, test_seed=None).train(resume_from_checkpoint=True)


def cut(run: Path) -> None:
    path = run / "private" / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def gap(run: Path) -> None:
    path = run / "private" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))


def cut_both(run: Path) -> None:
    cut(run)
    path = run / "release" / "transcript.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (cut, "its steps are not those of the run's transcript"),
    (gap, "a line before it is missing"),
    (cut_both, "does not agree with privacy.json"),
    (lambda run: (run / "private" / "journal.jsonl").unlink(), "cannot be read"),
    (lambda run: (run / "private" / "candidates.npz").unlink(), "cannot be read"),
    (lambda run: (run / "release" / "privacy.json").unlink(), "is not finished"),
]


@pytest.mark.parametrize(("damage", "wrong"), DAMAGES)
def test_a_run_whose_journal_is_not_whole_is_no_start(
    make_trainer: MakeTrainer, first: Path, tmp_path: Path, damage: Callable[[Path], Any], wrong: str
) -> None:
    damage(first)
    with pytest.raises(PACZeroError, match=wrong):
        make_trainer(tmp_path / "b", mechanism=SECOND, test_seed=None, secret=secret_of(first))
    assert not (tmp_path / "b").exists()


def test_a_secret_without_its_run_is_no_start(make_trainer: MakeTrainer, first: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copy(secret_of(first), tmp_path / "secret.json"))
    with pytest.raises(PACZeroError, match="lies in no run"):
        make_trainer(tmp_path / "b", mechanism=SECOND, test_seed=None, secret=copied)


@pytest.mark.parametrize("name", ["half-sign", "dp-sign", "none", "full-sign", "coin"])
def test_mechanisms_that_do_not_hide_the_half_use_no_secret_again(
    make_trainer: MakeTrainer, first: Path, tmp_path: Path, name: str
) -> None:
    mechanism = {"name": name} | ({"epsilon": 2.0} if name == "dp-sign" else {})
    with pytest.raises(
        PACZeroError, match=f"secret: one was given with mechanism.name '{name}'; expected zpl, mi, skip"
    ):
        make_trainer(tmp_path / "b", mechanism=mechanism, test_seed=None, secret=secret_of(first))


@pytest.mark.parametrize("name", ["half-sign", "full-sign"])
def test_a_secret_that_was_used_without_a_budget_is_refused(
    make_trainer: MakeTrainer, tmp_path: Path, name: str
) -> None:
    make_trainer(tmp_path / "a", mechanism={"name": name}, test_seed=None).train()
    with pytest.raises(PACZeroError, match="after which no bound holds for the secret"):
        make_trainer(tmp_path / "b", mechanism=SECOND, test_seed=None, secret=secret_of(tmp_path / "a"))


def test_another_pool_and_other_candidates_are_refused_before_a_release(
    make_trainer: MakeTrainer, first: Path, tmp_path: Path, tiny_pool_csv: Path
) -> None:
    lines = tiny_pool_csv.read_text().splitlines(keepends=True)
    (tmp_path / "pool.csv").write_text("".join([lines[0], *lines[:0:-1]]))
    others: dict[str, dict[str, Any]] = {"pool": {"pool": str(tmp_path / "pool.csv")}, "candidates": {"seed": 5}}
    for wrong, more in others.items():
        run = tmp_path / wrong
        with pytest.raises(PACZeroError, match=f"the {wrong} of this run differ from the earlier run's"):
            make_trainer(run, mechanism=SECOND, test_seed=None, secret=secret_of(first), **more).train()
        assert not (run / "private" / "journal.jsonl").exists()
    assert not (first / "private" / "reused.json").exists()


def test_the_earlier_run_releases_no_more(make_trainer: MakeTrainer, chain: Path) -> None:
    shutil.rmtree(chain / "a" / "release")
    with pytest.raises(PACZeroError, match="a later run uses its secret again"):
        make_trainer(chain / "a", mechanism=FIRST, test_seed=None).train(resume_from_checkpoint=True)


def test_forged_budgets_and_bounds_are_refused(runs: Path, tmp_path: Path) -> None:
    def copy() -> Path:
        shutil.rmtree(tmp_path / "release", ignore_errors=True)
        return Path(shutil.copytree(runs / "b" / "release", tmp_path / "release"))

    one = json.loads((runs / "a" / "release" / "privacy.json").read_bytes())
    for forged, wrong in (
        ({"prior_budgets": []}, "prior_budgets does not agree"),
        ({"prior_budgets": [0.1]}, "prior_budgets does not agree"),
        ({"secret_id": "0" * 32}, "secret_id does not agree"),
        ({"half": one["half"]}, "half does not agree"),
    ):
        folder = copy()
        reseal(folder, **forged)
        assert wrong in refused(folder)
    folder = copy()
    edit_header(folder, lambda header: header.update(prior_budgets=[]))
    reseal(folder)
    assert "README.md" in refused(folder)  # the card states the sum
    for value in ([-0.1], [1], ["0.1"], 0.2, None, [[0.2]]):
        folder = copy()
        edit_header(folder, lambda header, value=value: header.update(prior_budgets=value))  # type: ignore[misc]
        assert "prior_budgets" in refused(folder)
    for keys in (["secret_id"], ["prior_budgets"], ["secret_id", "prior_budgets"]):
        folder = copy()
        edit_header(folder, lambda header, keys=keys: [header.pop(key) for key in keys])  # type: ignore[misc]
        refused(folder)
