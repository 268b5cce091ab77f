"""Figures for scrapes, which must be answered also while nobody answers them.

A shim that hangs lets every question wait for half a minute. That is when its metrics are needed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from flow_operator.figures import Figures
from flow_operator.model.status import FlowStatus

PATIENCE = 2.0
"""Seconds; figures of a thousand flows take 0.03, and Prometheus gives up after 10."""

Statuses = Sequence[FlowStatus]


class PatientFigures:
    """Adds figures to statuses, or does without; for one caller at a time."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._asked: Future[Statuses] | None = None

    def added(self, statuses: Statuses) -> Statuses | None:
        """The same statuses with figures; None while there are none to be had."""
        if self._asked is not None and not self._asked.done():
            return None
        asked: Future[Statuses] = Future()
        self._asked = asked
        threading.Thread(
            target=self._ask, args=(statuses, asked), name="figures", daemon=True
        ).start()
        try:
            return asked.result(PATIENCE)
        except FutureTimeoutError:
            return None

    def _ask(self, statuses: Statuses, asked: Future[Statuses]) -> None:
        try:
            asked.set_result(self._figures.added(statuses))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            asked.set_exception(error)
