"""A flowd whose steps are only pretended: what a fuzzer thinks up must not be run."""

from __future__ import annotations

from typing import Any

from flow_operator import flowd
from flow_operator.runners.fake import FakeRunner, FakeWorld


def _runner(*_: Any, **__: Any) -> FakeRunner:
    return FakeRunner(FakeWorld())


if __name__ == "__main__":
    flowd.ProcessRunner = _runner  # type: ignore[assignment, misc]
    flowd.main()
