"""What a client of the API was told, and what must therefore be found later."""

from __future__ import annotations

from typing import Any

import httpx

from support import Flowd, make_document

GONE = "gone"

Act = tuple[str, str, Any, dict[str, str]]


def acts(number: int) -> list[Act]:
    """What a client does in one round: each request, and what it changes."""
    a, b, c = (f"{name}-{number}" for name in "abc")
    stopped, running = {"state": "stopped"}, {"state": "running"}
    batch = [
        make_document(a, **stopped),
        make_document(b, **running),
        make_document(c, **stopped),
    ]
    stop = {"command": "stop", "flow_ids": [a, b], "type": 1}
    return [
        ("POST", "/flows", batch, {a: "stopped", b: "running", c: "stopped"}),
        ("PUT", f"/flows/{c}", make_document(c, **running), {c: "running"}),
        ("PATCH", "/flows/commands?timeout=0", stop, {a: "stopped", b: "stopped"}),
        ("DELETE", f"/flows/{a}", None, {a: GONE}),
    ]


class Ledger:
    """The states that flows must have.

    Attributes:
        expected: flow id -> its desired state, as far as it was acknowledged.
        pending: what the request that was cut off would have changed.
        acknowledged: how many requests were.
    """

    def __init__(self, **expected: str) -> None:
        self.expected = expected
        self.pending: dict[str, str] = {}
        self.acknowledged = 0

    def carry_out(self, client: httpx.Client, number: int) -> bool:
        """Make the requests of one round; returns whether all of them were answered well."""
        for method, url, body, changes in acts(number):
            self.pending = changes
            try:
                answer = client.request(method, url, json=body)
            except httpx.TransportError:
                return False
            if answer.status_code == 503:
                return False
            assert answer.is_success, answer.text
            self.expected |= changes
            self.pending = {}
            self.acknowledged += 1
        return True

    def check(self, flowd: Flowd) -> None:
        """What an operator has is what was acknowledged, or that and what was under way."""
        flows = flowd.client.get("/flows").json()
        found = {flow["flow_id"]: flow["spec"].get("state", "running") for flow in flows}
        new = self.expected | self.pending
        assert found in (_present(self.expected), _present(new)), (self.pending, new)
        self.expected, self.pending = found, {}


def _present(states: dict[str, str]) -> dict[str, str]:
    return {name: state for name, state in states.items() if state != GONE}
