"""Copies what containers print into the logs of their steps.

From there on it is like what local steps print: rotated, followed, searched by probes, told by
positions. Each entry is copied once, also over kills: a cursor beside the log tells which entries
of the engine's log are in the log up to which position, and bytes behind that position are those
that were copied after the cursor was written.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import msgspec
import structlog
from msgspec import Struct

from flow_operator.clock import Clock
from flow_operator.logs import Keeper, Stream
from flow_operator.runners.answers import ALONE, Answer
from flow_operator.runners.engine_log import Entry, Place, Places, entries
from flow_operator.structs import prepared

LOG_OPTIONS = {"max-size": "50m", "max-file": "3"}
"""For the engine's own log of a container (``json-file``): what may be copied late."""

_SAVE_BYTES = 64 * 1024
_SAVE_SECONDS = 1.0
"""After so much, or so long, the cursor is written anew: what is behind it is read twice."""

_FIRST_DELAY = 0.1
_LAST_DELAY = 5.0
"""Seconds until an engine is asked again that has failed; doubled from first to last."""

_STEPPED = 1.0
"""Seconds by which the wall clock may have been set without making the engine's times useless: less
than what is read again."""

_GONE = frozenset({404, 409})
"""What an engine answers of a container that is removed, or is being removed."""

log = structlog.get_logger("container-logs")


class Response(Protocol):
    """An answer of the engine, as ``requests`` has it."""

    status_code: int
    raw: Any

    def iter_content(self, chunk_size: None) -> Iterator[Any]:
        """The body as it comes."""

    def json(self) -> Any:
        """The whole body."""

    def close(self) -> None:
        """Let go of the connection."""


class Api(Protocol):
    """The engine's API: a ``docker.APIClient``."""

    @property
    def base_url(self) -> str:
        """Of the API."""

    @property
    def api_version(self) -> str:
        """Of the API."""

    def get(self, url: str, **options: Any) -> Response:
        """Ask for something; raises OSError while the engine is away."""


class LogKey(NamedTuple):
    """One attempt of a step."""

    run: str
    flow_id: str
    replica: int
    step: str
    attempt: int


@prepared
class Cursor(Struct, frozen=True):
    """How far a container's log was copied.

    Attributes:
        began: the position at which the output of the attempt begins.
        position: where the log ended when all up to ``places`` was in it.
        places: the last entry of each of the engine's streams.
        clock: by how much wall and monotonic time differed.
        whole: whether the container has ended and all of it was copied.
    """

    run: str
    attempt: int
    container: str
    began: int
    position: int
    places: dict[int, Place] = {}
    clock: float = 0.0
    whole: bool = False


class _GoneError(Exception):
    """The engine has no such container any more."""


