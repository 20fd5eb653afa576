"""Figures: PNGs of a sane size, drawn from anything a run can hold, the same bytes each time."""

import struct
from typing import Any

import matplotlib
import pytest

from paczero.mechanism.registry import SPECS
from paczero.release import plots
from paczero.release.statement import Development

from ..written_runs import development, make_header

pytestmark = pytest.mark.usefixtures("drawn_figures")


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) > 5000
    return struct.unpack(">II", png[16:24])


def test_every_figure_has_a_sane_size_and_no_metadata() -> None:
    header = make_header("mi")
    pictures = [
        plots.boundary(header),
        plots.unanimity(range(40), [1.0, 0.0] * 20, [0.005 * t for t in range(40)], header),
        plots.development(development(40), header, 20),
        plots.posterior(header),
        plots.released([[1], [-1]] * 20, header),
    ]
    for png in pictures:
        width, height = size(png)
        assert 1000 <= width <= 1800 and 250 <= height <= 1000
        assert b"tEXt" not in png and b"tIME" not in png
    assert pictures[3] == plots.posterior(header)


@pytest.mark.parametrize("name", SPECS)
def test_the_boundary_is_drawn_for_each_mechanism(name: str) -> None:
    size(plots.boundary(make_header(name, directions=4, steps=20_000)))


@pytest.mark.parametrize("budget", [0.0, 1e-9, 0.2, 0.6, 0.6931, 0.9, 5.0])
def test_posterior_at_any_budget(budget: float) -> None:
    size(plots.posterior(make_header("mi", budget=budget)))


@pytest.mark.parametrize("y", [[[1]], [[1, -1]] * 3, [[-1] * 4] * 1000])
def test_released_bits_of_any_number(y: list[list[float]]) -> None:
    size(plots.released(y, make_header(directions=len(y[0]))))


@pytest.mark.parametrize("y", [[[0.0]], [[1e-300, -2e300]], [[0.1], [-0.2]]])
def test_released_real_values(y: list[list[float]]) -> None:
    size(plots.released(y, make_header("none")))


@pytest.mark.parametrize(
    "dev",
    [
        Development((0,), (0.5,)),
        Development((0, 40), (0.0, 1.0), untuned=0.0, untuned_median=0.001),
        Development((0, 40), (0.5, 0.5), untuned=0.5, untuned_median=0.5, records=3),
    ],
)
def test_development_where_lines_meet(dev: Development) -> None:
    size(plots.development(dev, make_header(), 40))


def test_one_step_is_enough() -> None:
    size(plots.unanimity([0], [0.0], [0.0], make_header("mi", budget=0.0, steps=1)))


def test_a_users_style_changes_no_figure() -> None:
    header = make_header()
    expected = plots.posterior(header)
    changes: dict[str, Any] = {"font.size": 30, "axes.facecolor": "black", "text.usetex": True}
    with matplotlib.rc_context(changes):
        assert plots.posterior(header) == expected


def test_moving_share() -> None:
    assert plots.moving_share([1, 0, 0, 1], 2) == [1.0, 0.5, 0.0, 0.5]


def test_the_untuned_figure_is_the_one_at_step_0() -> None:
    dev = Development((0, 40), (0.6, 0.7))
    assert dev.completed(make_header(threshold="median")).untuned_median == 0.6
    assert dev.completed(make_header(threshold="none")).untuned == 0.6
    assert Development((20, 40), (0.6, 0.7)).completed(make_header()).untuned is None
    given = development(40)
    assert given.completed(make_header()) == given
