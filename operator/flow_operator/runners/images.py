"""Images that an engine has, or is fetching."""

from __future__ import annotations

import threading
from typing import Any

import structlog

from flow_operator.clock import Clock
from flow_operator.errors import RunnerError, TerminalError, WaitingError
from flow_operator.runners.base import Notify
from flow_operator.runners.engine import Engine

_TELL = 1.0
"""Seconds between two reports of how far a fetch has come."""

_LOOK = 30.0
"""Seconds until a flow that waits for an image looks by itself, whatever it is told."""

log = structlog.get_logger("images")


class _Fetch:
    """One image on its way."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.layers: dict[str, tuple[int, int]] = {}
        self.done: set[str] = set()
        self.error: RunnerError | None = None
        self.over = False

    def take(self, told: dict[str, Any]) -> None:
        """What the engine tells of one layer."""
        layer, status = told.get("id"), told.get("status", "")
        detail = told.get("progressDetail") or {}
        if not layer or status.startswith("Pulling from"):
            return
        self.layers.setdefault(layer, (0, 0))
        if detail.get("total"):
            self.layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        if status in ("Pull complete", "Already exists"):
            self.done.add(layer)

    def __str__(self) -> str:
        got = sum(current for current, _ in self.layers.values())
        layers = f"{len(self.done)} of {len(self.layers)} layers" if self.layers else "asking"
        return f"{layers}, {got / 1e6:.1f} MB" if got else layers


class Images:
    """Has an engine fetch images, each once however many flows wait for it.

    Args:
        engine: that runs them.
        clock: for how often progress is told.
        notify: called with the id of a flow that waits for an image when it has come, or come
            further.
    """

    def __init__(self, engine: Engine, clock: Clock, notify: Notify) -> None:
        self._engine = engine
        self._clock = clock
        self._notify = notify
        self._lock = threading.Lock()
        self._fetches: dict[str, _Fetch] = {}

    def need(self, image: str, policy: str, flow_id: str, run: str) -> None:
        """Have an image there.

        Args:
            image: by its name.
            policy: IfNotPresent, Always, which fetches once for each run, or Never.
            flow_id: who waits for it.
            run: for which run.

        Raises:
            WaitingError: it is being fetched; the flow is notified.
            TerminalError: it cannot be had.
        """
        key = f"{run} {image}" if policy == "Always" else image
        with self._lock:
            fetch = self._fetches.get(key)
            if fetch is not None and not fetch.over:
                fetch.waiting.add(flow_id)
                raise WaitingError(f"fetching the image {image}: {fetch}", _LOOK)
            if fetch is not None:
                if policy != "Always" or fetch.error is not None:
                    del self._fetches[key]
                if fetch.error is not None:
                    raise fetch.error
                return
        if policy != "Always" and self._engine.image(image) is not None:
            return
        if policy == "Never":
            raise TerminalError(
                f"the engine has no image {image}, and pullPolicy is Never: load it, or set "
                "pullPolicy to IfNotPresent"
            )
        self._begin(key, image, flow_id)

    def command(self, image: str) -> tuple[str, ...]:
        """What an image that is there runs by itself.

        Raises:
            TerminalError: nothing.
        """
        told = self._engine.image(image)
        words = told.get("Config") or {} if told is not None else {}
        argv = (*(words.get("Entrypoint") or ()), *(words.get("Cmd") or ()))
        if not argv:
            raise TerminalError(f"the image {image} says not what to run: give the step a command")
        return argv

    def _begin(self, key: str, image: str, flow_id: str) -> None:
        with self._lock:
            fetch = self._fetches.setdefault(key, _Fetch())
            first = not fetch.waiting
            fetch.waiting.add(flow_id)
        if first:
            work = threading.Thread(
                target=self._fetch, args=(image, fetch), name="image", daemon=True
            )
            work.start()
        raise WaitingError(f"fetching the image {image}: {fetch}", _LOOK)

    def _fetch(self, image: str, fetch: _Fetch) -> None:
        told_at = self._clock.monotonic()
        try:
            for told in self._engine.pull(image):
                fetch.take(told)
                if self._clock.monotonic() - told_at >= _TELL:
                    told_at = self._clock.monotonic()
                    self._tell(fetch)
        except RunnerError as error:
            fetch.error = _told(error)
        except Exception as error:
            log.exception("cannot fetch an image", image=image)
            fetch.error = TerminalError(f"the image {image} cannot be fetched: {error!r}")
        with self._lock:
            fetch.over = True
        self._tell(fetch)

    def _tell(self, fetch: _Fetch) -> None:
        with self._lock:
            waiting = list(fetch.waiting)
        for flow_id in waiting:
            self._notify(flow_id)

    def forget(self, run: str) -> None:
        """A run is over: the next one of pullPolicy Always fetches anew."""
        with self._lock:
            for key in [key for key in self._fetches if key.startswith(f"{run} ")]:
                if self._fetches[key].over:
                    del self._fetches[key]


def _told(error: RunnerError) -> RunnerError:
    """What the user can do about it; an engine that is away is tried again by itself."""
    if not isinstance(error, TerminalError):
        return error
    said = str(error)
    if "denied" in said or "unauthorized" in said or "authentication" in said:
        hint = "there may be no such image, or it needs `docker login` on the operator's machine"
    elif "not found" in said or "manifest unknown" in said or "no such" in said.lower():
        hint = "there is no such image or tag: correct spec.container.image"
    else:
        hint = "is its registry to be reached? Correct the image, or load it into the engine"
    return TerminalError(f"{said}; {hint}")
