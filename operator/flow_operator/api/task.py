"""Answering requests: waitress's tasks, with streams and with errors that are told as problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from waitress.task import ErrorTask, WSGITask

from flow_operator.api.errors import PROBLEM, problem_body
from flow_operator.api.stream import SERVE, Source


class ProblemTask(ErrorTask):
    """What the server itself refuses (bad syntax, too large), told like everything else."""

    def service(self) -> None:
        """Answer, hang up, and wait for the client to read it."""
        self.channel.lingers = True
        try:
            super().service()
        finally:
            self.channel.wait_for_client()

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        status = HTTPStatus(error.code)
        body = problem_body(status, error.body)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers.append(("Content-Type", PROBLEM))
        self.response_headers.append(("Connection", "close"))
        self.close_on_finish = True
        self.content_length = len(body)
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)


class Task(WSGITask):
    """A request, which may be answered by a stream."""

    _source: Source | None = None

    def get_environment(self) -> dict[str, Any]:
        """The WSGI environment, with what takes a stream over."""
        environ: dict[str, Any] = super().get_environment()
        environ[SERVE] = self._accept
        return environ

    def _accept(self, source: Source) -> bool:
        if not self.channel.hub.admit():
            return False
        self._source = source
        return True

    def service(self) -> None:
        """Answer the request."""
        try:
            super().service()
        finally:
            # It holds us by our method: the body that was sent would stay until Python looks for
            # garbage in cycles, and so would a thousand others.
            self.environ = None
            self.channel.wait_for_client()
            if self._source is not None:  # The client went before its stream began.
                self.channel.hub.abandon(self._source)

    def finish(self) -> None:
        """Send what is left to send; of a stream, that is the head."""
        if self._source is None:
            super().finish()
            return
        self.write(b"")
        source, self._source = self._source, None
        self.channel.begin(source, chunked=self.chunked_response)
        # The head has said that the connection ends with the body. That is not now.
        self.close_on_finish = False