class ContainerLogs:
    """Copies logs until closed; one thread and one connection for each container that runs.

    Args:
        logs: keeps what steps print.
        api: the engine.
        clock: tells whether the wall clock was set.
        copied: called with the key of an attempt of which everything is in the log.
    """

    def __init__(
        self, logs: Keeper, api: Api, clock: Clock, copied: Callable[[LogKey], None]
    ) -> None:
        self._logs = logs
        self._api = api
        self._clock = clock
        self._tell = copied
        self._lock = threading.Lock()
        self._steps: dict[tuple[str, int, str], _Step] = {}
        self._whole: dict[str, LogKey] = {}
        self._began: dict[LogKey, int] = {}
        self._closing = threading.Event()

    def follow(self, key: LogKey, container: str) -> None:
        """Copy what a container prints, on from where an earlier operator has stopped.

        Attempts of a step are copied in the order in which they come here.
        """
        with self._lock:
            if self._closing.is_set() or container in self._whole:
                return
            place = (key.flow_id, key.replica, key.step)
            step = self._steps.get(place)
            if step is None:
                step = self._steps[place] = _Step()
                self._begin(key, container)
            step.add(key, container)
            if step.thread is None:
                step.thread = threading.Thread(
                    target=self._work, args=(place, step), name="container-logs", daemon=True
                )
                step.thread.start()

    def _begin(self, key: LogKey, container: str) -> None:
        """Where nothing is before an attempt in its log, its place is known at once."""
        with contextlib.suppress(OSError):  # The thread will meet it again, and tell.
            target = self._logs.opened(key.flow_id, key.replica, key.step)
            if _unfinished(target, key) is None:
                self._cursor(target, key, container)

    def _cursor(self, target: Stream, key: LogKey, container: str) -> Cursor | None:
        """How far an attempt was copied; None if a later one was begun, so that it was whole.

        Raises:
            OSError: it cannot be written down that it begins.
        """
        cursor = _load(target)
        if cursor is None or cursor.container != container:
            if cursor is not None and cursor.run == key.run and cursor.attempt > key.attempt:
                return None
            end = target.end()
            cursor = Cursor(key.run, key.attempt, container, end, end)
            _save(target, cursor)
        self._began[key] = cursor.began
        return cursor

    def copied(self, container: str) -> bool:
        """Whether a container has ended and all that it has printed is in the log."""
        with self._lock:
            return container in self._whole

    def log_from(self, key: LogKey) -> int | None:
        """The position at which the output of an attempt begins; None if nobody knows."""
        if key not in self._began:
            cursor = _load(self._logs.stream(key.flow_id, key.replica, key.step))
            if cursor is not None and (cursor.run, cursor.attempt) == (key.run, key.attempt):
                self._began[key] = cursor.began
        return self._began.get(key)

    def forget(self, run: str) -> None:
        """Drop what is known of a run, and copy no more of it."""
        with self._lock:
            self._whole = {name: key for name, key in self._whole.items() if key.run != run}
            self._began = {key: at for key, at in self._began.items() if key.run != run}
            for step in self._steps.values():
                step.drop(run)

    def close(self) -> None:
        """End all threads; what containers print meanwhile is kept by the engine."""
        self._closing.set()
        with self._lock:
            steps = list(self._steps.values())
            for step in steps:
                step.interrupt()
        for step in steps:
            if step.thread is not None:
                step.thread.join()

    # --- the thread of a step ------------------------------------------------------------

    def _work(self, place: tuple[str, int, str], step: _Step) -> None:
        delay = _FIRST_DELAY
        while (job := self._next(place, step)) is not None:
            moved, whole = self._tried(step, *job)
            if whole:
                self._finish(step, *job)
            delay = _FIRST_DELAY if moved or whole else min(delay * 2, _LAST_DELAY)
            if not (moved or whole):
                self._closing.wait(delay)

    def _tried(self, step: _Step, key: LogKey, container: str) -> tuple[bool, bool]:
        try:
            told = self._copy(step, key, container)
        except Exception as error:  # noqa: BLE001 - told, and tried again
            # Also a mistake of ours: without this thread nothing of the step is copied.
            if step.wants(container) and not (step.failing or self._closing.is_set()):
                log.warning("cannot copy a log; trying on", container=container, error=repr(error))
            step.failing = True
            return False, False
        step.failing = False
        return told

    def _next(self, place: tuple[str, int, str], step: _Step) -> tuple[LogKey, str] | None:
        """What is to be copied; None when there is nothing more, and the thread ends."""
        with self._lock:
            if not step.jobs or self._closing.is_set():
                self._steps.pop(place, None)
                return None
            return step.jobs[0]

    def _finish(self, step: _Step, key: LogKey, container: str) -> None:
        with self._lock:
            if (key, container) not in step.jobs:
                return  # Forgotten meanwhile.
            step.jobs.remove((key, container))
            self._whole[container] = key
        self._tell(key)

    def _copy(self, step: _Step, key: LogKey, container: str) -> tuple[bool, bool]:
        """Copy what there is, until the engine ends its answer.

        Returns whether anything was new, and whether that is all there will ever be.

        Raises:
            OSError: the engine or the disk failed.
        """
        target = self._logs.opened(key.flow_id, key.replica, key.step)
        earlier = _unfinished(target, key)
        if earlier is not None:
            with self._lock:
                step.put_first(key._replace(attempt=earlier.attempt), earlier.container)
            return True, False
        cursor = self._cursor(target, key, container)
        if cursor is None or cursor.whole:
            return False, True
        with _Writer(target, cursor, self._clock) as writer:
            try:
                # Asked before it is read: what has ended before that prints no more.
                over = self._over(container)
                self._read(step, container, writer, follow=not over)
            except _GoneError:
                over = True
                log.warning("a container went before its log was copied", container=container)
            writer.save(whole=over)
            return writer.moved, over

    def _read(self, step: _Step, container: str, writer: _Writer, *, follow: bool) -> None:
        since, known = writer.since, writer.known
        if known:
            with self._answer(step, container, since, follow=False) as told:
                known = known.kept(told)
            if known.newest != writer.known.newest:
                log.warning("the engine has not kept all of a log", container=container)
                writer.skip_nothing()
        with self._answer(step, container, since, follow=follow) as told:
            for entry in known.after(told):
                writer.add(entry)

    @contextlib.contextmanager
    def _answer(
        self, step: _Step, container: str, since: int, *, follow: bool
    ) -> Iterator[Iterator[Entry]]:
        wanted = {"stdout": 1, "stderr": 1, "timestamps": 1, "since": since, "follow": int(follow)}
        response = self._get(f"{container}/logs", params=wanted, headers=ALONE, stream=True)
        with Answer(response) as answer:
            step.answer = answer
            if self._closing.is_set() or not step.wants(container):
                raise OSError("nobody wants it any more")
            yield entries(response.iter_content(None))

    def _over(self, container: str) -> bool:
        """Whether a container has run and does so no more."""
        state = self._get(f"{container}/json").json()["State"]
        return not state["Running"] and state["Status"] not in ("created", "configured")

    def _get(self, path: str, **options: Any) -> Response:
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{path}"
        response = self._api.get(url, timeout=(_LAST_DELAY, None), **options)
        if response.status_code in _GONE:
            response.close()
            raise _GoneError
        if response.status_code != 200:  # noqa: PLR2004 - HTTP
            response.close()
            raise OSError(f"the engine answered {response.status_code}")
        return response


