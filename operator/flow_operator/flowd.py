"""The operator: puts the parts together, starts them, and ends them in order."""

from __future__ import annotations

import argparse
import ctypes
import errno
import logging
import os
import queue
import re
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from flow_operator import __version__
from flow_operator.api import (
    LOOPBACK,
    Access,
    Certificates,
    Hosts,
    Server,
    Services,
    Tokens,
    create_app,
)
from flow_operator.board import Board
from flow_operator.clock import SystemClock, boot_id, rfc3339
from flow_operator.controller import Controller
from flow_operator.errors import FlowError, InvalidError
from flow_operator.figures import Figures
from flow_operator.gauges import Gauges
from flow_operator.logs import Keeper, Limits
from flow_operator.metrics import Counted, Exposition, FlowCollector, Parts
from flow_operator.model.folder import no_folder
from flow_operator.model.units import Size
from flow_operator.prober import Prober
from flow_operator.reconciler import Reconciler
from flow_operator.runners.base import Capabilities, Runner
from flow_operator.runners.process import ProcessRunner
from flow_operator.settings import DEFAULT_URL, Address, Layout, Settings
from flow_operator.sources import FolderSource
from flow_operator.store import AuditLimits, DataLock, Desired, EventFile, Memories, Store
from flow_operator.workqueue import WorkQueue

log = structlog.get_logger("flowd")

