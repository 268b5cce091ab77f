"""Plots of a result, as SVG. matplotlib comes with the extra ``bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from speed.figures import Figures, Result
from speed.measures import BY_NAME, FLOOR, OURS, PEERS, PYTHON_FLOOR
from speed.own import DRAIN_RATE

CONTENDERS = (OURS, FLOOR, PYTHON_FLOOR, *PEERS)
_COLOURS = dict(
    zip(
        CONTENDERS,
        ("#d62728", "#000000", "#7f7f7f", "#1f77b4", "#17becf", "#2ca02c", "#9467bd", "#ff7f0e"),
        strict=True,
    )
)
BARS = {
    "start": "start all",
    "restart-p50": "restart after kill -9, p50",
    "add": "add one",
    "status-rate": "status of all, 8 clients",
    "stop": "stop all",
    "memory": "memory (PSS)",
}
"""What contenders are shown beside each other in, with short titles."""

CURVES = ("start", "restart-cpu")


def draw(result: Result, directory: Path) -> list[str]:
    """Write the plots; the names of their files. None without matplotlib, which stderr is told."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - it is optional
    except ImportError:
        print("no plots: matplotlib is missing, which `make bench` installs", file=sys.stderr)
        return []
    # The same figures give the same file.
    plt.rcParams.update({"svg.hashsalt": "flow-operator", "font.size": 9, "axes.grid": True})
    figures = Figures(result.samples)
    drawn = []
    for name, plot in (("peers", _bars), ("scale", _curves), ("drain", _drain)):
        figure = plot(plt, figures)
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        drawn.append(f"{name}.svg")
    return drawn


def _main_size(figures: Figures) -> int:
    """The number of flows that most was measured with."""
    sizes = figures.sizes(OURS, "idle-cpu") or figures.sizes(OURS, "start")
    return sizes[0] if sizes else 0


def _bars(plt: Any, figures: Figures) -> Any:
    """Everybody beside each other, on logarithmic axes: they differ by orders of magnitude."""
    flows = _main_size(figures)
    there = [who for who in CONTENDERS if figures.figure(who, "start", flows)]
    figure, axes = plt.subplots(2, 3, figsize=(11, 5), sharey=True, layout="constrained")
    for place, (name, title) in zip(axes.flat, BARS.items(), strict=True):
        rows = [(who, figures.figure(who, name, flows)) for who in there]
        found = {who: figure.median for who, figure in rows if figure and figure.median}
        place.set_yticks(range(len(there)), there)
        place.set_ylim(len(there) - 0.4, -0.6)
        for who, value in found.items():
            place.barh(there.index(who), value, color=_COLOURS[who])
            text = f" {value:,.0f}" if value >= 100 else f" {value:.2g}"  # noqa: PLR2004
            place.text(value, there.index(who), text, va="center", fontsize=8)
        place.set_xscale("log")
        place.minorticks_off()
        place.grid(visible=False)
        place.margins(x=0.25)
        better = "more" if BY_NAME[name].more else "less"
        place.set_title(f"{title} ({BY_NAME[name].unit}, {better} is better)", fontsize=9)
    figure.suptitle(f"{flows:,} flows")
    return figure


def _curves(plt: Any, figures: Figures) -> Any:
    """By the number of flows."""
    figure, axes = plt.subplots(1, len(CURVES), figsize=(10, 3.6), layout="constrained")
    for place, name in zip(axes, CURVES, strict=True):
        for who in CONTENDERS:
            sizes = figures.sizes(who, name)
            values = [figures.figure(who, name, size) for size in sizes]
            medians = [value.median for value in values if value]
            if medians:
                place.plot(sizes, medians, "o-", markersize=4, label=who, color=_COLOURS[who])
        place.set(xscale="log", yscale="log", xlabel="flows", ylabel=BY_NAME[name].unit)
        place.xaxis.set_major_formatter("{x:,.0f}")
        place.yaxis.set_major_formatter("{x:g}")
        place.minorticks_off()
        place.set_title(BY_NAME[name].title, fontsize=9)
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _drain(plt: Any, figures: Figures) -> Any:
    """How long a soft stop takes, and how long the sink needs for what is left."""
    figure, place = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    sizes = figures.sizes(OURS, "drain")
    values = [figures.figure(OURS, "drain", size) for size in sizes]
    place.plot(
        sizes,
        [value.median for value in values if value],
        "o",
        color=_COLOURS[OURS],
        label="measured",
    )
    ends = [0, max(sizes, default=1)]
    needed = [size * 1024 / DRAIN_RATE for size in ends]
    place.plot(ends, needed, "--", color="black", label="what the sink needs for it")
    place.set(xlabel="KiB in the pipe when it was stopped", ylabel="s until all was gone")
    place.legend(fontsize=8)
    return figure
