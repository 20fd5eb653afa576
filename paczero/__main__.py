"""`python -m paczero …` is the command `paczero …`."""

import sys

from paczero.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
