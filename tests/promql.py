"""Whether expressions speak of metrics and labels that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser

from scrapes import Scrape

OF_PROMETHEUS = frozenset({"job", "instance"})
"""Labels that are added when something is scraped."""

Labels = Mapping[str, frozenset[str]]


def labels_of(scrape: Scrape) -> Labels:
    """The labels that each metric has, by its name; ``up`` is Prometheus' own."""
    known = {"up": OF_PROMETHEUS}
    for name, labels in scrape.series():
        known[name] = known.get(name, OF_PROMETHEUS) | {label for label, _ in labels}
    return known


def check(expression: str, known: Labels) -> None:
    """Parse an expression, and look at what it selects and what it groups by.

    Raises:
        AssertionError: it speaks of something that is not there.
        ValueError: it is none.
    """
    for variable, value in {"$__rate_interval": "5m", "$__range": "1h"}.items():
        expression = expression.replace(variable, value)
    nodes = list(_nodes(promql_parser.parse(expression)))
    selectors = [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]
    assert selectors, f"nothing is selected: {expression}"
    for selector in selectors:
        assert selector.name in known, f"there is no {selector.name}: {expression}"
        matched = {matcher.name for matcher in selector.matchers.matchers}
        strange = matched - known[selector.name]
        assert not strange, f"{selector.name} has no label {strange}: {expression}"
    for node in nodes:
        strange = _grouped(node) - _within(node, known)
        assert not strange, f"nothing has the label {strange}: {expression}"


def _nodes(node: Any) -> Iterator[Any]:
    """A parsed expression with all that is in it."""
    yield node
    names = ("expr", "lhs", "rhs", "vector_selector", "param")
    parts = [getattr(node, name, None) for name in names]
    for part in [*parts, *(getattr(node, "args", None) or ())]:
        if part is not None:
            yield from _nodes(part)


def _grouped(node: Any) -> set[str]:
    """The labels by which an expression is grouped or joined."""
    modifier = getattr(node, "modifier", None)
    labels = set(getattr(modifier, "labels", None) or ())
    matching = getattr(modifier, "matching", None)
    return labels | set(getattr(matching, "labels", None) or ())


def _within(node: Any, known: Labels) -> set[str]:
    """All labels of what is selected within an expression."""
    found: set[str] = set()
    for part in _nodes(node):
        if isinstance(part, promql_parser.VectorSelector):
            found |= known.get(part.name, frozenset())
    return found
