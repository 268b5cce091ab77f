"""The operator: puts the parts together, starts them, and ends them in order."""

from __future__ import annotations

import flow_operator.lean  # noqa: F401 - before all others: they import structlog

# isort: split
import errno
import os
import queue
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterable
from functools import partial

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
from flow_operator.defaults import DEFAULT_URL
from flow_operator.errors import FlowError, InvalidError
from flow_operator.figures import Figures
from flow_operator.gauges import Gauges
from flow_operator.logs import Keeper, Limits
from flow_operator.metrics import Counted, Exposition, FlowCollector, Parts
from flow_operator.model.folder import no_folder
from flow_operator.options import read_settings
from flow_operator.prober import Prober
from flow_operator.process import (
    collect_seldom,
    collecting_nothing,
    configure_logging,
    give_memory_back,
    share_the_interpreter,
)
from flow_operator.reconciler import Reconciler, Shutdown
from flow_operator.runners.base import Capabilities, Runner
from flow_operator.runners.process import ProcessRunner
from flow_operator.settings import Address, Settings
from flow_operator.sources import FolderSource
from flow_operator.store import AuditLimits, DataLock, Desired, EventFile, Memories, Store
from flow_operator.systemd import ServiceManager
from flow_operator.workqueue import WorkQueue

log = structlog.get_logger("flowd")

_LOGS_PATIENCE = 5.0
"""Seconds at most for which logs of an earlier operator wait until all flows were looked at: to
search ten thousand takes 0.4 s, and looks beside it take twice as long as they would."""

_STAGES: tuple[tuple[float, Shutdown], ...] = ((0.7, "term"), (0.9, "hard"))
"""Shares of the grace after which what still runs is told to end, and killed. The rest is for what
must be written last."""

_LEAVE_WITHIN = 10.0
"""Seconds at most for an operator to end that leaves its flows."""


class Operator:
    """Everything of one operator; started once, stopped once.

    Args:
        settings: what it was told to do.
        manager: who has started it, told of its start and its end.

    Raises:
        InvalidError: the tokens or the data directory cannot be trusted.
        LockedError: another operator has the data directory.
        FlowError: the address cannot be used; the message says why.
        OSError: the address cannot be bound.
    """

    def __init__(self, settings: Settings, manager: ServiceManager) -> None:
        layout, clock = settings.layout, SystemClock()
        self._clock = clock
        self._manager = manager
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
        self._ready = False
        meter = Counted()
        self._store = Store(
            layout, clock, AuditLimits(settings.audit_size, settings.audit_files), meter=meter
        )
        self._memories = memories = Memories(layout)
        self._board = board = Board(clock, EventFile(layout.events, clock), meter)
        work = WorkQueue(clock, meter)
        self._logs = Keeper(
            layout, clock, _log_reserve(settings), partial(_tell_dropped_logs, board)
        )
        self._local = local = ProcessRunner(
            layout,
            self._logs,
            cgroups=settings.cgroups == "auto",
            users=settings.users,
            grace=settings.stop_grace,
        )
        self._runners: dict[str, Runner] = {"process": local}
        if settings.engine is not None:
            self._runners["container"] = _containers(settings, local, self._logs, clock)
        self._prober = Prober(clock, work.add, self._runners)
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
            taken_back=self._taken_back,
            caught_up=self._logs.search,
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
            ready=lambda: self._ready,
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
            ready=lambda: self._ready,
            folder=self._folder.describe if self._folder else no_folder,
            prune=self._folder.confirm_prune if self._folder else _prune_nothing,
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
        """Take back what runs, then serve and watch.

        Raises:
            FlowError: the data directory or the shim cannot be used; the message says why.
        """
        with collecting_nothing():
            self._take_back()
        if self._folder is not None:
            # Before anything is launched: it may have been edited or removed meanwhile.
            self._folder.start()
        for name, can in self._capabilities().items():
            log.info("runner", name=name, groups=can.groups, limits=list(can.limits))
        self._welcome()
        self._warn()
        self._gauges.start()
        self._controller.start()

    def _take_back(self) -> None:
        """Read what earlier operators have left, serve, and take back what they have started."""
        # It starts while we read; it has a processor of its own.
        self._local.prepare()
        try:
            self._recover()
        except FlowError:
            self._local.abandon()
            raise
        self._server.start()
        self._store.subscribe(self._limit_logs)
        self._limit_logs(record.flow_id for record in self._store.flows())
        self._logs.start(_LOGS_PATIENCE)
        self._controller.take_back()
        self._adopted = self._controller.adopted()

    def _taken_back(self) -> None:
        """All that runs was looked at: what we tell of it is what was observed."""
        self._ready = True
        self._manager.ready(f"serves {self.address.url}; {self._known()}")

    def _known(self) -> str:
        return f"{len(self._store.flows())} flows, {self._adopted} running instances taken back"

    def _recover(self) -> None:
        """Read what earlier operators have left."""
        self._store.recover()
        self._memories.recover()
        known = {*self._store.records(), *self._store.corrupt, *self._memories.flow_ids()}
        self._board.recover(known)

    def _capabilities(self) -> dict[str, Capabilities]:
        return {name: runner.capabilities for name, runner in self._runners.items()}

    def _limit_logs(self, flow_ids: Iterable[str]) -> None:
        for flow_id in flow_ids:
            record = self._store.get(flow_id)
            if record is not None:
                logs = record.flow.spec.logs
                self._logs.limit(flow_id, Limits(logs.max_size.bytes, logs.max_files))

    def _welcome(self) -> None:
        settings = self._settings
        lines = [
            f"flowd {__version__} serves {self.address.url}",
            f"  data       {settings.layout.root} ({self._known()})",
        ]
        if settings.manifests is not None:
            state = "watched" if settings.manifests.is_dir() else "missing; waiting for it"
            lines.append(f"  manifests  {settings.manifests} ({state})")
        if (tokens := self._services.tokens) is not None:
            lines.append(
                f"  tokens     {settings.tokens} ({tokens.count}); every request needs one"
            )
        lines.append(f"  cgroups    {_cgroups(settings, self._runners['process'].capabilities)}")
        if settings.engine is not None:
            limits = ", ".join(self._runners["container"].capabilities.limits) or "none; it is away"
            lines.append(f"  engine     {settings.engine} (limits: {limits})")
        url = "" if self.address.url == DEFAULT_URL else f"--url {self.address.url} "
        token = "--token-file FILE " if tokens is not None else ""
        if self.address.unix is None:
            lines.append(f"  dashboard  {self.address.url}/ui/")
        lines.append(f"  try        flowctl {url}{token}status -w")
        if self.address.unix is None and not token:
            lines.append(f"             curl {self.address.url}/flows/status")
        lines.append(
            "  stop       Ctrl-C drains all flows (twice: at once); Ctrl-\\ leaves them running"
        )
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
        """Serve until a signal, then drain every flow; a second signal stops at once.

        :data:`LEAVE` does neither: what runs goes on, and the next operator finishes what was
        begun.
        """
        if signals.wait() == LEAVE:
            self._leave()
            return
        grace = self._settings.stop_grace
        log.info("draining every flow", hint="once more stops at once", grace=grace)
        begun = self._clock.monotonic()
        due = [] if grace is None else [(begun + grace * share, how) for share, how in _STAGES]
        self._manager.stopping("draining every flow")
        if grace is not None:
            _end_within(grace)
        self._controller.shut_down("soft")
        while left := self._controller.left():
            came = signals.wait(0.05)
            if came == LEAVE:
                self._leave()
                return
            if came is not None:
                log.warning("stopping at once", flows=len(left))
                due.clear()
                self._controller.shut_down("hard")
            elif due and due[0][0] <= self._clock.monotonic():
                how = due.pop(0)[1]
                log.warning("the time to stop in runs out", flows=len(left), now=how)
                self._controller.shut_down(how)

    def _leave(self) -> None:
        log.info("ending; flows go on, and the next operator takes them back")
        self._manager.stopping("flows go on")
        _end_within(_LEAVE_WITHIN)

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


