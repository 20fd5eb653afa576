"""The two kinds of refusal. Each message says in one line what was given, what was expected and what to do.

The command line prints either as `paczero: error: …`, without a traceback, and exits with its code.
"""


class PACZeroError(ValueError):
    """What was given cannot be used: a file, a value, a combination of settings."""

    exit_code = 2


class IntegrityError(PACZeroError):
    """Something that must agree does not: a changed bit, a missing step, another pool, base model or weights."""

    exit_code = 1
