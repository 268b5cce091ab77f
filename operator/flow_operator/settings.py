"""What the operator was told at its start, and where it keeps its files."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from flow_operator.defaults import DEFAULT_URL

_PORT = re.compile("[0-9]{1,5}")

DANGERS = ("privileged", "host-mounts", "host-network")
"""What gives a container the engine's machine, and so has to be allowed."""

_OTHER_SCHEME = {
    "https": "https needs --tls-cert and --tls-key",
    "http": "with --tls-cert it must begin with https://",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The data directory.

    ================ =======================================================
    ``flows/``       desired state, one YAML document per flow
    ``history/``     what flows were before, one file per flow
    ``runs/``        launch intents and what backoff needs, one file per flow
    ``logs/``        what steps print: ``FLOW/REPLICA/STEP.log``
    ``pipes/``       named pipes of runs whose steps are containers: ``RUN/INDEX.fifo``
    ``work/``        one directory per flow for its own use (``FLOW_DATA``)
    ``audit.log``    who has written what, one line for each change of a flow
    ``events.jsonl`` what has happened lately, one line for each event
    ``reserve``      space that is given back to stop flows on a full disk
    ``lock``         held by the operator; names its holder
    ``format``       the version of this layout
    ================ =======================================================
    """

    root: Path

    @property
    def flows(self) -> Path:
        """Desired state."""
        return self.root / "flows"

    @property
    def history(self) -> Path:
        """Earlier generations."""
        return self.root / "history"

    @property
    def runs(self) -> Path:
        """Launch intents."""
        return self.root / "runs"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.root / "lock"

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.root / "audit.log"

    @property
    def events(self) -> Path:
        """The last events."""
        return self.root / "events.jsonl"

    @property
    def cache(self) -> Path:
        """What the files of the flows hold."""
        return self.root / "flows.cache"

    @property
    def reserve(self) -> Path:
        """The file that takes up space."""
        return self.root / "reserve"

    @property
    def folder_state(self) -> Path:
        """What the manifest folder last applied."""
        return self.root / "folder.json"

    @property
    def logs(self) -> Path:
        """What steps print."""
        return self.root / "logs"

    @property
    def pipes(self) -> Path:
        """Named pipes."""
        return self.root / "pipes"

    @property
    def operator_id(self) -> Path:
        """By which containers are known to be this operator's."""
        return self.root / "operator-id"

    # Text, as these are asked for at each start of a step: a Path takes longer to make than a file.

    def log_file(self, flow_id: str, replica: int, step: str) -> str:
        """Where a step's output goes."""
        return f"{self.root}/logs/{flow_id}/{replica}/{step}.log"

    def work_dir(self, flow_id: str) -> str:
        """The directory that a flow may use as it likes."""
        return f"{self.root}/work/{flow_id}"


def have_directory(path: str) -> None:
    """Have a directory, whose parents mostly are there; makedirs(3) would look at each of them.

    Raises:
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path)  # noqa: PTH102 - text, as above
    except FileExistsError:
        return  # What cannot be entered is told by whoever does.
    except FileNotFoundError:
        have_directory(path.rpartition("/")[0])
        have_directory(path)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API listens.

    Attributes:
        host: name or address; empty for a unix socket.
        port: 0 lets the kernel choose.
        prefix: path under which everything is served, without a final slash.
        unix: path of a unix socket instead.
        tls: whether it is served as https.
    """

    host: str = ""
    port: int = 0
    prefix: str = ""
    unix: Path | None = None
    tls: bool = False

    @classmethod
    def parse(cls, listen: str | None, app_url: str | None, *, tls: bool = False) -> Address:
        """From ``--listen`` (``HOST:PORT`` or ``unix:PATH``), else from the base URL.

        Args:
            listen: where to listen instead of where the base URL says.
            app_url: the base URL; None is the default one.
            tls: whether there is a certificate.

        Raises:
            ValueError: with a sentence that names the bad part.
        """
        scheme = "https" if tls else "http"
        if app_url is None:
            app_url = DEFAULT_URL.replace("http", scheme)
        try:
            url = urlsplit(app_url)
            name, port = url.hostname, (443 if tls else 80) if url.port is None else url.port
        except ValueError as error:
            raise ValueError(
                f"app_url must look like {DEFAULT_URL}, not {app_url!r}: {error}"
            ) from None
        if url.scheme not in ("http", "https") or not name:
            raise ValueError(f"app_url must look like {DEFAULT_URL}, not {app_url!r}")
        if url.scheme != scheme:
            raise ValueError(f"app_url is {app_url!r}: {_OTHER_SCHEME[url.scheme]}")
        prefix = url.path.rstrip("/")
        if listen is None:
            return cls(name, port, prefix, tls=tls)
        if listen.startswith("unix:"):
            if tls:
                raise ValueError(
                    "--tls-cert is for HOST:PORT; leave it out, unix sockets need none"
                )
            return cls(prefix=prefix, unix=Path(listen.removeprefix("unix:")))
        host, separator, digits = listen.rpartition(":")
        if not separator or not _PORT.fullmatch(digits) or int(digits) > 65535:  # noqa: PLR2004
            raise ValueError(f"--listen must be HOST:PORT or unix:PATH, not {listen!r}")
        return cls(host.strip("[]") or "0.0.0.0", int(digits), prefix, tls=tls)  # noqa: S104 - refused unless --insecure

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.unix is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The base URL for people."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that ``flowd`` was told, read once.

    Attributes:
        manifests: the watched folder, if any.
        prune: whether flows whose file has gone are removed: ``auto`` holds back when so much
            goes at once that it looks like an accident.
        watch: ``auto`` asks the kernel what changes in the folder where it can tell; ``poll`` looks
            every second.
        insecure: serve beyond this machine although nobody is asked who they are.
        tls: the files of the certificate and of its key; None serves in clear text.
        tokens: the file that says who may call, and do what; None asks nobody.
        allow_hosts: names of this operator, besides its own, that may stand in a Host header.
        socket_mode: the permissions of the unix socket.
        socket_group: its group, by name; None leaves it that of the operator.
        users: whom steps may run as, besides who the operator is; ``*`` for everybody.
        audit_size: bytes of the audit log, from which on a new file is begun.
        audit_files: how many files of it are kept.
        log_reserve: bytes of the disk that logs leave free; None chooses by its size.
        engine: the URL of a container engine's socket; None runs no containers.
        engine_allow: what containers may have of the engine's machine.
        stop_grace: seconds from the signal to end to the moment at which everything has ended; None
            leaves each flow the time that it asks for.
        cgroups: ``auto`` uses cgroup v2 where it can be written; ``off`` never.
    """

    layout: Layout
    address: Address
    manifests: Path | None = None
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    prune: Literal["auto", "always", "never"] = "auto"
    watch: Literal["auto", "poll"] = "auto"
    insecure: bool = False
    engine: str | None = None
    engine_allow: frozenset[str] = frozenset()
    cgroups: Literal["auto", "off"] = "auto"
    users: frozenset[str] = frozenset()
    stop_grace: float | None = None
    log_reserve: int | None = None
    audit_size: int = 10 * 2**20
    audit_files: int = 10
    tls: tuple[Path, Path] | None = None
    tokens: Path | None = None
    allow_hosts: frozenset[str] = frozenset()
    socket_mode: int = 0o600
    socket_group: str | None = None
