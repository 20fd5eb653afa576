"""`paczero train`: one run, new or resumed.

$ paczero train --config demo --output_dir runs/first
$ paczero train --resume runs/first
$ torchrun --nproc_per_node 2 -m paczero train --config demo --output_dir runs/first
"""

import sys
from argparse import Namespace
from pathlib import Path

from paczero.cli.launcher import joined, live_on
from paczero.cli.parser import SettingsParser, parser_for_train
from paczero.cli.training import train_run
from paczero.config import RESUMABLE_SETTINGS
from paczero.config_io import RunSettings, build_settings, dump_settings, flatten, load_settings, merge
from paczero.errors import PACZeroError
from paczero.report.summary import closing, read_summary, summary_path
from paczero.run_directory import RunDirectory

# What may differ in a resumed run: where the same model and records lie now, how it is watched and computed.
_PLACES = frozenset({"model", "data.train", "data.dev", "data.test"})


def parser() -> SettingsParser:
    return parser_for_train()


def run(namespace: Namespace) -> int:
    if namespace.print_settings:
        print(dump_settings(_settings(namespace)), end="")
        return 0
    # A resumed run's settings are in its directory, which rank 0 has; all else is refused before processes meet.
    given = build_settings(namespace.settings) if namespace.resume is None else None
    with joined() as group, live_on(group) as live:
        settings = given or group.broadcast_from_main(lambda: resumed_settings(namespace))
        directory = RunDirectory(Path(settings.args.output_dir))
        resume = given is None
        if resume and group.is_main and directory.finished and summary_path(directory).exists():
            print(f"{directory.root} is finished already; nothing was done.", file=sys.stderr)
        moved = namespace.settings.get("model") if resume else None
        train_run(settings, live=live, resume=resume, secret=namespace.secret, model=moved)
        group.on_main(lambda: print(closing(read_summary(directory), directory)))
    return 0


def _settings(namespace: Namespace) -> RunSettings:
    return build_settings(namespace.settings) if namespace.resume is None else resumed_settings(namespace)


def resumed_settings(namespace: Namespace) -> RunSettings:
    """The settings in RUN/config.yaml, with what may differ in a resumed run taken from the flags.

    Raises:
        PACZeroError: there is no run, or a flag would change what it computes.
    """
    directory = RunDirectory(Path(namespace.resume))
    directory.require_run()
    if namespace.secret is not None:
        raise PACZeroError("--secret: given with --resume; a run keeps the secret that it began with. Leave it out")
    given = namespace.settings
    changed = sorted(key for key in given.keys() - _PLACES if key.partition(".")[0] not in RESUMABLE_SETTINGS)
    if changed:
        raise PACZeroError(
            f"--{changed[0]}: given with --resume; a run goes on under the settings in {str(directory.config)!r}, of "
            f"which only {', '.join(sorted(_PLACES | RESUMABLE_SETTINGS))} may be given anew. Leave it out, or begin "
            "another run"
        )
    begun = flatten(load_settings(directory.config))
    return build_settings(merge(begun, given) | {"model": begun["model"], "output_dir": namespace.resume})
