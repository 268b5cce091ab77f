"""Checks of process-compose as probes."""

from __future__ import annotations

import re
import shlex
from typing import Any

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.values import seconds

MOST = 10_000
"""The largest threshold of a probe."""

_LAST_PORT = 65535


def read(keys: Section, shell: list[str]) -> dict[str, Any] | None:
    """A probe; None if there is none or it cannot be made here.

    Args:
        keys: of the probe.
        shell: what a command is an argument of.
    """
    check = _exec(keys.below("exec"), shell) or _http(keys.below("http_get"))
    times = {
        "initialDelay": keys.number("initial_delay_seconds"),
        "period": keys.number("period_seconds"),
        "timeout": keys.number("timeout_seconds"),
    }
    failures = keys.whole("failure_threshold")
    successes = keys.whole("success_threshold")
    if successes is not None and successes > 1:
        keys.say("success_threshold", "is not carried over, as process-compose does not use it")
    keys.leave({})
    if check is None:
        if keys.values:
            keys.note("is no check that a flow can have; it was left out")
        return None
    probe = {**check}
    probe |= {key: seconds(value) for key, value in times.items() if value}
    if failures:
        probe["failureThreshold"] = min(failures, MOST)
    return probe


def _exec(keys: Section, shell: list[str]) -> dict[str, Any] | None:
    command = keys.text("command")
    folder = keys.text("working_dir")
    keys.leave({})
    if not command:
        return None
    if folder:
        command = f"cd {shlex.quote(folder)} && {command}"
    return {"exec": {"command": [*shell, command]}}


def _http(keys: Section) -> dict[str, Any] | None:
    if not keys.values:
        return None
    port = keys.whole("port") or keys.whole("num_port")
    host = keys.text("host") or "127.0.0.1"
    path = keys.text("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    scheme = (keys.text("scheme") or "http").lower()
    status = keys.whole("status_code")
    if status is not None:
        keys.say("status_code", "every status of 200 to 399 counts as success")
    keys.leave({"headers": "are not sent by a probe; check with exec and curl -H"})
    if scheme != "http":
        keys.say("scheme", f"{clipped(scheme)} is not spoken by a probe; check with exec and curl")
        return None
    if not port or port > _LAST_PORT:
        keys.say("port", "must be a number of 1 to 65535")
        return None
    if not re.fullmatch("[!-~]+", host) or not re.fullmatch("[!-~]+", path):
        keys.note("has a host or path with blanks or letters that a URL cannot have")
        return None
    return {"httpGet": {"host": host, "port": port, "path": path}}
