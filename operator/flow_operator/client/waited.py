"""Waiting until flows are where they should be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from flow_operator.client.changes import Change
from flow_operator.client.errors import NOT_FOUND, LateError, NotFound
from flow_operator.client.wire import JsonObject

Until = str | Collection[str] | Callable[[JsonObject], bool]
"""A status, several of which one will do, or what tells by a whole status."""

DELETED = "deleted"
"""What :meth:`FlowClient.wait_for` calls it that there is no such flow any more."""


class Waited:
    """Whether flows are where they are waited for, by the statuses that were seen last.

    Args:
        names: of the flows.
        until: where they are to get.
        seen: the statuses to begin with, by flow_id.

    Raises:
        NotFound: there is none of a name.
    """

    def __init__(self, names: Iterable[str], until: Until, seen: Mapping[str, JsonObject]) -> None:
        self._deleted = until == DELETED
        self._until = until
        self.statuses: dict[str, JsonObject] = {}
        for name in names:
            if name in seen:
                self.statuses[name] = seen[name]
            else:
                self._missing(name)

    def take(self, change: Change) -> None:
        """One change; of other flows it is none.

        Raises:
            NotFound: the flow was deleted.
        """
        name: str = change.object["flow_id"]
        if name not in self.statuses:
            return
        self.statuses[name] = change.object
        if change.type == "DELETED":
            del self.statuses[name]
            self._missing(name)

    def over(self) -> bool:
        """Whether all are there."""
        return not self.late()

    def late(self) -> dict[str, JsonObject]:
        """Those that are not, by flow_id."""
        return {name: told for name, told in self.statuses.items() if not self._reached(told)}

    def error(self, timeout: float) -> LateError:
        """What is raised when time is up."""
        late = self.late()
        doing = ", ".join(f"{name} is {told.get('status')}" for name, told in late.items())
        wanted = self._until if isinstance(self._until, str) else "as it should be"
        said = f"not {wanted} after {timeout:g}s: {doing}; it goes on: look again, or wait longer"
        return LateError(said, late)

    def _reached(self, status: JsonObject) -> bool:
        if callable(self._until):
            return self._until(status)
        if isinstance(self._until, str):
            return bool(status["status"] == self._until)
        return status["status"] in self._until

    def _missing(self, name: str) -> None:
        if not self._deleted:
            raise NotFound(
                NOT_FOUND, f"There is no flow '{name}'. GET /flows lists those that exist."
            )
