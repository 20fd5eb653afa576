"""The command line in this process, as its own tests run it."""

from ..command_line import arguments, paczero, refusal  # noqa: F401 (fixtures)
