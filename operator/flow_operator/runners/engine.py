"""A container engine, Docker or Podman, as the SDK reaches it on its socket.

All that is known of the SDK is here. What the engine does not know is ``None`` or done already:
verbs are idempotent. An engine that does not answer is away
(:class:`~flow_operator.errors.AwayError`); what it refuses is the user's to change
(:class:`~flow_operator.errors.TerminalError`).
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from flow_operator.errors import AwayError, InvalidError, TerminalError
from flow_operator.runners.answers import ALONE, Answer

_TIMEOUT = 60
"""Seconds in which an engine answers a call, or is away."""

_CONNECTIONS = 32
"""Kept open to the engine at once; more calls than that wait."""

_NOT_MODIFIED = 304
_NOT_FOUND = 404
_CONFLICT = 409


class EngineInfo(Struct, frozen=True):
    """What an engine can do.

    Attributes:
        limits: which of a step's limits it can enforce.
    """

    limits: tuple[str, ...] = ()


class RefusedError(TerminalError):
    """The engine has refused something; ``status`` is that of its answer."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class Engine:
    """An engine at ``url`` (``unix:///run/docker.sock``); nothing is asked before :meth:`connect`.

    Raises:
        InvalidError: the SDK is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import docker  # noqa: PLC0415 - heavy, an extra, and not needed without an engine
        except ImportError:
            raise InvalidError(
                "--engine needs the container extra: pip install 'flow-operator[container]'"
            ) from None
        self._sdk = docker
        self.url = url
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False

    @property
    def socket_path(self) -> Path | None:
        """The path of its socket; None where it is reached otherwise."""
        path = self.url.removeprefix("unix://")
        return Path(path) if path != self.url else None

    @property
    def _api(self) -> Any:
        with self._lock:
            if self._closed:
                raise AwayError("the line to the container engine is closed: flowd ends")
            if self._client is None:
                with self._reaching("connect"):
                    self._client = self._sdk.APIClient(
                        base_url=self.url,
                        version="auto",
                        timeout=_TIMEOUT,
                        max_pool_size=_CONNECTIONS,
                    )
            return self._client

    @contextlib.contextmanager
    def _reaching(self, doing: str, *, over: tuple[int, ...] = ()) -> Iterator[None]:
        """Tell the SDK's errors as ours; those whose status is in ``over`` count as done.

        Raises:
            AwayError: nobody has answered.
            RefusedError: the engine says no.
        """
        from requests.exceptions import HTTPError, RequestException  # noqa: PLC0415 - comes with the SDK

        try:
            yield
        except self._sdk.errors.APIError as error:
            status = error.response.status_code if error.response is not None else 0
            if status not in over:
                said = (error.explanation or str(error)).strip()
                raise RefusedError(f"the engine cannot {doing}: {said}", status) from None
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            raise RefusedError(f"the engine cannot {doing}: {error}", status) from None
        except (RequestException, self._sdk.errors.DockerException, OSError) as error:
            raise AwayError(
                f"the container engine at {self.url} does not answer ({_why(error)}); start it, "
                "or give the right --engine"
            ) from None

    # --- for who asks it in other ways ---------------------------------------------------

    @property
    def base_url(self) -> str:
        """Of its API."""
        return str(self._api.base_url)

    @property
    def api_version(self) -> str:
        """Which is spoken."""
        return str(self._api.api_version)

    def get(self, url: str, **options: Any) -> Any:
        """An answer of the API.

        Raises:
            OSError: it does not answer.
        """
        return self._api.get(url, **options)

    def _url(self, path: str) -> str:
        return f"{self.base_url}/v{self.api_version}/{path}"

    # --- the engine itself ---------------------------------------------------------------

    def connect(self) -> EngineInfo:
        """What the engine is."""
        with self._reaching("be asked what it is"):
            told = self._api.info()
        can = {
            "cpu": told.get("CpuCfsQuota") or told.get("CPUCfsQuota"),
            "memory": told.get("MemoryLimit"),
            "pids": told.get("PidsLimit"),
        }
        return EngineInfo(tuple(name for name, able in can.items() if able))

    # --- containers ----------------------------------------------------------------------

    def containers(self, labels: Mapping[str, str]) -> list[str]:
        """The ids of all containers with these labels, whatever they do."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with self._reaching("list containers"):
            return [one["Id"] for one in self._api.containers(all=True, filters=wanted)]

    def inspect(self, name: str) -> dict[str, Any] | None:
        """A container by its id or name; None if there is none."""
        found: list[dict[str, Any]] = []
        with self._reaching("tell of a container", over=(_NOT_FOUND,)):
            found.append(self._api.inspect_container(name))
        return found[0] if found else None

    def create(self, name: str, config: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        """Make a container, unless there is one of that name.

        Args:
            name: of the container.
            config: as the SDK's ``create_container`` takes it.
            host: as its ``create_host_config`` does.
        """
        with self._reaching(f"make the container {name}", over=(_CONFLICT,)):
            api = self._api
            api.create_container(name=name, host_config=api.create_host_config(**host), **config)

    def start(self, name: str) -> None:
        """Start what was made, unless it runs."""
        with self._reaching(f"start the container {name}", over=(_NOT_MODIFIED,)):
            self._api.start(name)

    def signal(self, name: str, signal: str) -> None:
        """Signal a container's processes, if it runs."""
        with self._reaching(f"send {signal} to {name}", over=(_NOT_FOUND, _CONFLICT)):
            self._api.kill(name, signal=signal)

    def pause(self, name: str) -> None:
        """Hold a container's processes where they are."""
        with self._reaching(f"pause {name}", over=(_NOT_FOUND, _CONFLICT)):
            self._api.pause(name)

    def unpause(self, name: str) -> None:
        """Let a container's processes go on."""
        with self._reaching(f"unpause {name}", over=(_NOT_FOUND, _CONFLICT)):
            self._api.unpause(name)

    def remove(self, name: str) -> None:
        """Remove a container and its anonymous volumes, whatever it does."""
        with self._reaching(f"remove {name}", over=(_NOT_FOUND, _CONFLICT)):
            self._api.remove_container(name, force=True, v=True)

    # --- commands beside them ------------------------------------------------------------

    def execute(self, name: str, command: tuple[str, ...], timeout: float) -> tuple[int, int]:
        """Run a command in a container.

        Returns:
            Its exit code, and its pid for the engine; the code is -1 if it has not ended within
            ``timeout`` seconds.
        """
        with self._reaching(f"run {command[0]!r} in {name}"):
            api = self._api
            made = api.exec_create(name, list(command))["Id"]
            asked = {"Detach": False, "Tty": False}
            url = self._url(f"exec/{made}/start")
            response = api.post(
                url, json=asked, headers=ALONE, stream=True, timeout=(_TIMEOUT, None)
            )
        with Answer(response) as answer, self._reaching(f"run {command[0]!r} in {name}"):
            response.raise_for_status()
            ended = _drained(answer, timeout)
            told = api.exec_inspect(made)
        code = told.get("ExitCode")
        if not ended or code is None:
            return -1, int(told.get("Pid") or 0)
        return int(code), 0

    # --- images --------------------------------------------------------------------------

    def image(self, name: str) -> dict[str, Any] | None:
        """An image that the engine has; None if it has none of that name."""
        found: list[dict[str, Any]] = []
        with self._reaching(f"look for the image {name}", over=(_NOT_FOUND,)):
            found.append(self._api.inspect_image(name))
        return found[0] if found else None

    def pull(self, name: str) -> Iterator[dict[str, Any]]:
        """Fetch an image; yields what the engine tells meanwhile.

        Raises:
            RefusedError: there is no such image, or no access to it.
        """
        with self._reaching(f"fetch the image {name}"):
            for told in self._api.pull(name, stream=True, decode=True):
                if error := told.get("error"):
                    raise RefusedError(f"the engine cannot fetch the image {name}: {error}", 0)
                yield told

    # --- what happens --------------------------------------------------------------------

    @contextlib.contextmanager
    def events(self, labels: Mapping[str, str]) -> Iterator[Events]:
        """What happens to containers with these labels, from now on."""
        wanted = {
            "type": ["container"],
            "label": [f"{key}={value}" for key, value in labels.items()],
        }
        with self._reaching("tell what happens"):
            asked = {"filters": json.dumps(wanted)}
            response = self._api.get(
                self._url("events"),
                params=asked,
                headers=ALONE,
                stream=True,
                timeout=(_TIMEOUT, None),
            )
        with Answer(response) as answer:
            with self._reaching("tell what happens"):
                response.raise_for_status()
            yield Events(self, answer)

    def close(self) -> None:
        """Hang up; what runs goes on."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()


class Events:
    """A stream of (what has happened, container id); ends when it is cut off from any thread."""

    def __init__(self, engine: Engine, answer: Answer) -> None:
        self._engine = engine
        self._answer = answer

    def __iter__(self) -> Iterator[tuple[str, str]]:
        with self._engine._reaching("tell what happens"):  # noqa: SLF001 - part of the engine
            for line in self._answer.response.iter_lines():
                told = json.loads(line)
                container = (told.get("Actor") or {}).get("ID") or told.get("id")
                if container:
                    yield str(told.get("Action") or told.get("status")), container

    def cut_off(self) -> None:
        """Have who reads see an end."""
        self._answer.cut_off()


def _why(error: Exception) -> str:
    """The innermost reason, in few words."""
    inner: BaseException = error
    while inner.__cause__ is not None or inner.__context__ is not None:
        inner = inner.__cause__ or inner.__context__ or inner
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _drained(answer: Answer, timeout: float) -> bool:
    """Read an answer to its end; False if that does not come within ``timeout`` seconds."""
    late = threading.Event()

    def end() -> None:
        late.set()
        answer.cut_off()

    timer = threading.Timer(timeout, end)
    timer.start()
    try:
        for _ in answer.response.iter_content(65536):
            if late.is_set():
                break
    except OSError:  # As requests tell that it was cut off.
        if not late.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    return not late.is_set()
