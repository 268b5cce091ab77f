# Generated from aio/parts.py by `make client`: edit that one.
"""Lists that are asked for in parts."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from flow_operator.client.sync.connection import Connection
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import Seen, decoded, given, known_as, next_part, see
from flow_operator.errors import InvalidError


class Parts(Connection):
    """Reads whole lists."""

    def _parts(
        self, path: str, params: Mapping[str, str], limit: int | None, seen: Seen | None
    ) -> Generator[Any]:
        """Each part of a list; ``seen`` is that of the first one.

        Raises:
            InvalidError: ``seen`` has an ETag, but parts have none in common.
        """
        headers = known_as(seen)
        if limit is not None and headers:
            raise InvalidError("what was seen whole cannot be compared with parts: leave limit out")
        asked = {**params, **given(limit=limit)}
        while True:
            response = self._send(
                "GET", path, repeat=Repeat.ALWAYS, params=asked, headers=headers
            )
            if "continue" not in asked:
                see(seen, response)
            yield decoded(response)
            after = next_part(response)
            if after is None:
                break
            asked["continue"] = after
        if limit is not None and seen is not None:
            seen.etag = ""
