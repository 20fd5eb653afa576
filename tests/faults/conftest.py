"""The command line in this process, as its own tests run it."""

from ..cli.conftest import arguments, paczero, refusal  # noqa: F401 (fixtures)
