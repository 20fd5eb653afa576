"""The command line, one file a command; the only part (beside `paczero.training.trainer`) that knows every other.

$ paczero train --config recipes/demo.yaml --mechanism.subsets 64

A command is a module with two functions, which `paczero.cli.main` finds by name:

    parser() -> CommandParser      its options and its help, without torch, so that `-h` answers at once
    run(namespace) -> int          does the work and returns the exit code
"""
