"""Run directories that are written by hand, and releases of real runs of the tiny model."""

from ..released_runs import old_release, release, releases  # noqa: F401
from ..written_runs import build, finished, finished_runs  # noqa: F401
