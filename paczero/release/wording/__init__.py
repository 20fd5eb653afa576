"""The sentences on what a run promises: versioned templates, rendered from the run's public facts.

Each folder `vN` is one wording: the promise, its limits, what weakens it (from wording 2 on), three short sentences,
one line for the mechanism, and the model card. A release names its wording in `privacy.json`, and `paczero verify`
renders that version again and compares. So a published wording never changes (tests/fixtures/wording-N.json hold its
sentences). To improve the English, copy the newest folder to the next number, edit the copy, and add the number to
`VERSIONS`.

    hidden, not_hidden, helps = sentences(header)
    limits(header)[0]       # 'Membership in the pool is not hidden. …'
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.mechanism.registry import spec_of
from paczero.release.guarantee import epsilon, half, rounded_up, success, total_nats, verdict
from paczero.release.wording.labels import delta_in_words
from paczero.utils.templates import template

if TYPE_CHECKING:
    import jinja2

VERSIONS = (1, 2)

NEWEST = VERSIONS[-1]

Header = Mapping[str, Any]


def promise(header: Header, version: int = NEWEST) -> str:
    """The promise, in one paragraph."""
    (paragraph,) = _paragraphs("promise", header, version)
    return paragraph


def limits(header: Header, version: int = NEWEST) -> list[str]:
    """The limits of the promise, one an entry; as complete as we know for the header's mechanism."""
    return _paragraphs("limits", header, version)


def sentences(header: Header, version: int = NEWEST) -> list[str]:
    """Three sentences: on what is hidden, on what is not hidden, and on what helps."""
    return _paragraphs("sentences", header, version)


def mechanism_line(header: Header, version: int = NEWEST) -> str:
    """The mechanism's name, a colon, and what it releases."""
    (line,) = _paragraphs("mechanism", header, version)
    return line


def weak(header: Header, version: int = NEWEST) -> list[str]:
    """Why a promise that is kept promises little: a δ of 1/N or more, a p of nearly 1. None of it before wording 2."""
    return _paragraphs("weak", header, version) if version > 1 else []


def card(header: Header, version: int = NEWEST, **values: Any) -> str:
    """The model card in Markdown.

    Args:
        values: more values for the template; see `release.model_card`.
    """
    return _render(
        "card",
        header,
        version,
        brief=sentences(header, version),
        promise=promise(header, version),
        not_promised=limits(header, version),
        weak=weak(header, version),
        **values,
    )


def _paragraphs(name: str, header: Header, version: int) -> list[str]:
    """A template's paragraphs, which blank lines separate, each with single spaces."""
    texts = (" ".join(text.split()) for text in re.split(r"\n\s*\n", _render(name, header, version)))
    return [text for text in texts if text]


def _render(name: str, header: Header, version: int, **values: Any) -> str:
    spec, epsilon_ = spec_of(header["mechanism"]["name"]), epsilon(header)
    return _template(name, version).render(
        header=header,
        mechanism=header["mechanism"],
        name=spec.name,
        hides=spec.hides,
        zero=spec.zero,
        verdict=verdict(header),
        p=rounded_up(success(header)),
        success=success(header),
        epsilon=None if epsilon_ is None else rounded_up(epsilon_),
        half=half(header),
        total=total_nats(header),
        earlier=" + ".join(f"{nats:g}" for nats in header.get("prior_budgets", ())),
        delta=delta_in_words(header) if spec.is_dp else None,
        known=max(1, math.ceil(math.log2(header["subsets"]))),
        **values,
    )


@cache
def _template(name: str, version: int) -> "jinja2.Template":
    filters: dict[str, Callable[..., Any]] = {
        "code": code,
        "literal": json.dumps,
        "general": "{:g}".format,
        "thousands": "{:,}".format,
    }
    return template(f"{name}.md.j2", Path(__file__).parent / f"v{version}", **filters)


def code(value: object) -> str:
    """A text as inline code, safe in Markdown, its tables and HTML.

    >>> code("a | b"), code("a `b`")
    ('`a \\\\| b`', '`` a `b` ``')
    """
    text = " ".join(str(value).split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    edge = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{edge}{text}{edge}{fence}"
