"""A program that writes to a store with several threads until the power is cut.

One fork for each line on its stdin: the directory, what to leave out, and the number that each
thread begins with. What a transaction writes follows from thread and number; each one that was
acknowledged is told on stdout with its version.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import traceback
from pathlib import Path

THREADS = 3
FLOWS = 4

Change = dict[str, str | None]


def change_of(thread: int, number: int) -> Change:
    """What a transaction does: flow id -> what its step runs, or None for a deleted flow."""
    flow_id = f"t{thread}-{number % FLOWS}"
    match number % 5:
        case 0 | 3:
            return {f"t{thread}-{n}": str(number) for n in range(FLOWS)}
        case 4:
            return {flow_id: None}
        case _:
            return {flow_id: str(number)}


def state_after(thread: int, number: int) -> Change:
    """What stands after a transaction; -1 is before the first."""
    state: Change = {}
    for done in range(max(0, number - 10), number + 1):
        state |= change_of(thread, done)
    return {flow_id: script for flow_id, script in state.items() if script is not None}


def leave_out(what: str) -> None:
    """Be a store that does not sync files, or names."""

    def without(sync):
        def synced(descriptor: int) -> None:
            directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if what != ("names" if directory else "files"):
                sync(descriptor)

        return synced

    os.fsync, os.fdatasync = without(os.fsync), without(os.fdatasync)


def write(store, thread: int, number: int) -> None:
    """Write until it is refused, or forever."""
    from flow_operator.errors import StorageError  # noqa: PLC0415 - importers want the model alone

    try:
        while True:
            version = _transact(store, change_of(thread, number))
            os.write(1, b"%d %d %d\n" % (thread, number, version))
            number += 1
    except StorageError:
        return  # The power is off.
    except BaseException:  # noqa: BLE001 - a mistake of ours; nobody may wait for us
        traceback.print_exc()
        os._exit(1)


def _transact(store, change: Change) -> int:
    """Returns the version that it was given; the store's may be one that was refused."""
    from unit.store_support import edits, put  # noqa: PLC0415

    [*flow_ids] = change
    script = change[flow_ids[0]]
    if script is not None:
        with store.transaction() as transaction:
            put(transaction, *flow_ids, script=script)
        return store.record(flow_ids[-1]).version
    edits(store).delete(flow_ids[0])
    tombstone = store.record(flow_ids[0])
    store.purge(tombstone)
    return tombstone.version


def play(root: Path, without: str, numbers: list[int]) -> None:
    """In the forked process."""
    from unit.store_support import opened  # noqa: PLC0415

    leave_out(without)
    store = opened(root)
    threads = [
        threading.Thread(target=write, args=(store, thread, number), daemon=True)
        for thread, number in enumerate(numbers)
    ]
    for thread in threads:
        thread.start()
    # Until we are killed, also once nothing can be written any more; or until nobody listens.
    while os.read(0, 1):
        pass


def main() -> None:
    """Serve until stdin ends."""
    import structlog  # noqa: PLC0415

    import unit.store_support  # noqa: F401, PLC0415 - once, and not in each fork

    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    for line in sys.stdin:
        root, without, numbers = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                play(Path(root), without, numbers)
            except BaseException:  # noqa: BLE001 - nothing of ours may go on in the child
                traceback.print_exc()
            os._exit(0)
        os.write(1, b"pid %d\n" % pid)
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
