"""Reading requests: what waitress lets through and must not."""

from __future__ import annotations

import re
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

_MALFORMED = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")
"""RFC 9110, 5.5 and RFC 9112, 5.2: control characters and folded lines. Besides, waitress's own
pattern takes seconds to find one behind many blanks."""

_CODING = re.compile(rb"^transfer-encoding:[ \t]*(.*?)[ \t\r]*$", re.IGNORECASE | re.MULTILINE)

_LONGEST_LINE = 1024
_LONGEST_TRAILER = 8 * 1024
_FRAMING = 64 * 1024


class Chunks(ChunkedReceiver):
    """A chunked body whose framing is bounded: waitress takes time that grows with its square."""

    _received = 0

    def received(self, s: bytes) -> int:
        """Take bytes; returns how many of them belong to the body."""
        consumed: int = super().received(s)
        self._received += consumed
        if len(self.control_line) > _LONGEST_LINE or len(self.trailer) > _LONGEST_TRAILER:
            self.error = BadRequest("a chunk's size or the trailer is too long")
        elif self._received > _FRAMING + 2 * len(self):
            self.error = BadRequest("the chunks are too small; send larger ones")
        return consumed


class Parser(HTTPRequestParser):
    """One request as it comes in.

    Waitress tells the path of what it has refused, if its client has gone, although there is none.
    """

    path = ""
    body_rcv: Any = None

    def received(self, data: bytes) -> int:
        """Take bytes; returns how many of them belong to the request."""
        consumed: int = super().received(data)
        if self.completed:
            # Nothing more is wanted of a client that waits for leave to send its body. Waitress
            # would give it, and take the refused request for one that has just begun.
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the head of a request.

        Raises:
            ParsingError: it is none; answered with 400.
            TransferEncodingNotImplemented: its body is in another form; answered with 501.
        """
        if _MALFORMED.search(header_plus):
            raise ParsingError(
                "the head of the request must have no control characters, and no folded lines"
            )
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            # Some of int()'s and urlsplit()'s would end the connection without a word.
            raise ParsingError(f"the head of the request is malformed: {error}") from None
        codings = [coding.lower() for coding in _CODING.findall(header_plus)]
        if codings:
            self._check_chunked(codings)

    def _check_chunked(self, codings: list[bytes]) -> None:
        """Refuse bodies whose end others may see elsewhere (RFC 9112, 6.1)."""
        if codings != [b"chunked"] or self.version != "1.1" or "CONTENT_LENGTH" in self.headers:
            raise ParsingError(
                "Transfer-Encoding must be chunked, in HTTP/1.1 and without a Content-Length"
            )
        self.body_rcv = Chunks(self.body_rcv.getbuf())
