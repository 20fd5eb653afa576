"""Runs of the tiny model through the command line."""

from ..command_line import arguments, finished, finished_full, finished_full_once, finished_once, paczero, refusal  # noqa: F401