_MALLOC = {-1: 128 * 1024, -3: 64 * 1024, -8: 2}
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of mallopt(3): bytes, bytes, heaps."""

_LEVELS = ("debug", "info", "warning", "error")


class Operator:
    """Everything of one operator; started once, stopped once.

    Raises:
        InvalidError: the tokens or the data directory cannot be trusted.
        LockedError: another operator has the data directory.
        FlowError: the data directory or the shim cannot be used; the message says why.
        OSError: the address cannot be bound.
    """

    def __init__(self, settings: Settings) -> None:
        layout, clock = settings.layout, SystemClock()
        # Before anything is begun: who may call must be known.
        tokens = Tokens(settings.tokens, clock) if settings.tokens else None
        layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if layout.root.stat().st_mode & stat.S_IWOTH:
            raise InvalidError(
                f"the data directory {layout.root} may be written by everybody, who could have "
                "anything run by it: chmod o-w, or name another one with --data"
            )
        self._lock = DataLock(layout.lock)
        self._interrupt = threading.Event()
        self._adopted = 0
        meter = Counted()
        self._store = Store(
            layout, clock, AuditLimits(settings.audit_size, settings.audit_files), meter=meter
        )
        self._store.recover()
        memories = Memories(layout)
        memories.recover()
        self._board = board = Board(clock, EventFile(layout.events, clock), meter)
        board.recover({*self._store.records(), *self._store.corrupt, *memories.flow_ids()})
        work = WorkQueue(clock, meter)
        self._logs = Keeper(
            layout, clock, _log_reserve(settings), partial(_tell_dropped_logs, board)
        )
        local = ProcessRunner(
            layout, self._logs, cgroups=settings.cgroups == "auto", users=settings.users
        )
        self._runners: Mapping[str, Runner] = {"process": local}
        self._prober = Prober(clock, work.add, local.check, local.read_log)
        self._gauges = Gauges(clock, work.add, self._runners)
        reconciler = Reconciler(
            store=self._store,
            memories=memories,
            runners=self._runners,
            board=board,
            prober=self._prober,
            gauges=self._gauges,
            clock=clock,
            boot=boot_id(),
            interrupt=self._interrupt,
            meter=meter,
        )
        self._controller = Controller(
            store=self._store,
            memories=memories,
            runners=self._runners,
            board=board,
            reconciler=reconciler,
            queue=work,
            clock=clock,
            meter=meter,
        )
        self._folder = (
            FolderSource(
                folder=settings.manifests,
                store=self._store,
                board=board,
                state=layout.folder_state,
                prune=settings.prune,
                foresee=reconciler.foresee,
                watch=settings.watch,
                clock=clock,
            )
            if settings.manifests is not None
            else None
        )
        figures = Figures(self._runners, clock, self._prober.results)
        parts = Parts(
            queue=work,
            store=self._store,
            logs=self._logs,
            shim=local,
            ready=lambda: self._controller.synced,
            adopted=lambda: self._adopted,
            streams=lambda: self._server.streams,
            folder=self._folder.summary if self._folder else None,
        )
        flows = FlowCollector(board, self._store, figures, since=rfc3339(clock.wall()))
        self._services = Services(
            store=self._store,
            desired=Desired(self._store, reconciler.foresee),
            board=board,
            figures=figures,
            logs=self._logs,
            clock=clock,
            runners=self._capabilities,
            ready=lambda: self._controller.synced,
            folder=self._folder.describe if self._folder else no_folder,
            prune=self._folder.confirm_prune if self._folder else list,
            scrape=Exposition((parts, flows, meter)).scrape,
            hosts=_hosts(settings),
            tokens=tokens,
            prefix=settings.address.prefix,
            meter=meter,
        )
        access = Access(settings.socket_mode, settings.socket_group)
        tls = Certificates(*settings.tls) if settings.tls is not None else None
        self._server = Server(create_app(self._services), settings.address, access, tls)
        board.subscribe_changes(self._server.poke)
        self._settings = settings

    @property
    def address(self) -> Address:
        """Where the API really listens."""
        return self._server.address

    def start(self) -> None:
        """Take back what runs, then serve and watch."""
        self._server.start()
        self._store.subscribe(self._limit_logs)
        self._limit_logs(record.flow_id for record in self._store.flows())
        self._logs.start()
        self._controller.take_back()
        self._adopted = self._controller.adopted()
        if self._folder is not None:
            # Before anything is launched: it may have been edited or removed meanwhile.
            self._folder.start()
        for name, can in self._capabilities().items():
            log.info("runner", name=name, groups=can.groups, limits=list(can.limits))
        self._welcome(self._adopted)
        self._warn()
        self._gauges.start()
        self._controller.start()

    def _capabilities(self) -> dict[str, Capabilities]:
        return {name: runner.capabilities for name, runner in self._runners.items()}

    def _limit_logs(self, flow_ids: Iterable[str]) -> None:
        for flow_id in flow_ids:
            record = self._store.get(flow_id)
            if record is not None:
                logs = record.flow.spec.logs
                self._logs.limit(flow_id, Limits(logs.max_size.bytes, logs.max_files))

    def _welcome(self, adopted: int) -> None:
        settings = self._settings
        known = f"{len(self._store.flows())} flows, {adopted} running instances taken back"
        lines = [
            f"flowd {__version__} serves {self.address.url}",
            f"  data       {settings.layout.root} ({known})",
        ]
        if settings.manifests is not None:
            state = "watched" if settings.manifests.is_dir() else "missing; waiting for it"
            lines.append(f"  manifests  {settings.manifests} ({state})")
        if (tokens := self._services.tokens) is not None:
            lines.append(
                f"  tokens     {settings.tokens} ({tokens.count}); every request needs one"
            )
        lines.append(f"  cgroups    {_cgroups(settings, self._runners['process'].capabilities)}")
        url = "" if self.address.url == DEFAULT_URL else f"--url {self.address.url} "
        token = "--token-file FILE " if tokens is not None else ""
        lines.append(f"  try        flowctl {url}{token}status -w")
        if self.address.unix is None and not token:
            lines.append(f"             curl {self.address.url}/flows/status")
        lines.append("  stop       Ctrl-C drains every flow; once more stops at once")
        print("\n".join(lines), flush=True)  # noqa: T201 - for the person at the terminal

    def _warn(self) -> None:
        """Tell of what somebody may not have thought of."""
        if self.address.loopback:
            return
        if self._settings.tokens is None:
            log.warning("whoever reaches this machine can run commands here", url=self.address.url)
        elif not self.address.tls:
            log.warning(
                "tokens are sent in clear text",
                url=self.address.url,
                hint="give --tls-cert and --tls-key, or listen on 127.0.0.1 or unix:PATH",
            )

    def run_until(self, signals: StopSignals) -> None:
        """Serve until a signal, then drain every flow; a second signal stops at once."""
        signals.wait()
        log.info("draining every flow", hint="once more stops at once")
        self._controller.shut_down("soft")
        while left := self._controller.left():
            if signals.wait(0.05):
                log.warning("stopping at once", flows=len(left))
                self._controller.shut_down("hard")

    def close(self) -> None:
        """End everything of the operator; what still runs goes on."""
        if self._folder is not None:
            self._folder.close()
        self._services.closing.set()
        self._interrupt.set()
        self._server.close()
        self._prober.close()
        self._gauges.close()
        self._controller.stop()
        idle = not self._controller.left()
        for runner in self._runners.values():
            runner.close(final=idle)
        self._logs.close()
        self._board.close()
        self._store.close()
        self._lock.release()


def _log_reserve(settings: Settings) -> int:
    """Bytes that logs leave free: as told, else 2 % of the disk and at most 512 MiB."""
    if settings.log_reserve is not None:
        return settings.log_reserve
    told = os.statvfs(settings.layout.root)
    return min(2**29, told.f_blocks * told.f_frsize // 50)


def _tell_dropped_logs(board: Board, flow_id: str, count: int) -> None:
    message = f"the disk is nearly full: {count} bytes of what was printed are no longer kept"
    board.record(flow_id, "LogsDropped", message, warning=True)


def _cgroups(settings: Settings, can: Capabilities) -> str:
    """What the welcome says of them."""
    if not can.groups:
        why = "off" if settings.cgroups == "off" else "none of version 2 may be written"
        return f"not used ({why}); no limit of cpu, memory or pids is enforced"
    limits = ", ".join(can.limits)
    missing = ", ".join(name for name in ("cpu", "memory", "pids") if name not in can.limits)
    if not limits:
        return "used; without controllers, so no limit of cpu, memory or pids is enforced"
    return f"used; limits of {limits} are enforced" + (f", of {missing} not" if missing else "")


def _hosts(settings: Settings) -> Hosts:
    """The names under which a browser may have found us.

    Where tokens are asked for beyond this machine, every name may be right, and none is a danger:
    no browser sends a token by itself. Whoever lists names wants those only, and addresses.
    """
    address, named = settings.address, settings.allow_hosts
    if address.loopback:
        return Hosts(LOOPBACK | named | {address.host})
    if settings.tokens is not None and not named:
        return Hosts(every=True)
    return Hosts(LOOPBACK | named | {socket.gethostname().lower()}, plain=True)


class StopSignals:
    """SIGINT and SIGTERM, one by one, for the main thread.

    A handler may run between any two byte codes of the main thread, so it does the one thing that
    is safe there: SimpleQueue.put is reentrant (as its documentation says), an Event is not.
    """

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda caught, _frame: self._came.put(caught))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next one; False if ``timeout`` seconds pass first."""
        try:
            self._came.get(timeout=timeout)
        except queue.Empty:
            return False
        return True


