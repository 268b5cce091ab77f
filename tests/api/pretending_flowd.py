"""A flowd whose steps are only pretended: what a fuzzer thinks up must not be run."""

from __future__ import annotations

from typing import Any

from flow_operator import flowd
from flow_operator.runners.fake import FakeRunner, FakeWorld


class PretendingRunner(FakeRunner):
    """Takes what flowd gives to the real one, and has a shim as far as metrics ask."""

    shims_replaced = 0
    connected = True

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(FakeWorld())

    def prepare(self) -> None:
        """There is no shim to be started."""


if __name__ == "__main__":
    flowd.ProcessRunner = PretendingRunner  # type: ignore[assignment, misc]
    flowd.main()
