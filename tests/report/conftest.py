"""Run directories that are written by hand."""

from ..written_runs import build, finished, finished_runs  # noqa: F401