# --- the command line ------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flowd",
        description="Runs flows as their manifests say. Each option can also be given by the "
        "environment, as FLOWD_DATA for --data.",
    )
    parser.add_argument("--data", type=Path, default=Path(".flowd"), help="where state is kept")
    parser.add_argument("--manifests", type=Path, help="a folder of manifests to watch")
    parser.add_argument("--listen", help="HOST:PORT or unix:PATH, instead of app_url's")
    parser.add_argument(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="serve https with this certificate (PEM, the chain after it)",
    )
    parser.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="its key, readable by nobody else"
    )
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--prune",
        choices=("auto", "always", "never"),
        default="auto",
        help="remove flows whose file has gone; auto holds back when it looks like an accident",
    )
    parser.add_argument(
        "--watch",
        choices=("auto", "poll"),
        default="auto",
        help="how changes of the folder are found: auto asks the kernel where it can tell, and "
        "else looks every second, as poll always does",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve beyond this machine without asking who calls"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="a YAML file of tokens and their roles; every request then needs one of them",
    )
    parser.add_argument(
        "--allow-hosts",
        type=_hosts_given,
        default=frozenset(),
        metavar="NAME,...",
        help="further names of this machine under which the API may be asked",
    )
    parser.add_argument(
        "--socket-mode",
        type=_mode,
        default=0o600,
        metavar="MODE",
        help="permissions of the unix socket, in octal (default: 0600)",
    )
    parser.add_argument("--socket-group", metavar="NAME", help="group of the unix socket")
    parser.add_argument(
        "--allow-users",
        type=_names,
        default=frozenset(),
        metavar="NAME,...",
        help="whom steps may run as if flowd is root; * for everybody",
    )
    parser.add_argument(
        "--log-reserve",
        type=_bytes,
        metavar="SIZE",
        help="what logs leave free of the disk (default: 2 %% of it, at most 512Mi); 0 is nothing",
    )
    parser.add_argument(
        "--audit-size",
        type=_bytes,
        default=10 * 2**20,
        metavar="SIZE",
        help="from which size on the audit log is continued in a new file (default: 10Mi)",
    )
    parser.add_argument(
        "--audit-files",
        type=_count,
        default=10,
        metavar="N",
        help="how many files of the audit log are kept (default: 10)",
    )
    parser.add_argument(
        "--cgroups",
        choices=("auto", "off"),
        default="auto",
        help="auto keeps each run in a cgroup of its own where this process may make one",
    )
    parser.add_argument("--version", action="version", version=f"flowd {__version__}")
    return parser


