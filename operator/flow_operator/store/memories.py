"""One file per flow for what must outlive the operator but not a reboot."""

from __future__ import annotations

import msgspec
import structlog

from flow_operator.errors import StorageError
from flow_operator.memory import FlowMemory, decode_memory, encode_memory
from flow_operator.settings import Layout
from flow_operator.store.files import (
    contents,
    remove_temporaries,
    storage_errors,
    write_quietly,
)

log = structlog.get_logger("memories")


class Memories:
    """What is remembered of each flow.

    A file is replaced by rename, without fsync: it is for the operator that comes after a killed
    one, on the same boot. After a power cut no process is left that it could speak of.
    """

    def __init__(self, layout: Layout) -> None:
        self._directory = layout.runs
        self._known: dict[str, FlowMemory] = {}
        self._unwritten: set[str] = set()

    def recover(self) -> None:
        """Read all files; one that cannot be read is set aside."""
        with storage_errors(f"cannot open {self._directory}"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_temporaries(self._directory)
            for flow_id, data in contents(self._directory, ".json"):
                try:
                    self._known[flow_id] = decode_memory(data)
                except msgspec.MsgspecError as error:
                    path = self._directory / f"{flow_id}.json"
                    path.rename(path.with_suffix(".corrupt"))
                    log.error("run record is unreadable", file=path.name, error=str(error))

    def flow_ids(self) -> frozenset[str]:
        """The flows of which something is remembered."""
        return frozenset(self._known)

    def get(self, flow_id: str) -> FlowMemory:
        """What is remembered of a flow; nothing yet is an empty memory."""
        return self._known.get(flow_id, _NOTHING)

    def put(self, flow_id: str, memory: FlowMemory) -> None:
        """Remember what must be in the file before anything else happens.

        Raises:
            StorageError: the earlier memory stands.
        """
        if self._known.get(flow_id) == memory and flow_id not in self._unwritten:
            return
        path, data = f"{self._directory}/{flow_id}.json", encode_memory(memory)
        try:
            write_quietly(path, data)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            with storage_errors(f"cannot make {self._directory}"):
                self._directory.mkdir(mode=0o700, exist_ok=True)
            write_quietly(path, data)
        self._known[flow_id] = memory
        self._unwritten.discard(flow_id)

    def keep(self, flow_id: str, memory: FlowMemory) -> bool:
        """Remember what has happened already; returns whether it is in the file.

        A full disk must not make us forget a backoff or a deadline: what could not be written
        holds all the same, and is written with the next change.
        """
        try:
            self.put(flow_id, memory)
        except StorageError as error:
            self._known[flow_id] = memory
            self._unwritten.add(flow_id)
            log.warning("run record is not written", flow_id=flow_id, error=str(error))
            return False
        return True

    def drop(self, flow_id: str) -> None:
        """Forget a flow."""
        self._unwritten.discard(flow_id)
        if self._known.pop(flow_id, None) is not None:
            with storage_errors(f"cannot remove the run record of {flow_id}"):
                (self._directory / f"{flow_id}.json").unlink(missing_ok=True)


_NOTHING = FlowMemory()