class _Step:
    """What is to be copied into one log, the attempt that is being copied first."""

    def __init__(self) -> None:
        self.jobs: list[tuple[LogKey, str]] = []
        self.thread: threading.Thread | None = None
        self.answer: Answer | None = None
        self.failing = False

    def add(self, key: LogKey, container: str) -> None:
        if (key, container) not in self.jobs:
            self.jobs.append((key, container))

    def put_first(self, key: LogKey, container: str) -> None:
        self.jobs = [(key, container), *(job for job in self.jobs if job[1] != container)]

    def wants(self, container: str) -> bool:
        return any(known == container for _, known in self.jobs)

    def drop(self, run: str) -> None:
        self.jobs = [job for job in self.jobs if job[0].run != run]
        self.interrupt()

    def interrupt(self) -> None:
        """Have the thread look up from what it reads; it goes on where it was."""
        answer = self.answer
        if answer is not None:
            answer.cut_off()


class _Writer:
    """Appends to a log what its cursor says is not in it, and moves the cursor."""

    def __init__(self, target: Stream, cursor: Cursor, clock: Clock) -> None:
        self._target = target
        self._cursor = cursor
        self._clock = clock
        self._difference = clock.wall() - clock.monotonic()
        self._places = Places(cursor.places)
        self._position = cursor.position
        self._skip = target.end() - cursor.position
        self._saved = clock.monotonic()
        self.known = Places(cursor.places)
        stepped = abs(self._difference - cursor.clock) > _STEPPED
        self.since = 0 if stepped else self.known.since()
        self.moved = False
        self._file = os.open(target.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def skip_nothing(self) -> None:
        """What is in the log behind the cursor is not what comes now."""
        self._position += self._skip
        self._skip = 0

    def add(self, entry: Entry) -> None:
        """Append an entry, but for what of it is in the log already.

        Raises:
            OSError: it cannot be written; it may be in part.
        """
        new = entry.text[self._skip :] if self._skip else entry.text
        self._skip -= len(entry.text) - len(new)
        while new:
            new = new[os.write(self._file, new) :]
        self._position += len(entry.text)
        self._places.passed(entry)
        self.moved = True
        grown = self._position - self._cursor.position
        if grown >= _SAVE_BYTES or self._clock.monotonic() - self._saved >= _SAVE_SECONDS:
            self.save()

    def save(self, *, whole: bool = False) -> None:
        """Write the cursor down.

        Raises:
            OSError: it cannot be written; it is as before.
        """
        self._cursor = msgspec.structs.replace(
            self._cursor,
            position=self._position,
            places=self._places.told(),
            clock=self._difference,
            whole=whole,
        )
        self._saved = self._clock.monotonic()
        _save(self._target, self._cursor)


def _path(target: Stream) -> Path:
    return Path(target.path).with_suffix(".cursor")


def _load(target: Stream) -> Cursor | None:
    """The cursor of a log; None without one, or if a power cut has torn it."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(_path(target).read_bytes(), type=Cursor)
    return None


def _unfinished(target: Stream, key: LogKey) -> Cursor | None:
    """An earlier attempt of the same run that is to be copied to its end first.

    Whoever comes after a killed operator may hear of the later one first.
    """
    cursor = _load(target)
    if cursor is None or cursor.whole or cursor.run != key.run or cursor.attempt >= key.attempt:
        return None
    return cursor


def _save(target: Stream, cursor: Cursor) -> None:
    path = _path(target)
    new = path.with_suffix(".cursor.new")
    new.write_bytes(msgspec.json.encode(cursor))
    new.replace(path)
