"""What a connection is yet to send, without a copy."""

from __future__ import annotations

from waitress.buffers import ReadOnlyFileBasedBuffer


class Piece(ReadOnlyFileBasedBuffer):
    """Bytes that go out as they are.

    Waitress copies what it sends into buffers that grow, and from 1 MB on into temporary files. A
    piece only points: many connections can send the same bytes, and it is gone when it is sent.
    """

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self.remain = len(data)

    def get(self, numbytes: int = -1, skip: bool = False) -> memoryview:  # noqa: FBT001, FBT002
        """The next bytes, at most ``numbytes``."""
        begin = len(self._view) - self.remain
        end = len(self._view) if numbytes < 0 else begin + numbytes
        found = self._view[begin:end]
        if skip:
            self.remain -= len(found)
        return found

    def skip(self, numbytes: int, allow_prune: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Count bytes as sent."""
        self.remain -= numbytes

    def close(self) -> None:
        """Let go of the bytes."""
        self._view = memoryview(b"")
        self.remain = 0