def _end_within(seconds: float) -> None:
    """Whatever we wait for: an engine that hangs may hold up whoever asks it for a minute.

    What is not closed by then is as if we were killed, which may happen at any moment anyway.
    """
    guard = threading.Timer(seconds, _end_at_once)
    guard.daemon = True
    guard.start()


def _end_at_once() -> None:
    waiting = [thread.name for thread in threading.enumerate()]
    log.warning("ending without those who still wait for something", threads=waiting)
    sys.stderr.flush()
    os._exit(0)


def _prune_nothing(_meant: frozenset[str] | None) -> list[str]:
    """Where no folder is watched."""
    return []


def _containers(
    settings: Settings, local: ProcessRunner, logs: Keeper, clock: SystemClock
) -> Runner:
    """The runner of containers.

    Raises:
        InvalidError: what it needs is not installed.
    """
    from flow_operator.runners.container import ContainerRunner  # noqa: PLC0415 - few have an engine
    from flow_operator.runners.engine import Engine  # noqa: PLC0415

    engine = Engine(str(settings.engine))
    allowed = settings.engine_allow
    return ContainerRunner(engine, settings.layout, logs, local.held, clock, allowed)


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
        return Hosts(LOOPBACK | named | {address.host or "localhost"})
    if settings.tokens is not None and not named:
        return Hosts(every=True)
    return Hosts(LOOPBACK | named | {socket.gethostname().lower()}, plain=True)


LEAVE = signal.SIGQUIT
"""Ends the operator and leaves its flows alone, as for an upgrade."""


class StopSignals:
    """SIGINT, SIGTERM and :data:`LEAVE`, one by one, for the main thread.

    A handler may run between any two byte codes of the main thread, so it does the one thing that
    is safe there: SimpleQueue.put is reentrant (as its documentation says), an Event is not.
    """

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM, LEAVE):
            signal.signal(number, lambda caught, _frame: self._came.put(caught))
        # PID 1 starts us with both blocked, so that none comes before it can be handled.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the next one; None if ``timeout`` seconds pass first."""
        try:
            return self._came.get(timeout=timeout)
        except queue.Empty:
            return None


def main() -> None:
    """Entry point of ``flowd``."""
    signals = StopSignals()
    give_memory_back()
    collect_seldom()
    share_the_interpreter()
    settings = read_settings(sys.argv[1:], os.environ)
    configure_logging(settings)
    try:
        operator = Operator(settings, ServiceManager(os.environ))
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
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written and closed. To take the interpreter down, too, takes longer than all of that
    # (0.5 s on a busy machine), and there may be no such time left.
    os._exit(0)


if __name__ == "__main__":
    main()
