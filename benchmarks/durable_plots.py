"""The two plots of the page: rate against concurrency, and cost against what is in the file.

Rates have logarithmic axes, because they differ by a factor of thirty; costs start at zero, because
the question is whether they are flat. A line is named at its end, and keeps its colour in both.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from peers import load

COLOURS = {
    "raw limit": "#767676",
    "headwater": "#0b6fb8",
    "litequeue": "#b5651d",
    "huey": "#8a4fa3",
    "persist-queue": "#2e8b57",
    "eventsourcing": "#b03a48",
}
GREY = "#555555"
APART = 0.05
"""How far names stand apart at least, as a share of the axis."""

Curve = Sequence[tuple[float, float]]


def draw_rates(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw events per second by number of publishers."""
    with figure(path) as (plt, axes):
        axes.set_title("Events published per second", loc="left", fontsize=11)
        axes.set_xlabel("publishers, each awaiting its event before the next")
        axes.set_yscale("log")
        axes.set_ylim(500, 200_000)
        lines(axes, curves)
        ticks(plt, axes.xaxis, sorted({x for curve in curves.values() for x, _ in curve}))
        ticks(plt, axes.yaxis, (1000, 3000, 10_000, 30_000, 100_000))


def draw_costs(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw microseconds per event by number of events in the file."""
    with figure(path) as (plt, axes):
        axes.set_title("Microseconds per event", loc="left", fontsize=11)
        axes.set_xlabel("events in the file")
        axes.set_ylim(0, 1.15 * max(y for curve in curves.values() for _, y in curve))
        lines(axes, curves)
        ticks(plt, axes.xaxis, sorted({x for curve in curves.values() for x, _ in curve}))


class figure:  # noqa: N801 - reads as a function
    """A drawing surface that is written to a file at the end, the same bytes for the same data."""

    def __init__(self, path: Path) -> None:
        self._path = path
        load("matplotlib").use("svg" if path.suffix == ".svg" else "agg")
        self._plt = load("matplotlib.pyplot")

    def __enter__(self) -> tuple[Any, Any]:
        style = {"svg.hashsalt": "headwater", "svg.fonttype": "path", "font.size": 10}
        self._plt.rcParams.update(style)
        self._figure, axes = self._plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        axes.set_xscale("log")
        axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY, which="both", length=0)
        axes.xaxis.label.set_color(GREY)
        return self._plt, axes

    def __exit__(self, *failure: object) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if self._path.suffix == ".svg" else None
        self._figure.savefig(self._path, facecolor="white", dpi=150, metadata=metadata)
        self._plt.close(self._figure)


def lines(axes: Any, curves: Mapping[str, Curve]) -> None:
    """Draw every curve, and its name at its end, apart from the other names."""
    heights = spaced(axes, {name: curve[-1][1] for name, curve in curves.items()})
    for name, curve in curves.items():
        owner, _, what = name.partition(", ")
        colour = COLOURS.get(owner, GREY)
        axes.plot(
            [x for x, _ in curve],
            [y for _, y in curve],
            color=colour,
            linestyle="--" if what == "settle" else "-",
            linewidth=2.4 if owner == "headwater" else 1.6,
            marker="o",
            markersize=4,
        )
        axes.annotate(
            name,
            (1.01, heights[name]),
            xycoords="axes fraction",
            va="center",
            color=colour,
            fontweight="bold" if owner == "headwater" else "normal",
            annotation_clip=False,
        )


def spaced(axes: Any, heights: Mapping[str, float]) -> dict[str, float]:
    """Return heights as shares of the axis; names that would overlap are moved up."""
    place = axes.transLimits.transform
    scale = axes.transScale.transform
    shares = {name: place(scale((1, height)))[1] for name, height in heights.items()}
    for lower, upper in pairwise(sorted(shares, key=lambda name: shares[name])):
        shares[upper] = max(shares[upper], shares[lower] + APART)
    return shares


def ticks(plt: Any, axis: Any, places: Sequence[float]) -> None:
    """Label these places with plain numbers, and no others."""
    axis.set_major_locator(plt.FixedLocator(places))
    axis.set_minor_locator(plt.NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
