"""The private file of what each unit has spent: on disk before the journal has the step, so no resume forgets a charge.

    file = SpentFile(run.spent, journal)
    mechanism.restore_spent(file.read())       # on resume
    file.write(before, after)                  # each step: charged first, then journalled

A process may be killed between this file and the journal's line. So the file holds the accounts before and after one
step, and the journal says which of them counts: that step's bits were released if and only if the journal has them. The
chain of the journal before the step binds the file to the run.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from paczero.errors import IntegrityError
from paczero.mechanism.base import UnitIndices
from paczero.mechanism.journal import Journal
from paczero.utils.io import write_whole


class SpentFile:
    """The accounts of a run's units beside its journal.

    Args:
        path: the file, in `private/`.
        journal: of the same run.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path, self._journal = path, journal

    def write(self, before: UnitIndices, after: UnitIndices) -> None:
        """Writes the accounts around the journal's next step; they are on disk when this returns (mode 0600)."""
        stream = io.BytesIO()
        step, chain = len(self._journal.entries), self._journal.chain
        np.savez(stream, step=step, chain=chain, accounts=np.stack([before, after]))
        write_whole(self._path, stream.getvalue(), mode=0o600)

    def read(self) -> UnitIndices | None:
        """The accounts after the journal's last step; None where no step was begun.

        Raises:
            IntegrityError: the file is missing or damaged, or belongs to another journal.
        """
        steps = len(self._journal.entries)
        if not steps and not self._path.exists():
            return None
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as stored:
                step, chain, accounts = int(stored["step"]), str(stored["chain"]), stored["accounts"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise IntegrityError(f"spent: {str(self._path)!r} cannot be read; restore the file") from error
        expected = {steps: self._journal.chain, steps - 1: self._journal.previous_chain}.get(step)
        if chain != expected or accounts.ndim != 2 or len(accounts) != 2:
            raise IntegrityError(
                f"spent: {str(self._path)!r} is of step {step}, not of the journal's last or next one, {steps}; "
                "restore both files as they were"
            )
        return np.array(accounts[steps - step])
