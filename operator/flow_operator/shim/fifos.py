"""Named pipes for steps that somebody else starts: a container engine.

They stand in ``DATA/pipes/RUN/INDEX.fifo``, INDEX being the step before the pipe. Both ends are
held here, as those of our own steps' pipes are, so that neither neighbour's death breaks one. Who
comes after a shim that was killed opens them by their names.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Iterable

from flow_operator.shim.connections import Client, UnknownRunError
from flow_operator.shim.pipes import Pipe, Piped
from flow_operator.shim.spawn import ROOM, require_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = "pipes"


class Fifos(Piped):
    """The named pipes of one run; closed, they keep their names.

    Attributes:
        cut: the steps that have seen an end of their input that was none: nobody held the pipe,
            and the step before them had no process.
    """

    def __init__(self, pipes: Iterable[Pipe] = (), cut: Iterable[int] = ()) -> None:
        super().__init__(pipes)
        self.cut = set(cut)

    @classmethod
    def opened(cls, directory: str, count: int) -> Fifos:
        """The pipes between so many steps, made where they are not there yet.

        Raises:
            OSError: they cannot be made or opened; none is held.
        """
        _make_directory(directory)
        fifos = cls()
        try:
            for index in range(count - 1):
                path = os.path.join(directory, f"{index}.fifo")
                new = _make(path)
                fifos.pipes.append(_opened(path))
                if not (new or _written(fifos.pipes[index], path)):
                    fifos.cut.add(index + 1)
        except OSError:
            fifos.close()
            raise
        return fifos

    def end(self, index: int) -> None:
        """A step has ended for good: its reader will see end of file, its writer a broken pipe."""
        self.cut -= {index, index + 1}
        super().end(index)


class Held:
    """The named pipes of all runs.

    Args:
        data: the data directory.
    """

    def __init__(self, data: str) -> None:
        self._root = os.path.join(data, _DIRECTORY)
        self._runs: dict[str, Fifos] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run: str) -> Fifos | None:
        """The pipes of a run, if they are held."""
        return self._runs.get(run)

    def hold(self, message: dict[str, Any], _: Client) -> dict[str, Any]:
        """Hold the pipes between ``count`` steps; where they are held already, they stay.

        ``ended`` are the steps that have ended for good; ``starting`` those that are about to be
        started, to whom nothing has happened yet.
        """
        name, count = message["run"], message["count"]
        held = self._runs.get(name)
        if held is None:
            require_room(ROOM + 2 * count)
            held = self._runs[name] = Fifos.opened(os.path.join(self._root, name), count)
        for index in message["ended"]:
            held.end(index)
        held.cut -= set(message["starting"])
        return {"cut": sorted(held.cut)}

    def end(self, message: dict[str, Any], _: Client) -> bool:
        """Let go of the pipes of a step."""
        held = self._runs.get(message["run"])
        if held is None:
            raise UnknownRunError(message["run"])
        held.end(message["step"])
        return True

    def release(self, message: dict[str, Any], _: Client) -> bool:
        """Let go of a run's pipes, and take their names away."""
        name = message["run"]
        held = self._runs.pop(name, None)
        if held is not None:
            held.close()
        self._remove(name)
        return True

    def close(self) -> None:
        """Release all; what others may still use keeps its name."""
        for name, held in self._runs.items():
            held.close()
            self._remove(name)

    def _remove(self, run: str) -> None:
        import shutil  # noqa: PLC0415 - 0.4 MB that shims without containers never need

        shutil.rmtree(os.path.join(self._root, run), ignore_errors=True)

    def pack(self) -> dict[str, Any]:
        """All of it as plain data; descriptors by their numbers."""
        return {
            name: {"pipes": [[pipe.read, pipe.write] for pipe in held.pipes], "cut": list(held.cut)}
            for name, held in self._runs.items()
        }

    def unpack(self, packed: dict[str, Any]) -> None:
        """Hold what :meth:`pack` was given, in the process that has inherited it."""
        for name, held in packed.items():
            self._runs[name] = Fifos((Pipe(*ends) for ends in held["pipes"]), held["cut"])


def _make_directory(directory: str) -> None:
    """A directory whose pipes a container's user can open, and nobody else on this machine.

    A container sees it alone, mounted. On the machine the way to it leads through its parent.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(directory), 0o700)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory)
    os.chmod(directory, 0o711)  # noqa: S103 - see above


def _make(path: str) -> bool:
    """Make a named pipe, unless it is there; returns whether it is new."""
    try:
        os.mkfifo(path)
    except FileExistsError:
        return False
    os.chmod(path, 0o666)  # noqa: S103 - by whatever user a container runs as
    return True


def _opened(path: str) -> Pipe:
    # The reading end first: opening the other one asks for a reader.
    read = _open(path, os.O_RDONLY)
    try:
        return Pipe(read, _open(path, os.O_WRONLY))
    except OSError:
        os.close(read)
        raise


def _open(path: str, mode: int) -> int:
    descriptor = os.open(path, mode | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no pipe: somebody has replaced it; remove it")
    return descriptor


def _written(pipe: Pipe, path: str) -> bool:
    """Whether somebody else has a pipe open for writing.

    When the last writer lets go, its reading end hangs up (fifo(7), poll(2)); so ours does, for a
    moment. Where there is another writer, nobody notices; where there is none, all readers have
    seen the end before.
    """
    pipe.close_write()
    poll = select.poll()
    poll.register(pipe.read, 0)
    hung_up = bool(poll.poll(0))
    pipe.write = _open(path, os.O_WRONLY)
    return not hung_up
