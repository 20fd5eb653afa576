"""`results.md`: the content of `results.json` for people. The same document gives the same bytes.

page(document, pictures={"cells.png"})
# '# Results\\n\\nAsking all halves to agree costs **0.9 points** …'
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from paczero.data.metrics import METRICS
from paczero.experiments import wording
from paczero.experiments.wording import Row
from paczero.utils.templates import template


def page(document: Row, pictures: Collection[str]) -> str:
    """The Markdown page.

    Args:
        document: the content of `results.json`.
        pictures: file names of the plots that lie beside the page.
    """
    tests: dict[tuple[str, int], list[int]] = {}
    for test in document["test"]:
        tests.setdefault((test["sha256"], test["records"]), []).append(test["seed"])
    return _render("results.md.j2", document, summary=summary(document), pictures=pictures, tests=tests)


def summary(document: Row) -> str:
    """What asking all halves to agree costs, in a sentence or two, or why the runs do not show it."""
    return _render("summary.md.j2", document).strip()


def _render(name: str, document: Row, **more: Any) -> str:
    metric = METRICS[document["metric"]]
    share = metric.share
    filters = {name: partial(getattr(wording, name), share=share) for name in ("figure", "spread", "difference")}
    filters["interval"] = partial(wording.interval, share=share)
    made = template(
        name,
        Path(__file__).parent / "templates",
        **filters,
        promise=wording.promise,
        success=wording.success,
        against=partial(wording.against, document=document),
        code=_code,
        escaped=lambda text: text.replace("|", "\\|"),
    )
    cells = {cell["cell"]: cell for cell in document["cells"]}
    return made.render(
        document=document, metric=metric, cells=cells, unit="%" if share else "nats", nothing=wording.NOTHING, **more
    )


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"
