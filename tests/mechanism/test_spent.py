"""The file of what units have spent agrees with the journal at every moment at which a process may be killed."""

import numpy as np
import pytest

from paczero.errors import IntegrityError
from paczero.mechanism.journal import Journal
from paczero.mechanism.spent import SpentFile

ACCOUNTS = [np.full(3, step, dtype=np.int64) for step in range(5)]


@pytest.fixture
def places(tmp_path):
    return tmp_path / "spent.npz", tmp_path / "journal.jsonl"


def run(places, steps, *, killed=False):
    """So many steps; `killed` between the file of the last one and its line in the journal."""
    path, lines = places
    journal = Journal.create(lines, {"seed": 0})
    file = SpentFile(path, journal)
    assert file.read() is None
    for step in range(steps):
        file.write(ACCOUNTS[step], ACCOUNTS[step + 1])
        if not (killed and step == steps - 1):
            journal.append({"t": step, "y": [1]})
    return SpentFile(path, Journal.open(lines))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_journal_says_which_accounts_count(places, steps):
    assert run(places, steps).read().tolist() == ACCOUNTS[steps].tolist()
    assert places[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_step_that_was_charged_but_never_written_is_charged_once(places, steps):
    resumed = run(places, steps, killed=True)
    assert resumed.read().tolist() == ACCOUNTS[steps - 1].tolist()
    resumed.write(ACCOUNTS[steps - 1], ACCOUNTS[steps])
    assert resumed.read().tolist() == ACCOUNTS[steps - 1].tolist()


def test_an_older_or_a_newer_file_and_that_of_another_run_are_refused(places, tmp_path):
    run(places, 1)
    older = places[0].read_bytes()
    places[1].unlink()
    (tmp_path / "other").mkdir()
    other = [tmp_path / "other" / path.name for path in places]
    foreign = Journal.create(other[1], {"seed": 1})
    for step in range(2):
        SpentFile(other[0], foreign).write(ACCOUNTS[step], ACCOUNTS[step + 1])
        foreign.append({"t": step, "y": [1]})
    places[0].unlink()
    file = run(places, 2)
    newer = places[0].read_bytes()
    damaged = newer[:-30], b"", newer.replace(b"chain", b"chaim")
    for data in (older, other[0].read_bytes(), *damaged):
        places[0].write_bytes(data)
        with pytest.raises(IntegrityError, match="spent: ") as error:
            file.read()
        assert "\n" not in str(error.value)
    places[0].unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        file.read()
    places[1].unlink()
    places[0].write_bytes(newer)
    with pytest.raises(IntegrityError, match="is of step 1, not of"):
        SpentFile(places[0], Journal.create(places[1], {"seed": 0})).read()
