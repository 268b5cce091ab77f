"""Which role each request needs."""

from __future__ import annotations

import itertools

import pytest

from flow_operator.api.roles import Role, role_needed

READS = ("GET", "HEAD", "OPTIONS", "get")
WRITES = ("POST", "PUT", "PATCH", "DELETE", "TRACE", "ANY", "PROXY", "CONNECT", "X", "", "patch")


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize(
    "path",
    [
        *("/livez", "/readyz", "/docs", "/docs/", "/docs/a/b.js", "/docs/a..b", "/openapi.json"),
        *("/ui", "/ui/", "/ui/main.js"),
    ],
)
def test_health_and_documentation_are_open_to_be_read(method: str, path: str) -> None:
    """No token is asked for."""
    assert role_needed(method, path) is None


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize(
    "path",
    [
        *("/", "/flows", "/flows/a", "/flows/a/logs", "/flows/status", "/events", "/metrics"),
        *("/nothing", "", "livez", "/livez/", "/LIVEZ", "//livez", "/livez;x", "/docsx", "/doc"),
        *("/ui/../flows", "/uix", "/ui/..", "/ui/a/../../flows"),
        *("/docs/../flows", "/docs/..", "/docs/a/../../flows", "/openapi.json/", "/./livez"),
    ],
)
def test_everything_else_that_is_read_needs_a_viewer(method: str, path: str) -> None:
    """Also what does not exist, and what only looks like an open route."""
    assert role_needed(method, path) is Role.VIEWER


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "path", ["/flows", "/flows/a", "/livez", "/docs/x", "/manifests/prune", "/x", "/flows/commands"]
)
def test_every_write_but_commands_needs_an_admin(method: str, path: str) -> None:
    """Also of a method that nobody knows, and to a route that is open to be read."""
    command = (method.upper(), path) == ("PATCH", "/flows/commands")
    assert role_needed(method, path) is (Role.OPERATOR if command else Role.ADMIN)


def test_a_role_may_do_what_the_ones_below_it_may() -> None:
    """By rank: by name, admin would be the least."""
    ranked = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
    for (have, role), (need, needed) in itertools.product(enumerate(ranked), repeat=2):
        assert role.covers(needed) is (have >= need)
