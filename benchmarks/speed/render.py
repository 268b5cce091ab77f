"""The documentation of a result: ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from speed.figures import Figure, Figures, Result, slope
from speed.measures import (
    FLOOR,
    MEASURES,
    OURS,
    OWN,
    PARSE,
    PEERS,
    PYTHON_FLOOR,
    SHELL,
    Measure,
)
from speed.own import DRAIN_RATE

_COMPARED = frozenset({"start", "restart-p50", "restart-p99", "restart-alone", "add", "stop"})
"""Measures whose ratio to the floor is told: that of memory or of idling tells nothing, as the
floor keeps nothing and says nothing."""

INTRODUCTION = """\
# Performance

How fast flow-operator is, beside what the machine itself needs (the **floor**: a loop of
`posix_spawn` and pidfds in C, and the same in Python) and beside other supervisors. `make bench`
measures all of this and writes this page; do not edit it.

The work of each flow is a program in C that writes its pid and the time into shared memory the
moment it runs: that, and not what a supervisor says, is when a flow runs. A flow is gone when the
kernel says that its process has ended. All contenders run the same program, with their defaults
unless it is told below, and take turns in rounds. A figure is the median of the rounds, and a ratio
is the median of the ratios to the floor of the same round, so that what slowed both down cancels
out.

```console
$ make bench                                       # all of it; 20 minutes at most
$ make bench BENCH_ARGS=--quick                    # that it works, in a minute; not for figures
$ make bench BENCH_ARGS='--sizes 1000 --peers s6'  # a part of it
$ make bench BENCH_ARGS=--render                   # this page from docs/performance/results.json
```
"""

LEGEND = """
Beside a median stands how far the rounds were from each other, where it is more than a tenth. The
start of flow-operator includes the start of Python and the reading of the stored flows; its `add`
is a POST that is answered when it is durable; its status is the whole status of each flow. circus
tells a word of each, s6 and runit have no such call. s6 lets a second pass between two starts of
one service. PM2 is told to stop 20 at once, where its default is 2. Flows are killed one by one,
the next one after at most 50 ms; by itself after 0.3 s of quiet.
"""


def render(result: Result, plots: Sequence[str]) -> str:
    """The page, in Markdown."""
    figures = Figures(result.samples)
    parts = [
        INTRODUCTION,
        _machine(result, figures),
        *(_sizes(figures, plots)),
        _own(figures, plots),
        _data_path(figures, plots),
        _failures(result),
    ]
    return "\n".join(filter(None, parts))


# --- what it was measured on ------------------------------------------------------------------


def _machine(result: Result, figures: Figures) -> str:
    rows = [*result.machine.items(), ("noise", _noise(figures))]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    rows += [("versions", versions), ("the run took", f"{result.seconds / 60:.0f} minutes")]
    return "## The machine\n\n" + _table(("", ""), rows)


def _noise(figures: Figures) -> str:
    """How far apart the rounds of the floor itself are."""
    told = []
    for flows in sorted(figures.sizes(FLOOR, "start")):
        floor = figures.figure(FLOOR, "start", flows)
        if floor:
            told.append(f"{floor.spread:.0%} with {flows} flows")
    return "the slowest start of the floor in C was slower than its fastest by " + ", ".join(told)


# --- everybody --------------------------------------------------------------------------------


def _sizes(figures: Figures, plots: Sequence[str]) -> Iterable[str]:
    sizes = sorted(figures.sizes(OURS, "start"), key=lambda n: (n != _main(figures), n))
    for flows in sizes:
        text = f"## {flows:,} flows\n\n{_compared(figures, flows)}"
        if flows == _main(figures):
            text += "\n" + LEGEND + _picture(plots, "peers.svg", "contenders beside each other")
        yield text


def _main(figures: Figures) -> int:
    sizes = figures.sizes(OURS, "idle-cpu") or figures.sizes(OURS, "start")
    return sizes[0] if sizes else 0


def _compared(figures: Figures, flows: int) -> str:
    there = [name for name in PEERS if figures.figure(name, "start", flows)]
    head = ("", "floor, C", "floor, Python", "**flow-operator**", "x floor", "reach", "met", *there)
    rows = []
    for measure in MEASURES:
        ours = figures.figure(OURS, measure.name, flows)
        if ours is None:
            continue
        ratio = figures.ratio(OURS, measure.name, flows, FLOOR)
        cells = [_cell(figures, name, measure, flows) for name in (FLOOR, PYTHON_FLOOR)]
        compared = f"{ratio.median:.1f}" if ratio and measure.name in _COMPARED else ""
        cells += [f"**{_value(ours)}**", compared]
        cells += [*_judged(measure, flows, ours, ratio)]
        cells += [_cell(figures, name, measure, flows) for name in there]
        rows.append((f"{measure.title} ({measure.unit})", *cells))
    return _table(head, rows)


def _judged(measure: Measure, flows: int, ours: Figure, ratio: Figure | None) -> tuple[str, str]:
    """What should be reached, and whether it is."""
    reach = measure.reach.get(flows)
    if reach is None:
        return "", ""
    text = f"{reach.limit:g}"
    met = ours.median >= reach.limit if measure.more else ours.median <= reach.limit
    if reach.floors is not None:
        text += f", or {reach.floors:g} x floor"
        met = met or (ratio is not None and ratio.median <= reach.floors)
    return text, "yes" if met else "**no**"


def _cell(figures: Figures, who: str, measure: Measure, flows: int) -> str:
    figure = figures.figure(who, measure.name, flows)
    return _value(figure) if figure else ""


def _value(figure: Figure) -> str:
    """A median; and the spread, where it says something."""
    spread = f" ±{figure.spread / 2:.0%}" if figure.spread > 0.1 else ""  # noqa: PLR2004 - a tenth
    return f"{_number(figure.median)}{spread}"


def _number(value: float) -> str:
    """Three digits that count, and no exponent."""
    if not value:
        return "0"
    if value >= 100:  # noqa: PLR2004 - has three already
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.4f}"  # noqa: PLR2004 - no exponent


# --- this operator alone ----------------------------------------------------------------------


def _own(figures: Figures, plots: Sequence[str]) -> str:
    rows = []
    for measure in OWN:
        for flows in figures.sizes(OURS, measure.name):
            ours = figures.figure(OURS, measure.name, flows)
            if ours is not None:
                reach = _judged(measure, flows, ours, _start_ratio(figures, measure.name, flows))
                rows.append((measure.title, f"{flows:,}", f"**{_value(ours)}**", *reach))
    rows += _cold(figures)
    text = "## What only flow-operator does\n\n"
    text += _table(("", "flows", "s", "reach", "met"), rows)
    text += f"\n{_per_event(figures)}"
    return text + _picture(plots, "scale.svg", "by the number of flows")


def _start_ratio(figures: Figures, measure: str, flows: int) -> Figure | None:
    """What creates and starts all, to the floor's start of as many in the same round."""
    ours, floor = figures.rounds(OURS, measure, flows), figures.rounds(FLOOR, "start", flows)
    return Figure.of(ours[n] / floor[n] for n in ours.keys() & floor.keys())


