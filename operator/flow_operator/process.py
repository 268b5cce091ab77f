"""What ``flowd`` sets up for its whole process: its log, its memory, its threads' turns."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import structlog

from flow_operator.settings import Settings

_MALLOC = {-1: 128 * 1024, -3: 64 * 1024, -8: 2}
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of mallopt(3): bytes, bytes, heaps."""


def configure_logging(settings: Settings) -> None:
    """Have everything logged to standard error, as text or JSON lines."""
    level = getattr(logging, settings.log_level.upper())
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Here, plain: the renderer would show all local variables, and so secrets.
            structlog.processors.format_exc_info,
            _printable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)
    # It tells of threads that are ended while they wait, which is what we make them do.
    logging.getLogger("waitress").setLevel(logging.ERROR)


def _printable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Escape control characters, which the renderer lets through: a name must steer no terminal."""
    return {
        key: _escaped(value) if isinstance(value, str) and not value.isprintable() else value
        for key, value in event.items()
    }


def _escaped(text: str) -> str:
    return "".join(
        ch if ch.isprintable() or ch == "\n" else ch.encode("unicode_escape").decode()
        for ch in text
    )


def give_memory_back() -> None:
    """Have glibc return large blocks when they are freed, as it does before it has seen many.

    It would come to keep them in heaps of its own, one for every few threads, where smaller ones
    that live on hold them fast: 17 MB in ten minutes of commands and edits with 100 flows. Other C
    libraries do not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC.items():
            mallopt(option, value)


def share_the_interpreter() -> None:
    """Have a thread that computes let others go on after 1 ms instead of 5.

    A call goes through several threads, and waits at each for who reads a large body meanwhile.
    """
    sys.setswitchinterval(0.001)


def collect_seldom() -> None:
    """Have Python look for garbage in cycles after 50,000 new objects instead of 700.

    It would look through all flows again and again, for next to nothing: what we make goes when
    its last user goes. In five starts and stops of 1,000 flows all threads stood still for 0.8 s,
    up to 0.1 s at once, and 1,000 objects were found.
    """
    gc.set_threshold(50_000, 10, 10)


@contextlib.contextmanager
def collecting_nothing() -> Iterator[None]:
    """Look for no garbage in cycles meanwhile, and never in what is there at the end.

    It is for what is read at the start, and stays. With 10,000 flows that takes 0.4 s of the start,
    and every later look would go through them again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
