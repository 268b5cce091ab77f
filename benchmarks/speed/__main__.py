"""Measures, writes what was measured as JSON, and renders the documentation from it.

``make bench``, or ``PYTHONPATH=benchmarks .venv/bin/python -m speed --help``.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import msgspec

from speed.figures import Result
from speed.plan import Plan
from speed.plots import draw
from speed.render import render
from speed.schedule import Run

ROOT = Path(__file__).parent.parent.parent


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n")[0])
    plan = Plan()
    parser.add_argument("--quick", action="store_true", help="few flows, once, without peers")
    parser.add_argument("--sizes", type=_numbers, default=plan.sizes, help="numbers of flows")
    parser.add_argument(
        "--rounds", type=int, default=plan.rounds, help="how often each is measured"
    )
    parser.add_argument("--peers", type=_words, default=plan.peers, help="which ones; '' is none")
    parser.add_argument(
        "--folder", type=int, default=plan.folder, help="manifests of the cold start"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=plan.budget / 60,
        help="minutes after which nothing is begun",
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where to render to")
    parser.add_argument("--render", action="store_true", help="render what was measured before")
    return parser


def _plan(given: argparse.Namespace) -> Plan:
    if given.quick:
        return Plan.quick()
    return Plan(
        sizes=given.sizes,
        rounds=given.rounds,
        peers=given.peers,
        folder=given.folder,
        budget=given.budget * 60,
    )


def _end(number: int, _frame: object) -> None:
    """End in order: every contender that runs is ended on the way out."""
    sys.exit(f"ended by {signal.Signals(number).name}; nothing is written")


def main() -> None:
    """Entry point."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    given = _parser().parse_args()
    kept = given.docs / "performance/results.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if given.render:
        result = msgspec.json.decode(kept.read_bytes(), type=Result)
    else:
        try:
            result = Run(_plan(given)).run()
        except FileNotFoundError as error:
            sys.exit(f"make bench: {error}")
        kept.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    plots = draw(result, kept.parent)
    (given.docs / "performance.md").write_text(render(result, plots))
    for failure in result.failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(f"{given.docs / 'performance.md'} is written", file=sys.stderr)


if __name__ == "__main__":
    main()