def _cold(figures: Figures) -> list[tuple[str, ...]]:
    """The bare parser and the floor for as many, and what both say should be reached."""
    rows = []
    for flows in figures.sizes(OURS, "cold-start"):
        parse, floor, ours = (
            figures.figure(who, "cold-start", flows) for who in (PARSE, FLOOR, OURS)
        )
        if parse and floor and ours:
            limit = parse.median + 2 * floor.median
            met = "yes" if ours.median <= limit else "**no**"
            text = f"parsing and twice the floor: {_number(limit)}"
            rows += [
                ("the manifests through CSafeLoader alone", f"{flows:,}", _value(parse), "", ""),
                ("the floor in C for as many", f"{flows:,}", _value(floor), text, met),
            ]
    return rows


def _per_event(figures: Figures) -> str:
    """What one restart costs must not depend on how many flows there are."""
    told = []
    for flows in figures.sizes(OURS, "restart-cpu"):
        figure = figures.figure(OURS, "restart-cpu", flows)
        told.append(f"{_number(figure.median)} ms with {flows:,}" if figure else "")
    text = "Processor time of one restart, by the number of flows: " + ", ".join(told) + ".\n"
    points = [
        (flows, figure.median)
        for flows in figures.sizes(OURS, "memory")
        if (figure := figures.figure(OURS, "memory", flows))
    ]
    if len(points) > 1:
        text += f"Memory: {slope(points) * 1024:.1f} kB for each flow more.\n"
    return text


# --- bytes and drains -------------------------------------------------------------------------


def _data_path(figures: Figures, plots: Sequence[str]) -> str:
    flow, shell = (figures.figure(who, "pipeline", 1) for who in (OURS, SHELL))
    ratio = figures.ratio(OURS, "pipeline", 1, SHELL)
    text = "## Bytes\n\n"
    if flow and shell and ratio:
        text += (
            f"Three steps joined by pipes move {flow.median / 1e9:.2f} GB/s as a flow and "
            f"{shell.median / 1e9:.2f} GB/s in a shell, {ratio.median:.2f} times as much "
            f"({ratio.least:.2f} to {ratio.most:.2f}): bytes never pass the operator.\n\n"
        )
    rows = []
    for size in figures.sizes(OURS, "drain"):
        figure = figures.figure(OURS, "drain", size)
        if figure:
            rows.append((str(size), _value(figure), _number(size * 1024 / DRAIN_RATE)))
    text += (
        "A soft stop of a source and a slow sink, by what the sink had before it; all of it "
        f"arrives, and the sink takes {DRAIN_RATE // 1024} KiB a second:\n\n"
    )
    text += _table(("KiB in the pipe", "s until all was gone", "s that the sink needs"), rows)
    return text + _picture(plots, "drain.svg", "drains by what is in the pipe")


def _failures(result: Result) -> str:
    lines = [f"- {name}: not here, {why}" for name, why in result.missing.items()]
    lines += [f"- {failure}" for failure in result.failures]
    lines.append(
        "- process-compose: Debian, PyPI and npm do not have it, Go's proxy refuses it (403)."
    )
    return "## What was not measured\n\n" + "\n".join(lines) + "\n"


def _picture(plots: Sequence[str], name: str, title: str) -> str:
    return f"\n![{title}](performance/{name})\n" if name in plots else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    if len(lines) == 2:  # noqa: PLR2004 - none but the head
        return "Nothing was measured.\n"
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
