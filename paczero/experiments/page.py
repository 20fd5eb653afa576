"""`results.md`: what `results.json` says, for people. The same document gives the same bytes.

page(document, pictures={"cells.png"})
# '# Results\\n\\nAsking all halves to agree costs **0.9 points** …'
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from paczero.data.metrics import METRICS
from paczero.experiments import wording
from paczero.experiments.wording import NOTHING
from paczero.utils.templates import template

Row = Mapping[str, Any]

_DRAWN = {
    "records": "the test records; of one seed nothing is known about the spread over seeds",
    "crossed": "seeds and over test records, which are the same for all seeds",
    "nested": "seeds and, for each drawn seed, over the records of its own test set",
}

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def page(document: Row, pictures: Collection[str]) -> str:
    """The Markdown page.

    Args:
        document: the content of `results.json`.
        pictures: file names of the figures that lie beside the page.
    """
    metric = METRICS[document["metric"]]
    cells = document["cells"]
    return template("results.md.j2", Path(__file__).parent / "templates", code=_code).render(
        document=document,
        summary=summary(document),
        title=metric.title[0].upper() + metric.title[1:],
        drawn=_DRAWN.get(document["bootstrap"]["design"]),
        of_metric=f"Test and selection figures are {metric.title} in {'%' if metric.share else 'nats'}",
        pictures=pictures,
        table=_table,
        main=_main(document),
        settings=_settings(cells),
        mechanisms=_mechanisms(cells),
        paper=_paper(document),
        private=any(cell["epsilon"] is not None for cell in cells),
        few=max(len(cell["seeds"]) for cell in cells) < 10,
        choices=_choices(document),
        aside=_aside(document),
        tests=_tests(document["test"]),
    )


def summary(document: Row) -> str:
    """What asking all halves to agree costs, in a sentence or two, or why that cannot be said."""
    metric = METRICS[document["metric"]]
    cells = {cell["cell"]: cell for cell in document["cells"]}
    base, private = cells.get(document["baseline"]), cells.get(document["private"])
    if base is None or private is None or document["gap_points"] is None:
        lacking = [
            f"{what}: {document['chosen'][name]}"
            for name, what, cell in (
                ("baseline", "a cell without privacy (`none`)", base),
                ("private", "a cell with I = 0 (`zpl`)", private),
            )
            if cell is None
        ]
        why = "; ".join(lacking) or "the two cells have no seed in common that was scored on a test set"
        return f"What asking all halves to agree costs cannot be said from these runs ({why})."
    unit = document["unit"]

    def said(value: float, ends: list[float] | None) -> str:
        text = wording.difference(value, metric.share).removeprefix("+")
        inside = wording.interval(ends, metric.share)
        return f"**{text} {unit}**" + (f" (95 % interval {inside})" if inside else "")

    percent = " %" if metric.share else " nats"
    sentences = [
        f"Asking all halves to agree costs {said(document['gap_points'], document['gap_ci95'])} of {metric.title}: "
        f"{wording.figure(base['mean'], metric.share)}{percent} with {_named(base)}, "
        f"{wording.figure(private['mean'], metric.share)}{percent} with {_named(private)}; "
        f"{_seeds(private['difference_seeds'])}."
    ]
    if document["gap_points_random"] is not None and document["random"] != document["private"]:
        gap = said(document["gap_points_random"], document["gap_ci95_random"])
        sentences.append(f"With random candidates ({_code(document['random'])}) it is {gap}.")
    if document["none_gain_points"] is not None:
        gain = wording.difference(document["none_gain_points"], metric.share)
        of = "the better of the two untuned figures" if document["untuned_median"] else "the untuned model"
        sentences.append(f"Tuning without it ({_code(document['baseline'])}) gains {gain} {unit} over {of}.")
    return "\n".join(sentences)


def _named(cell: Row) -> str:
    return f"{_code(cell['cell'])} ({cell['mechanism']}, {wording.promise(cell)})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"means over {len(seeds)} seeds" if len(seeds) > 1 else "one seed only"


def _main(document: Row) -> Table:
    metric = METRICS[document["metric"]]
    share, unit = metric.share, "%" if metric.share else "nats"
    base = document["baseline"]
    heads = ("cell", "mechanism", "family", "M", "promise", "p ≤", f"test, {unit}", "each seed")
    against = f"to {_code(base)}, {document['unit']}" if base else "difference"
    rows = []
    for name, label in (("untuned", "*untuned*"), ("untuned_median", "*untuned, decided at the median score*")):
        if known := document[name]:
            each = ", ".join(wording.figure(value, share) for value in known["values"])
            rows.append([label, *[""] * 5, wording.spread(known["mean"], known["sd"], share), each, *[""] * 3])
    for cell in document["cells"]:
        rows.append(
            [
                _code(cell["cell"]),
                cell["mechanism"],
                cell["family"] or "",
                "" if cell["subsets"] is None else f"{cell['subsets']:,}",
                wording.promise(cell),
                wording.success(cell),
                wording.spread(cell["mean"], cell["sd"], share),
                wording.per_seed(cell, share),
                wording.against(cell, document),
                wording.figure(cell["dev_mean"], share),
                "" if cell["unanimity"] is None else f"{100 * cell['unanimity']:.0f}",
            ]
        )
    return (*heads, against, f"selection, {unit}", "unanimous, %"), rows


def _settings(cells: Sequence[Row]) -> Table:
    rows = [
        [
            _code(cell["cell"]),
            f"{cell['learning_rate']:g}",
            f"{cell['steps']:,}",
            f"{cell['directions']:,}",
            NOTHING if cell["clip"] is None else f"{cell['clip']:g}",
            f"{cell['units']:,}",
            ", ".join(map(str, cell["seeds"])),
            NOTHING if cell["seconds"] is None else f"{cell['seconds']:.0f}",
        ]
        for cell in cells
    ]
    return ("cell", "η", "steps T", "K", "clip", "units N", "seeds", "seconds a run"), rows


def _mechanisms(cells: Sequence[Row]) -> Table:
    known = {cell["mechanism"]: cell for cell in cells}
    return ("mechanism", "what a step releases", "hides"), [
        [name, cell["described"], cell["hides"]] for name, cell in known.items()
    ]


def _paper(document: Row) -> Table:
    paper = document["paper"]
    if not paper:
        return (), ()
    share = METRICS[document["metric"]].share
    cells = {cell["cell"]: cell for cell in document["cells"]}
    rows = []
    for row in paper["rows"]:
        ours = cells.get(row["cell"])
        what = row["mechanism"] + (f", {row['budget']:g} nats" if row["budget"] is not None else "")
        ours_said = wording.spread(ours["mean"], ours["sd"], share) if ours else NOTHING
        rows.append([what, row["paper"] or "", ours_said, _code(ours["cell"]) if ours else ""])
    theirs = "paper, %" if paper["comparable"] else "paper, % (another model)"
    return ("mechanism", theirs, "here, %", "cell"), rows


def _choices(document: Row) -> list[str]:
    chosen = document["chosen"]
    whats = {"baseline": "Baseline", "private": "Private cell", "random": "Private cell of random candidates"}
    return [
        f"{what}: {_code(document[name]) if document[name] else 'none'} ({chosen[name]})."
        for name, what in whats.items()
    ]


def _aside(document: Row) -> Table:
    """What was not chosen, with its figures on the selection sets."""
    metric = METRICS[document["metric"]]
    known = {cell["cell"]: cell for cell in document["cells"]}
    rows = [
        [
            _code(row["instead"]),
            str(row["value"]),
            wording.figure(row["dev_mean"], metric.share),
            wording.figure(known[row["instead"]]["dev_mean"], metric.share),
        ]
        for row in document["set_aside"]
    ]
    unit = "%" if metric.share else "nats"
    return (
        "cell",
        f"{document['chosen_setting']} that was not chosen",
        f"its selection, {unit}",
        "of the chosen",
    ), rows


def _tests(tests: Sequence[Row]) -> list[str]:
    """A line a test set."""
    groups: dict[tuple[str, int], list[int]] = {}
    for test in tests:
        groups.setdefault((test["sha256"], test["records"]), []).append(test["seed"])
    return [
        f"{records:,} records, SHA-256 {_code(sha)} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
        for (sha, records), seeds in groups.items()
    ] or ["none"]


def _code(text: str) -> str:
    plain = text.replace("`", "'")
    return f"`{plain}`"


def _table(table: Table) -> str:
    """Markdown; a bar inside a cell is escaped."""
    heads, rows = table
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