def _bytes(text: str) -> int:
    try:
        return Size.parse(text).bytes
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


def _mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise argparse.ArgumentTypeError(f"must be octal as 0660, not {text!r}")
    return int(text, 8)


def _hosts_given(text: str) -> frozenset[str]:
    return frozenset(name.lower().strip("[]").removesuffix(".") for name in _names(text))


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in text.split(","))))


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line, else the environment, else the defaults.

    Raises:
        SystemExit: with status 2 after a message, as argparse does.
    """
    parser = _parser()
    given: dict[str, Any] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other list of its options
        value = environment.get(f"FLOWD_{action.dest.upper()}")
        if not value:
            continue
        if action.dest == "insecure":
            given[action.dest] = value.lower() in ("1", "true", "yes")
        elif action.choices and value not in action.choices:
            parser.error(f"FLOWD_{action.dest.upper()} must be one of {', '.join(action.choices)}")
        else:
            try:
                given[action.dest] = action.type(value) if callable(action.type) else value
            except argparse.ArgumentTypeError as error:
                parser.error(f"FLOWD_{action.dest.upper()}: {error}")
    parser.set_defaults(**given)
    options = parser.parse_args(arguments)
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key belong together: give both")
    app_url = environment.get("app_url") or environment.get("APP_URL") or None
    try:
        address = Address.parse(options.listen, app_url, tls=bool(options.tls_cert))
    except ValueError as error:
        parser.error(str(error))
    if not address.loopback and not options.tokens and not options.insecure:
        parser.error(
            f"{address.url} can be reached from other machines, and whoever reaches it can run "
            "commands here: name who may with --tokens FILE, or listen on 127.0.0.1 or unix:PATH, "
            "or say --insecure"
        )
    if address.unix is None and (options.socket_group or options.socket_mode != 0o600):  # noqa: PLR2004
        parser.error("--socket-mode and --socket-group are for --listen unix:PATH")
    return Settings(
        layout=Layout(options.data.resolve()),
        address=address,
        manifests=options.manifests.absolute() if options.manifests else None,
        log_level=options.log_level,
        log_format=options.log_format,
        prune=options.prune,
        watch=options.watch,
        insecure=options.insecure,
        cgroups=options.cgroups,
        users=options.allow_users,
        log_reserve=options.log_reserve,
        audit_size=options.audit_size,
        audit_files=options.audit_files,
        tls=(options.tls_cert.absolute(), options.tls_key.absolute()) if address.tls else None,
        tokens=options.tokens.absolute() if options.tokens else None,
        allow_hosts=options.allow_hosts,
        socket_mode=options.socket_mode,
        socket_group=options.socket_group,
    )


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


def main() -> None:
    """Entry point of ``flowd``."""
    give_memory_back()
    share_the_interpreter()
    settings = read_settings(sys.argv[1:], os.environ)
    configure_logging(settings)
    signals = StopSignals()
    try:
        operator = Operator(settings)
        operator.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            sys.exit(f"flowd: {error}")
        sys.exit(
            f"flowd: {settings.address.url} is in use, perhaps by another flowd; "
            "choose another address with --listen"
        )
    except InvalidError as error:
        sys.exit("\n".join(f"flowd: {fault}" for fault in error.faults))
    except FlowError as error:
        sys.exit(f"flowd: {error}")
    operator.run_until(signals)
    operator.close()


if __name__ == "__main__":
    main()
