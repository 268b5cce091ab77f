"""The watched folder: an event is only a hint; what counts is the next look.

Every hint leads to a look at the whole folder, and so does the passing of time. A look is worked
out without the store's lock and becomes one transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from flow_operator.board import Board
from flow_operator.clock import Clock, rfc3339
from flow_operator.errors import ConflictError, InvalidError, StorageError
from flow_operator.manifest import Manifest
from flow_operator.model.folder import FileView, FolderView
from flow_operator.sources.apply import (
    Applied,
    Apply,
    Context,
    FileRecord,
    recalled,
)
from flow_operator.sources.draft import Draft, MovedError
from flow_operator.sources.prune import QUIET, Prune, Vanishing, all_held
from flow_operator.sources.scan import PATIENCE, SETTLE, Look, ManifestFile, Scanner, Stamp
from flow_operator.sources.summary import Summary
from flow_operator.sources.watch import Watcher, WatchMode
from flow_operator.store import Foresee, Store, write_durably
from flow_operator.structs import prepared

DEBOUNCE = 0.05
"""Seconds between a hint and the look, so that a burst of hints costs one look."""

DOUBT = 1.0
"""Seconds in which the hint of a change must come that a look has found by itself."""

BUSY = 1.0
"""Seconds between looks while somebody writes a file all the time."""

_REST_HEARD, _REST_HEARD_MOST = 4, 0.5
_REST, _REST_MOST = 20, 15.0
"""A look is followed by a pause of so many times what it took, up to so many seconds: as hints
come, and without any. A large folder must not keep a processor busy."""

_ATTEMPTS = 5

log = structlog.get_logger("folder")


@prepared
class FolderState(Struct, frozen=True, omit_defaults=True):
    """What is kept over restarts.

    Attributes:
        files: by name.
        held: flows that are kept though their file has gone.
        why: what has happened to them.
    """

    files: dict[str, FileRecord] = {}
    held: tuple[str, ...] = ()
    why: str = ""


class FolderSource:
    """Keeps the store like the folder.

    Args:
        folder: what to watch; it may come and go.
        store: what to change.
        board: where flows are told that their file is wrong.
        state: the file that keeps what was last applied.
        prune: what becomes of flows whose file has gone.
        foresee: tells what a change does to processes.
        watch: whether the kernel is asked for hints.
        clock: for settling.
    """

    def __init__(  # noqa: PLR0913 - all that a look needs, given once
        self,
        *,
        folder: Path,
        store: Store,
        board: Board,
        state: Path,
        prune: Prune,
        foresee: Foresee,
        clock: Clock,
        watch: WatchMode = "auto",
    ) -> None:
        self._folder = folder
        self._store = store
        self._board = board
        self._path = state
        self._prune = prune
        self._foresee = foresee
        self._clock = clock
        self._scanner = Scanner(folder, clock, self._recall, self._unchanged)
        self._state = _load(state)
        self._vanishing = Vanishing(frozenset(self._state.held), self._state.why)
        self._look = Look({})
        self._applied = Applied(vanishing=self._vanishing)
        self._applied_look: Look | None = None
        self._device = 0
        self._told: dict[str, str] = {}
        self._told_held: str | None = None
        self._trouble_since: float | None = None
        self._waiting_since: float | None = None
        self._took = 0.0
        self._looked_at = 0.0
        self._changes = 0
        self._doubt_since: float | None = None
        self._disturbed = True
        self._flows = _flows_of(self._state)
        self._scanner_thread = 0
        self._scanning = threading.Lock()
        self._hint = threading.Event()
        self._closed = threading.Event()
        self._watcher = Watcher(folder, self._hint, watch, clock)
        self._thread = threading.Thread(target=self._work, name="folder", daemon=True)

    def start(self) -> None:
        """Apply the folder as it is, then watch it.

        What is being written or has just vanished is waited for, some seconds at most.
        """
        self._watcher.ensure()
        self._store.subscribe(self._changed)
        end = self._clock.monotonic() + PATIENCE + QUIET + SETTLE
        self.scan()
        while self._pending and self._clock.monotonic() < end:
            if self._closed.wait(SETTLE):
                break
            self.scan()
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._hint.set()
        self._thread.join()
        self._watcher.close()

    # --- when to look --------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed.is_set():
            heard = self._hint.wait(self._pause())
            if heard and self._closed.wait(self._debounce()):
                return
            self._hint.clear()
            try:
                self._round(heard=heard)
            except Exception:
                # A mistake of ours must not end the watching.
                log.exception("cannot look at the folder; will try again")

    @property
    def _pending(self) -> bool:
        """Whether there is something to look at again soon."""
        return self._waiting_since is not None or bool(self._vanishing.fresh)

    def _debounce(self) -> float:
        """Seconds between a hint and the look."""
        return max(DEBOUNCE, min(_REST_HEARD * self._took, _REST_HEARD_MOST))

    def _pause(self) -> float:
        """Seconds until the next look if there is no hint."""
        if self._pending:
            return SETTLE
        if self._doubt_since is not None:
            return DOUBT
        usual = min(self._watcher.pause, BUSY) if self._look.busy else self._watcher.pause
        return max(usual, min(_REST * self._took, _REST_MOST))

    def _round(self, *, heard: bool) -> None:
        """Look, and find out whether the watcher is deaf."""
        before, pending = self._look, self._pending
        watched = self._watcher.ensure()
        self.scan()
        found = self._look is not before or self._pending
        now = self._clock.monotonic()
        if heard or not watched:
            self._doubt_since = None
        elif self._doubt_since is None:
            self._doubt_since = now if found and not pending else None
        elif now - self._doubt_since >= DOUBT:
            self._doubt_since = None
            self._watcher.missed()

    def _changed(self, flow_ids: Iterable[str]) -> None:
        """Look again when somebody else has changed a flow that a file holds."""
        ours = threading.get_ident() == self._scanner_thread
        if not ours and not self._flows.isdisjoint(flow_ids):
            self._disturbed = True
            self._hint.set()

    # --- looking -------------------------------------------------------------------------

    def scan(self, confirmed: frozenset[str] = frozenset()) -> Applied:
        """Look at the folder and apply it as one transaction.

        Args:
            confirmed: flows that are held and may go.

        Raises:
            ConflictError: it is confirmed that what has gone may go, but nobody can see what has.
        """
        with self._scanning:
            begun = self._clock.monotonic()
            self._scanner_thread = threading.get_ident()
            try:
                look = self._scanner.look()
                self._scan(look, confirmed)
                if look.trouble is None:
                    self._looked_at = self._clock.wall()
            except StorageError as error:
                self._disturbed = True
                if confirmed:
                    raise
                log.warning("cannot apply the folder; will try again", error=str(error))
            finally:
                self._scanner_thread = 0
            self._took = self._clock.monotonic() - begun
            return self._applied

    def _scan(self, look: Look, confirmed: frozenset[str]) -> None:
        if look.trouble is not None:
            self._in_trouble(look)
            if not confirmed:
                return
            if not look.missing:
                raise ConflictError(
                    f"nobody can tell what has gone: {look.trouble}; put that right first"
                )
            look = Look({})
        elif self._trouble_since is not None:
            self._trouble_since = None
            self._disturbed = True
        if not confirmed and self._must_wait(look):
            return
        if confirmed or self._disturbed or self._vanishing.fresh or look is not self._applied_look:
            self._apply(look, confirmed)
        self._look = look

    def _must_wait(self, look: Look) -> bool:
        """Whether to wait for what is being written, so that a checkout is one transaction."""
        now = self._clock.monotonic()
        if not look.unsettled:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < PATIENCE:
            return True
        self._waiting_since = now
        return False

    def _in_trouble(self, look: Look) -> None:
        """The folder as a whole cannot be read: its flows go on as they are."""
        now = self._clock.monotonic()
        if look.trouble != self._look.trouble:
            log.error("manifest folder unusable; its flows go on", error=look.trouble)
        self._look, self._applied_look, self._waiting_since = look, None, None
        self._vanishing = replace(self._vanishing, fresh=frozenset())
        if self._trouble_since is None:
            self._trouble_since = now
        if now - self._trouble_since >= QUIET and self._prune != "always":
            self._hold_all(str(look.trouble))

    def _hold_all(self, why: str) -> None:
        """What is not there when the folder comes back has not been removed by anybody's wish."""
        owned = frozenset(f.flow_id for f in self._store.flows() if f.origin.file is not None)
        if owned != self._vanishing.held:
            vanishing = all_held(owned, why)
            self._keep(self._state.files, vanishing)
            self._vanishing = vanishing

    def _apply(self, look: Look, confirmed: frozenset[str]) -> None:
        self._disturbed = False
        context = Context(
            known=self._state.files,
            vanishing=self._vanishing,
            prune=self._prune,
            confirmed=confirmed,
            device=self._device,
            monotonic=self._clock.monotonic(),
            wall=self._clock.wall(),
        )
        applied = self._committed(look, context)
        self._keep(dict(applied.records), applied.vanishing)
        self._vanishing, self._applied, self._applied_look = applied.vanishing, applied, look
        self._device = look.device or self._device
        self._tell(applied)

    def _committed(self, look: Look, context: Context) -> Applied:
        """Apply a look to a draft, and make that durable unless somebody was faster."""
        for _ in range(_ATTEMPTS):
            draft = Draft(self._store)
            applied = Apply(draft, look, context).run()
            if not draft.changes:
                return applied
            try:
                with self._store.transaction() as transaction:
                    draft.put_into(transaction, self._foresee)
            except MovedError:
                continue
            self._changes += 1
            return applied
        raise StorageError("flows change faster than the folder can be applied; it is tried again")

    def _keep(self, files: dict[str, FileRecord], vanishing: Vanishing) -> None:
        """Durably: a flow that the API has deleted is told by this from one that is new."""
        state = FolderState(files, tuple(sorted(vanishing.held)), vanishing.why)
        if state != self._state:
            write_durably(self._path, msgspec.json.encode(state))
            self._state = state
            self._flows = _flows_of(state)

    def _unchanged(self, name: str, stamp: Stamp) -> str:
        """The SHA-256 of a file's content that was applied, if the file is as it was then."""
        record = self._state.files.get(name)
        return record.sha256 if record is not None and record.stamp == stamp else ""

    def _recall(self, name: str, sha256: str) -> tuple[Manifest, ...] | None:
        """What a file holds whose content was applied before."""
        record = self._state.files.get(name)
        if record is None or record.sha256 != sha256:
            return None
        flows = [self._store.get(flow_id) for flow_id in record.flows]
        owned = [flow for flow in flows if flow is not None and flow.origin.file == name]
        try:
            return recalled(record, owned)
        except InvalidError:
            return None  # It is told with its place, which only the text has.

    # --- telling -------------------------------------------------------------------------

    def _tell(self, applied: Applied) -> None:
        """Tell what is new in the log, and what is wrong in the status of the flows it is about."""
        self._log(applied)
        for flow in self._store.flows():
            if flow.origin.file is not None:
                error = applied.flow_error(flow.flow_id, flow.origin.file)
                self._board.set_source_error(flow.flow_id, error)

    def _log(self, applied: Applied) -> None:
        errors = {file: applied.error(file) or "" for file in applied.troubles}
        for file, error in errors.items():
            if self._told.get(file) != error:
                log.error("manifest not applied", file=file, error=error)
        for file in self._told.keys() - errors.keys():
            log.info("manifest is right again", file=file)
        self._told = errors
        held = applied.vanishing.message
        if held is not None and held != self._told_held:
            log.warning("pruning is held", why=held, flows=sorted(applied.vanishing.held))
        self._told_held = held
        if applied.pruned:
            log.info("pruned", flows=list(applied.pruned))

    # --- for the API ---------------------------------------------------------------------

    def summary(self) -> Summary:
        """The folder in figures."""
        look = self._look
        return Summary(
            files=len(look.files),
            faulty=len(self._applied.troubles),
            flows=len(self._flows),
            held=len(self._vanishing.held),
            trouble=look.trouble is not None,
            applied=self._changes,
            looked_at=self._looked_at,
        )

    def describe(self) -> FolderView:
        """The folder, file by file."""
        look, applied, records = self._look, self._applied, self._state.files
        trouble = look.trouble and f"{look.trouble}; its flows go on as they are"
        return {
            "folder": str(self._folder),
            "watch": self._watcher.describe(),
            "held": trouble or self._vanishing.message,
            "vanished": sorted(self._vanishing.held),
            "files": [
                _described(look.files[name], records.get(name, FileRecord()), applied)
                for name in sorted(look.files)
            ],
        }

    def confirm_prune(self, meant: frozenset[str] | None = None) -> list[str]:
        """Remove what is held back; returns the ids of the flows that go.

        What has vanished meanwhile, and nobody was told of, is not meant.

        Args:
            meant: the flows that somebody was told of; None means those that are held now.

        Raises:
            ConflictError: the folder is there, but cannot be read; or others are held by now.
            StorageError: nothing was removed.
        """
        held = self._vanishing.held
        if meant is not None and meant != held:
            raise ConflictError(
                f"not these {len(meant)} flows are held but {len(held)} others or more; read "
                "/manifests again, and confirm what it tells"
            )
        for _ in range(int(PATIENCE / SETTLE)):  # What is being written may be a file's return.
            self.scan()
            if self._waiting_since is None or self._closed.wait(SETTLE):
                break
        return list(self.scan(held).pruned) if held else []


def _flows_of(state: FolderState) -> frozenset[str]:
    return frozenset(flow for record in state.files.values() for flow in record.flows)


def _described(file: ManifestFile, record: FileRecord, applied: Applied) -> FileView:
    held = [manifest.flow.flow_id for manifest in file.manifests] or list(record.flows)
    troubles = applied.troubles.get(file.name, ())
    return {
        "file": file.name,
        "sha256": file.sha256,
        "flows": held,
        "error": applied.error(file.name),
        "errors": [trouble.fault.told() for trouble in troubles],
        "since": rfc3339(record.since) if record.since else None,
    }


def _load(state: Path) -> FolderState:
    try:
        return msgspec.json.decode(state.read_bytes(), type=FolderState)
    except FileNotFoundError:
        return FolderState()
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        log.warning("cannot read what was last applied; applying anew", error=str(error))
        return FolderState()
