"""Lists of flows: which are asked for, and which part of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from bottle import request

from flow_operator.api.parameters import Number, Parameter
from flow_operator.api.selectors import Selector, field_selector, label_selector
from flow_operator.model.status import FlowStatus

T = TypeVar("T")

LABELS = Parameter(
    "labelSelector",
    "Only flows with such labels, as Kubernetes writes it: `team=payments`, `tier!=gold`, "
    "`team in (a, b)`, `team notin (a, b)`, `team`, `!team`; a comma is an and.",
    example="team=payments",
)
FIELDS = Parameter(
    "fieldSelector",
    "Only flows whose status is so: `status=running,desired!=running`. Fields are flow_id, status, "
    "desired, source.kind, source.file, ready, reconciling and stalled.",
    example="status=running",
)
LIMIT = Number("limit", "At most so many; the header Link then names the rest.", None, 1, 100_000)
CONTINUE = Parameter("continue", "Only flows after this id; what Link holds.")

PAGES = (LABELS, FIELDS, LIMIT, CONTINUE)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which flows a request is about.

    Attributes:
        labels: what they must be; None is anything.
        fields: what those of the status must be; None is anything.
    """

    labels: Selector | None
    fields: Selector | None

    @property
    def everything(self) -> bool:
        """Whether nothing is asked of them."""
        return self.labels is None and self.fields is None

    def chooses(self, labels: Mapping[str, str], status: Callable[[], FlowStatus | None]) -> bool:
        """Whether a flow is meant; its status is only looked at if that matters."""
        if self.labels is not None and not self.labels.labels(labels):
            return False
        if self.fields is None:
            return True
        told = status()
        return told is not None and self.fields.fields(told)


def selection() -> Selection:
    """What the selectors of the request say.

    Raises:
        InvalidError: one of them cannot be read.
    """
    labels, fields = LABELS.text(), FIELDS.text()
    return Selection(
        None if labels is None else label_selector(labels),
        None if fields is None else field_selector(fields),
    )


def whole() -> bool:
    """Whether a list is asked for as it stands: what was encoded once can be sent again."""
    return not request.query


def page(found: Iterable[T], name: Callable[[T], str]) -> tuple[list[T], dict[str, str]]:
    """The part of a list that is asked for, with the header that names the next one.

    A part begins after a name, so that what comes or goes meanwhile neither doubles nor hides
    another.

    Args:
        found: the list, sorted by name.
        name: tells the name of an entry.

    Raises:
        InvalidError: the limit is none.
    """
    limit, after = LIMIT.read(), CONTINUE.text()
    rest = [entry for entry in found if after is None or name(entry) > after]
    if limit is None or len(rest) <= limit:
        return rest, {}
    part = rest[: int(limit)]
    return part, {"Link": f"<{_next(name(part[-1]))}>; rel=next"}


def _next(after: str) -> str:
    asked = [(key, value) for key, value in _asked() if key != CONTINUE.name]
    path = request.environ.get("SCRIPT_NAME", "") + request.environ.get("PATH_INFO", "")
    return f"{path}?{urlencode([*asked, (CONTINUE.name, after)])}"


def _asked() -> list[tuple[str, str]]:
    return [
        (key, value.encode("latin-1").decode("utf-8")) for key, value in request.query.allitems()
    ]
