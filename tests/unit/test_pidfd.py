"""Waiting for a process by its descriptor."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess

import pytest

from flow_operator.shim.pidfd import has_ended

HIGH = 1100
"""Above what select(2) takes."""


def test_the_end_of_a_process_is_seen_by_whatever_descriptor() -> None:
    """A shim of many pipes, and an operator of many clients, have none left below 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= HIGH:
        pytest.skip("no such descriptor may be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, HIGH + 1), hard))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        low = os.pidfd_open(process.pid)
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH)
        try:
            assert not has_ended(high, 0)
            process.stdin.close()
            assert has_ended(high, 20)
        finally:
            os.close(high)
            os.close(low)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
